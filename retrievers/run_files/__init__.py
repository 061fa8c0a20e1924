"""Runs from and to files and other libraries, and fused."""
