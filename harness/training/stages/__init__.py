"""The kinds of training stages, one module each."""
