"""Benchmarks: ours and its peer in one process, in turn, so that the ratio survives a machine whose speed drifts."""
