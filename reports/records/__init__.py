"""The records of runs: read, written, and where they came from."""
