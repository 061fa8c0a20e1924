"""The one training loop, and what any task of it needs: state, precision, seeds, tokens, processes."""
