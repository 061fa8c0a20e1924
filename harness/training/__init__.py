"""Recipes become checkpoints, stage by stage, and what came of them."""
