"""Exact top-k over hybrid vectors."""
