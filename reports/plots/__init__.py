"""Plots of records and of training, in one style."""
