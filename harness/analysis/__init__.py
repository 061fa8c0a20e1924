"""Records compared, taken apart and drawn."""
