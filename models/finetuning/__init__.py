"""Queries and passages as a bi-encoder: examples, and a step of fine-tuning."""
