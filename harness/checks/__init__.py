"""Stored scores against measured ones: baselines, and what changed."""
