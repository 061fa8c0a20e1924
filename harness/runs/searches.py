"""The searches of one command: by this process alone, or shared with others that rank 0 asks for their part."""

import contextlib
import os
from collections.abc import Sequence
from importlib.metadata import version
from itertools import chain
from platform import node
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock

from harness.datasets.dataset import Dataset
from harness.reports.records import records
from harness.retrievers.errors import InputError
from harness.retrievers.registry import Retriever
from harness.retrievers.types import Run
from harness.runs.config import RetrieverSpec, RunConfig
from harness.runtime.job import HarnessJob


class Search(NamedTuple):
    """One retriever on one collection."""

    spec: RetrieverSpec
    retriever: Retriever
    dataset: Dataset


class Searches:
    """The searches that one command may need, in the same order in every process."""

    def __init__(self, config: RunConfig, plan: Sequence[Search], job: HarnessJob) -> None:
        self.config, self.plan, self.job = config, list(plan), job

    def key(self, search: Search) -> dict[str, Any]:
        """Whatever decides the run's bytes; metrics and the number of processes do not."""
        spec, retriever, dataset = search
        called = {} if spec.own_name is None else {"called": spec.own_name}
        return called | {
            "schema": records.SCHEMA_VERSION,
            "retriever": spec.name,
            "options": retriever.options.model_dump(mode="json"),
            "fingerprint": retriever.fingerprint(),
            "packages": {name: version(name) for name in retriever.packages},
            "hashes": [dataset.content_hash, dataset.queries_hash, dataset.qrels_hash],
            "rules": dataset.rules.key,
            "top_k": self.config.top_k,
        }

    def run(self, search: Search) -> Run:
        """Search at rank 0; the others join where the retriever is `distributed`.

        Raises InputError for a result that no retriever may return.
        """
        _, retriever, dataset = search
        drop, wanted = dataset.rules.drop_self, min(self.config.top_k, dataset.count)
        if wanted < self.config.top_k:
            self.job.warn(f"{dataset.name}: top_k {self.config.top_k:,} is more than its {wanted:,} documents; clipped")
        if retriever.distributed:
            self.job.team.agreed((self.plan.index(search), self.key(search)))
        result = self._retrieve(search)
        _check_contract(retriever, result, dataset, wanted + drop)
        result = result.without_self(wanted) if drop else result
        if result.silent:
            self.job.warn(f"{dataset.name}: {result.silent:,} queries have no results; each scores 0")
        return result

    def help(self) -> None:
        """Do this process's share of the searches that rank 0 asks for, until it says that they are over.

        Raises InputError where this machine has another checkpoint, collection or package than rank 0's.
        """
        while (asked := self.job.team.agreed(None)) is not None:
            number, key = asked
            search = self.plan[number]
            self.job.restart()
            # one process of a machine fetches and surveys, the rest find it; where nothing can be written, all is there
            writable = os.access(self.job.cache, os.W_OK)
            with FileLock(self.job.cache / ".open") if writable else contextlib.nullcontext():
                search.dataset.open(self.job)
            own = self.key(search)
            if other := [name for name in key if own[name] != key[name]]:
                raise InputError(
                    f"process {self.job.team.rank} ({node()}) and process 0 differ in {', '.join(other)} of "
                    f"{search.spec.name} on {search.dataset.name}. Give every machine the same checkpoint, collection "
                    "(`hashes`), packages and kind of device."
                )
            self._retrieve(search)

    def over(self) -> None:
        """Tell the others that no search will follow."""
        self.job.team.agreed(None)

    def _retrieve(self, search: Search) -> Run:
        _, retriever, dataset = search
        asked = min(self.config.top_k, dataset.count) + dataset.rules.drop_self
        with self.job.lent(retriever.distributed):
            result = retriever.search(dataset, dataset.queries, min(asked, dataset.count), self.job)
        if retriever.distributed:
            for message in chain(*(self.job.team.gather(self.job.warnings) or ())):
                self.job.warn(message)
        return result


def _check_contract(retriever: Retriever, result: object, dataset: Dataset, most: int) -> None:
    """Refuse what no retriever may return; a plug-in's author is told, and nothing is written."""
    name = f"{type(retriever).__module__}.{type(retriever).__qualname__}.search"
    if not isinstance(result, Run):
        raise InputError(f"{name} returned a {type(result).__name__}; it must return a harness.Run.")
    if result.query_ids != tuple(query.query_id for query in dataset.queries):
        raise InputError(f"{name} returned other queries than it was given, or in another order.")
    longest = int(np.max(np.diff(result.offsets), initial=0))
    if longest > most:
        raise InputError(f"{name} returned {longest:,} documents for a query; it was asked for {most:,}.")
