"""Retrievers for tests, and the registry put aside."""

from contextlib import contextmanager

from harness.retrievers.registry import Identity, Options, Retriever
from harness.retrievers.types import Run


@contextmanager
def replaced(registry: dict, **entries):
    """Put entries into a registry for a while."""
    before = dict(registry)
    registry.update(entries)
    try:
        yield
    finally:
        registry.clear()
        registry.update(before)


class Fixed(Retriever):
    """Gives what the class says, whatever is asked."""

    results: dict[str, dict[str, float]]
    searches = 0
    Options = Options

    def identity(self):
        return Identity(system="fixed")

    def search(self, corpus, queries, top_k, job):
        type(self).searches += 1
        type(self).asked = top_k
        return Run.of({q.query_id: self.results.get(q.query_id, {}) for q in queries})
