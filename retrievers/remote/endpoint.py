"""A dense retriever over an embedding endpoint: each passage is asked for once, searched exactly like our own."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from harness.retrievers import compile_ahead, devices
from harness.retrievers.errors import InputError
from harness.retrievers.registry import About, Identity, Retriever, register_prefix
from harness.retrievers.remote import addresses
from harness.retrievers.remote.client import Client, ServiceOptions
from harness.retrievers.types import Corpus, Job, Query, Run

if TYPE_CHECKING:
    from harness.retrievers.encoding.store import Header
    from harness.retrievers.remote.embeddings import Use

KEY = "HARNESS_API_KEY"
_SECRETS = f"A key comes from the environment variable {KEY}."
_WARM = "harness.retrievers.search.warm"
_QUERIES_AT_ONCE = 1_024


class EndpointOptions(ServiceOptions):
    """How the endpoint is asked, and its vectors compared."""

    batch_size: int = Field(32, ge=1, le=4_096, strict=True, description="texts of a request")
    similarity: Literal["dot", "cosine"] = "cosine"
    query_prefix: str = ""
    passage_prefix: str = ""
    titles: Literal["space", "none"] = Field("space", description="how a passage's title comes before its text")
    max_characters: int | None = Field(
        None, ge=1, strict=True, description="where a text is cut, for a service that refuses long ones"
    )
    dimensions: int | None = Field(None, ge=1, strict=True, description="width to ask for, of models that shorten")
    engine: Literal["auto", "compiled", "torch"] = Field("auto", description="what finds candidates, as of our own")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    shard_documents: int = Field(
        2_048, ge=1, strict=True, description="documents of a shard, in which encoding resumes"
    )


class Endpoint(Retriever):
    """Vectors of a model behind `url`, in the store and the exact search of every dense retriever."""

    Options = EndpointOptions
    url: ClassVar[str]
    model: ClassVar[str]
    options: EndpointOptions

    def __init__(self, options: EndpointOptions) -> None:
        super().__init__(options)
        self._width: int | None = None
        self._cost: dict[str, int | float] = {}

    @classmethod
    def about(cls) -> About:
        """What the name says."""
        return About(system=cls.model, kind="dense")

    def identity(self) -> Identity:
        """The model, and where it runs; no checkpoint is known, so no row of the paper is filled."""
        from harness.retrievers.encoding.vectors import bytes_per_document

        ours, paper = bytes_per_document(self._width or 0, 0)
        return Identity(
            system=self.model,
            variant=addresses.short(self.url),
            bytes_per_document=ours if self._width else None,
            bytes_per_document_paper=paper if self._width else None,
        )

    def resolved(self) -> dict[str, Any]:
        """The options, and what the name says."""
        return super().resolved() | {"url": self.url, "model": self.model, "width": self._width}

    def service_cost(self) -> dict[str, int | float]:
        """Requests, retries and seconds of the last search, passages included where they were asked for."""
        return dict(self._cost)

    def check(self) -> None:
        """See to the key and the device."""
        super().check()
        self._key()
        if self.options.device == "cuda":
            devices.chosen("cuda", "--device cuda")

    def _key(self) -> str:
        key = os.environ.get(KEY, "").strip()
        if re.search(r"[^\x21-\x7e]", key):
            raise InputError(f"{KEY} holds white space or letters that no key has. Set it again, or unset it.")
        return key

    @property
    def use(self) -> "Use":
        """What of the options decides the vectors."""
        from harness.retrievers.remote.embeddings import Use

        return Use(**{field.name: getattr(self.options, field.name) for field in dataclasses.fields(Use)})

    def header(self, corpus: Corpus) -> "Header":
        """What decides the bytes of the store of a corpus, as far as it is known: a service can change unseen."""
        from harness.retrievers.encoding.store import Header

        model = json.dumps([self.url, self.model, self.options.revision])
        spec = dataclasses.asdict(self.use)
        del spec["query_prefix"]
        return Header(
            checkpoint_hash=hashlib.sha256(model.encode()).hexdigest(),
            corpus_hash=corpus.content_hash,
            spec={"url": self.url, "model": self.model, "revision": self.options.revision} | spec,
            precision="the service's",
            libraries={},
            batch_rule="the service's",
            documents=corpus.count,
            shard_documents=self.options.shard_documents,
        )

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return the `top_k` documents of each query with the greatest inner product, exactly.

        Raises InputError for a service that cannot be asked or does not answer with vectors.
        """
        from harness.retrievers.torch_threads import torch_threads

        key = self._key()
        denied = f"Is the key in {KEY} one of this service?" if key else f"Set its key in {KEY}."
        asking = partial(Client, self.url, self.options, {"Authorization": f"Bearer {key}"} if key else {})
        with torch_threads(job.threads), asking(secrets=[key], denied=denied, note=job.note) as client:
            return self._search(client, corpus, queries, top_k, job)

    def _search(self, client: Client, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        from harness.retrievers.encoding.encode import build
        from harness.retrievers.remote.embeddings import EndpointEncoder
        from harness.retrievers.search.exact import engine_for
        from harness.retrievers.search.searcher import Searcher

        device = devices.chosen(self.options.device, "--device cuda")
        if engine_for(self.options.engine, device, corpus.count) == "compiled":
            compile_ahead.start(_WARM, "dense")
        encoder = EndpointEncoder(client, self.url, self.model, self.use, self.options.batch_size)
        header = self.header(corpus)
        shards = list(build(job.cache / "stores" / header.key[:20], header, encoder, corpus, job).values())
        for shard in shards:
            encoder.expect(shard.vectors.width)
        compile_ahead.wait(_WARM)
        searcher = Searcher(shards, device, self.options.engine, job.threads)
        starts = range(0, len(queries), _QUERIES_AT_ONCE)
        with job.phase("search", len(queries), "queries") as meter:
            blocks = (encoder.queries(queries[start : start + _QUERIES_AT_ONCE]) for start in starts)
            run = searcher.run([query.query_id for query in queries], blocks, top_k, meter)
        self._width, self._cost = encoder.width, client.cost
        return run


def _named(scheme: str, name: str) -> type[Retriever]:
    url, _, model = f"{scheme}{name}".partition("#")
    url = addresses.checked(url, _SECRETS).removesuffix("/embeddings")
    if not model.strip() or re.search(r"[\0-\x1f\x7f]", model):
        raise InputError(f"{url} names no model. Write {url}#MODEL, as the service calls it.")
    members = {"url": url, "model": model, "summary": f"{model} at {url}", "__module__": __name__}
    return type(f"Endpoint[{model}]", (Endpoint,), members)


for _scheme in ("http://", "https://"):
    register_prefix(
        _scheme,
        f"{_scheme}HOST/v1#MODEL",
        f"an OpenAI-compatible embedding endpoint; its key is {KEY}; -o batch_size, dimensions, query_prefix, …",
    )(partial(_named, _scheme))
