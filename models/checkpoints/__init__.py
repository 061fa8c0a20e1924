"""Checkpoints on disk: found, read in every layout that is known, and written."""
