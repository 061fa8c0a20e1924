"""A live search engine as a retriever: each query is asked, ids are checked against the corpus, latency is measured."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from harness.retrievers.errors import InputError, unknown
from harness.retrievers.registry import About, Identity, Retriever, register_prefix
from harness.retrievers.remote import addresses, description, template
from harness.retrievers.remote.answers import Reader
from harness.retrievers.remote.client import Client, ServiceOptions
from harness.retrievers.remote.known_ids import KnownIds
from harness.retrievers.types import Corpus, Job, Query, Run

_SECRETS = "Credentials belong in the description's headers, as ${NAME} of an environment variable."
_SOME = 3  # ids that an error shows


class EngineOptions(ServiceOptions):
    """Where the engine is, and how it is asked."""

    url: str | None = Field(None, description="the engine's, up to the index; else the description's")
    variables: dict[str, Any] = Field({}, description="values for the description's own places, such as fields")
    concurrency: int = Field(1, ge=1, le=256, strict=True, description="queries at once; latency is fair with one")

    @field_validator("url")
    @classmethod
    def _without_secrets(cls, value: str | None) -> str | None:
        try:
            return None if value is None else addresses.checked(value, _SECRETS)
        except InputError as error:
            raise ValueError(str(error)) from None


class _Results(NamedTuple):
    """What a query got: each document once, best first."""

    doc_ids: list[str]
    scores: npt.NDArray[np.float64]
    seconds: float
    repeated: int  # results that named a document once more
    missed: int  # results that the engine has, and that could not be asked for


class Engine(Retriever):
    """Asks an engine for each query, as its description says, page by page where it must."""

    Options = EngineOptions
    packages = ("jmespath",)
    told = frozenset({"url"})
    name: ClassVar[str]  # behind `search:`
    described: ClassVar[description.Description]
    options: EngineOptions

    def __init__(self, options: EngineOptions) -> None:
        super().__init__(options)
        self._cost: dict[str, int | float] = {}

    @classmethod
    def about(cls) -> About:
        """What the name says."""
        return About(system=Path(cls.name).stem, kind="live engine")

    def identity(self) -> Identity:
        """The engine's name, and where it runs; nothing else of it is known."""
        return Identity(system=Path(self.name).stem, variant=addresses.short(self.base))

    @cached_property
    def base(self) -> str:
        """The engine's URL without the description's path. Raises InputError where none is named."""
        url = self.options.url or self.described.url
        if url is None:
            raise InputError(
                f"search:{self.name} does not say where the engine is. Give its URL: -o url={self.described.example}."
            )
        return addresses.checked(url, _SECRETS)

    @property
    def url(self) -> str:
        """What is asked."""
        base, path = self.base, self.described.path
        return base if base.endswith(path.rstrip("/")) else f"{base}/{path.lstrip('/')}"

    @cached_property
    def values(self) -> dict[str, Any]:
        """The description's variables. Raises InputError for one that it does not have."""
        for name in self.options.variables:
            if name not in self.described.variables:
                raise unknown(f"variable of search:{self.name}", name, self.described.variables)
        return self.described.variables | self.options.variables

    @cached_property
    def reader(self) -> Reader:
        """What takes the results out of an answer. Raises InputError for expressions that are none."""
        return Reader(self.described, f"search:{self.name}")

    def resolved(self) -> dict[str, Any]:
        """The options, the URL, and the description without its headers' values."""
        described = self.described.recorded() | {"variables": self.values}
        return super().resolved() | {"url": self.url, "variables": self.values, "engine": described}

    def service_cost(self) -> dict[str, int | float]:
        """Requests, retries and seconds of the last search, and the latency of its queries."""
        return dict(self._cost)

    def check(self) -> None:
        """See to the URL, the variables, the headers and the expressions before anything is read."""
        super().check()
        _ = self.base, self.values, self.reader
        self.described.sent_headers()

    def fingerprint(self) -> str:
        """The description. What the engine holds is not known: `revision` or --force tells states of it apart."""
        return json.dumps(self.described.model_dump(mode="json", exclude={"summary", "example"}), sort_keys=True)

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return the first `top_k` results of each query, by the engine's scores or, where it has none, by rank.

        Raises InputError for an engine that cannot be asked, does not answer as described, or has other documents.
        """
        page = self.described.page
        if page is not None and top_k > page and not self.described.pages:
            raise InputError(
                f"search:{self.name} gives at most {page:,} results, and {top_k:,} are wanted. Lower --top-k, or let "
                "the description page by {{from}}."
            )
        headers, secrets, absent = self.described.sent_headers()
        denied = f"Set {' and '.join(absent)}." if absent else "Do the description's headers say who you are?"
        asking = Client(
            self.url, self.options, headers, secrets=secrets, denied=denied, error=self.reader.words, note=job.note
        )
        known = KnownIds(corpus, job)
        with asking as client, job.phase("search", len(queries), "queries") as meter:
            found = []
            for results in client.each(lambda query: self._query(client, query, top_k, known, corpus), queries):
                found.append(results)
                meter.advance()
        self._warn(found, job)
        latencies = [1_000 * results.seconds for results in found]
        self._cost = client.cost | {
            "latency_ms_median": round(float(np.median(latencies)), 2),
            "latency_ms_p95": round(float(np.percentile(latencies, 95)), 2),
        }
        blocks = [
            (np.full(len(results.doc_ids), number), np.array([one.encode() for one in results.doc_ids]), results.scores)
            for number, results in enumerate(found)
            if results.doc_ids
        ]
        return Run.from_blocks([query.query_id for query in queries], blocks)

    def _warn(self, found: Sequence[_Results], job: Job) -> None:
        """Say what of the answers was not taken as it came."""
        name = f"search:{self.name}"
        if some := [results.repeated for results in found if results.repeated]:
            job.warn(
                f"{name}: {sum(some):,} results of {len(some):,} queries named a document once more; the first place "
                "counts"
            )
        if other := sum(bool(np.any(np.diff(results.scores) > 0)) for results in found):
            job.warn(f"{name}: in {other:,} queries a result scores more than the one before it; the scores count")
        if cut := [results.missed for results in found if results.missed]:
            job.warn(
                f"{name}: of {len(cut):,} queries the engine has more results than it gave; the description can page "
                "by {{from}}"
            )

    def _query(self, client: Client, query: Query, top_k: int, known: KnownIds, corpus: Corpus) -> _Results:
        """The results of a query, of as many requests as it takes."""
        first: dict[str, float] = {}
        came, seconds, total = 0, 0.0, None
        while True:
            page = self.described.page or top_k
            asked = min(page, top_k - len(first)) if "k" in self.described.used else page
            values = self.values | {"query": query.text, "k": asked, "from": came, "top_k": top_k}
            answer = client.ask(
                self.described.method,
                self.url,
                template.parameters(template.filled(self.described.params, values)),
                template.filled(self.described.body, values),
            )
            seconds += answer.seconds
            doc_ids, scores, total = self.reader.results(answer.value, query.query_id, came)
            self._refuse_strangers(doc_ids, query.query_id, known, corpus)
            before = len(first)
            for doc_id, score in zip(doc_ids, scores, strict=True):
                first.setdefault(doc_id, score)
            came += len(doc_ids)
            more = len(doc_ids) >= asked or (total is not None and total > came)
            if not (self.described.pages and more and before < len(first) < top_k):
                break
        kept = list(first)[:top_k]
        missed = max(0, min(top_k, total) - came) if total is not None else 0
        return _Results(kept, np.array([first[one] for one in kept]), seconds, came - len(first), missed)

    def _refuse_strangers(self, doc_ids: Sequence[str], query_id: str, known: KnownIds, corpus: Corpus) -> None:
        if strangers := known.lacks(doc_ids):
            some = ", ".join(map(repr, strangers[:_SOME])) + (", …" if len(strangers) > _SOME else "")
            raise InputError(
                f"search:{self.name}, query {query_id!r}: {len(strangers):,} of {len(doc_ids):,} results are no "
                f"documents of {corpus.name}: {some}. Does {self.url} hold this collection, under its ids?"
            )


@register_prefix(
    "search:",
    "search:NAME_OR_FILE",
    "a live search engine, by its YAML description: elasticsearch, opensearch, solr, vespa or your own; -o url=",
)
def _named(name: str) -> type[Retriever]:
    if not name:
        raise InputError("search: needs an engine behind it, such as search:elasticsearch or search:./engine.yaml.")
    described = description.load(name)
    members = {"name": name, "described": described, "summary": described.summary or f"the engine {name}"}
    return type(f"Engine[{name}]", (Engine,), members | {"__module__": __name__})
