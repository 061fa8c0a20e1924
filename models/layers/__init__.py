"""Layers: the encoder's two halves, the enhanced decoder, attention, and what goes through a vocabulary."""
