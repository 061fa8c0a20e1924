"""Retrievers for tests, registered for a while."""

from contextlib import contextmanager

from harness.retrievers import registry
from harness.retrievers.registry import Identity, Options, Retriever
from harness.retrievers.types import Run


@contextmanager
def registered(**entries):
    """Register retrievers for a while; whatever else is registered meanwhile goes as well."""
    registry.available()  # ours register themselves when they are first imported, once in a process
    before = dict(registry._registered)
    registry._registered.update(entries)
    try:
        yield
    finally:
        registry._registered.clear()
        registry._registered.update(before)


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
