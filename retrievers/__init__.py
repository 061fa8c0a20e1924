"""Text in, Run out: the retrievers, their registry, and the types they share with the harness."""
