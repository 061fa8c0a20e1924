"""`st:FOLDER_OR_ID`: whatever sentence-transformers can load, encoded by it, kept and searched exactly by us."""

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from harness.retrievers import compile_ahead, devices
from harness.retrievers.errors import InputError
from harness.retrievers.neural.retriever import WARM, search_store
from harness.retrievers.registry import Identity, Options, Retriever, register_prefix
from harness.retrievers.sbert import folder as folders
from harness.retrievers.sbert.folder import Backend
from harness.retrievers.types import Corpus, Job, Query, Run

if TYPE_CHECKING:
    import torch

    from harness.retrievers.encoding.store import Header, Shard
    from harness.retrievers.sbert.encode import LibraryEncoder

PREFIX = "st:"
_OLDEST = 6  # sentence-transformers; from 6 on it imports no code that a folder names unless it is told to
# beside sentence-transformers, by backend: a module, and what to install
_NEEDED: dict[Backend, tuple[str, str, tuple[str, ...]]] = {
    "onnx": ("optimum.onnxruntime", "sentence-transformers[onnx]", ("optimum", "onnxruntime")),
    "openvino": ("optimum.intel", "sentence-transformers[openvino]", ("optimum-intel", "openvino")),
}


class SentenceTransformersOptions(Options):
    """What a user may change. None: as the model's own files say, else as the library does by default."""

    query_prompt: str | None = Field(None, description="text before each query; '' for none")
    document_prompt: str | None = Field(None, description="text before each passage; '' for none")
    query_prompt_name: str | None = Field(None, description="one of the model's prompts, before each query")
    document_prompt_name: str | None = Field(None, description="one of the model's prompts, before each passage")
    truncate_dim: int | None = Field(None, ge=1, description="of a dense model: the first values of a vector are kept")
    max_active_dims: int | None = Field(
        None, ge=1, description="of a SparseEncoder: the largest terms of a text are kept; else all that are not 0"
    )
    similarity: Literal["dot", "cosine"] | None = None
    max_seq_length: int | None = Field(None, ge=1, description="of a text, in tokens")
    titles: bool = Field(True, description="whether a passage's title comes before its text")
    backend: Backend = "torch"
    batch_size: int = Field(32, ge=1, description="texts that are encoded at once")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: Literal["auto", "compiled", "torch"] = Field(
        "auto", description="what finds candidates, final scores are the same; auto: compiled on a CPU, torch on a GPU"
    )
    shard_documents: int = Field(16_384, ge=1, description="documents of a shard, the unit in which encoding resumes")


class SentenceTransformers(Retriever):
    """Encodes by `encode_query` and `encode_document`; vectors are kept in a store, as those of any neural retriever.

    Dense models fill the dense half, SparseEncoders the lexical one. Code that a folder brings is never run.
    """

    Options = SentenceTransformersOptions
    packages = ("sentence-transformers", "tokenizers", "torch", "transformers")
    distributed = True
    name: ClassVar[str]  # folder or hub id
    options: SentenceTransformersOptions
    _sizes: tuple[int, float, int] = (0, 0.0, 0)  # D, terms of a document on average, V
    _warnings: Sequence[str] = ()  # of the library, when it loaded the model

    @cached_property
    def folder(self) -> Path:
        """The model's folder. Raises CheckpointError where it cannot be found."""
        from harness.models.checkpoints import hub

        backend = self.options.backend
        return hub.locate(self.name, also=() if backend == "torch" else (f"{backend}/*", f"*/{backend}/*"))

    @cached_property
    def about_folder(self) -> folders.About:
        """What the folder says. Raises as `harness.retrievers.sbert.folder.read`."""
        return folders.read(self.folder)

    @cached_property
    def checkpoint_hash(self) -> str:
        """Over the files that decide the vectors."""
        return folders.content_hash(self.folder, self.options.backend)

    @property
    def notice(self) -> str:
        """That the library adds a pooling of its own, or leaves a prompt aside, where that is so."""
        from harness.models.checkpoints.modules_json import MODULES, unused_prompt

        if not (self.folder / MODULES).is_file():
            return f"{self.folder} has no {MODULES}: sentence-transformers pools it by the mean of its tokens."
        own = self.options.document_prompt is not None or self.options.document_prompt_name is not None
        return "" if own else unused_prompt(self.folder, "document_prompt")

    @property
    def similarity(self) -> str:
        """dot or cosine. Raises InputError for another of the model's own that no option replaces."""
        own = self.options.similarity or self.about_folder.similarity
        if own not in (known := folders.SIMILARITIES):
            raise InputError(
                f"{self.folder} compares vectors by {own}, and the exact search knows {' and '.join(known)}. Where the "
                "model was trained for one of these, name it: --similarity dot."
            )
        return own

    @cached_property
    def device(self) -> "torch.device":
        """Where the model and the search run. Raises InputError for a GPU that is not there."""
        return devices.chosen(self.options.device, "--device cuda")

    def _prompt(self, side: Literal["query", "document"]) -> str:
        """What comes before a query or a passage. Raises InputError for a name that there is not, or two answers."""
        text: str | None = getattr(self.options, f"{side}_prompt")
        name: str | None = getattr(self.options, f"{side}_prompt_name")
        if text is not None and name is not None:
            raise InputError(
                f"{side}_prompt ({text!r:.40}) and {side}_prompt_name ({name!r:.40}) are both given. Give one."
            )
        prompts = self.about_folder.prompts
        if name is not None and name not in prompts:
            there = ", ".join(prompts)
            raise InputError(f"{self.folder} has no prompt {name!r:.40} ({side}_prompt_name); there is {there}.")
        return prompts[name or side] if text is None else text

    def check(self) -> None:
        """See to the library, the folder and the options, before a collection is read."""
        self._check_packages()
        chosen, kind = self.options, self.about_folder.kind
        _ = self.similarity, self._prompt("query"), self._prompt("document")
        for option, wanted in (("truncate_dim", "dense"), ("max_active_dims", "lexical")):
            if getattr(chosen, option) is not None and kind != wanted:
                other = "a SparseEncoder, whose terms are kept by max_active_dims"
                raise InputError(
                    f"{option} is given, and {self.folder} is "
                    f"{other if kind == 'lexical' else 'a dense model, whose values are kept by truncate_dim'}."
                )
        self.fingerprint()

    def _check_packages(self) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise InputError(f"{PREFIX}{self.name} needs sentence-transformers: pip install 'dupmae-harness[st]'.")
        if int((there := version("sentence-transformers")).partition(".")[0]) < _OLDEST:
            raise InputError(
                f"{PREFIX}{self.name} needs sentence-transformers {_OLDEST} or later, and {there} is installed: "
                "pip install 'dupmae-harness[st]'."
            )
        if self.options.backend == "torch":
            return
        module, wanted, _ = _NEEDED[self.options.backend]
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:  # of the package that the module is in
            found = False
        if not found:
            raise InputError(f"backend {self.options.backend} needs {wanted}: pip install '{wanted}'.")

    def prepare(self) -> None:
        """Load the model."""
        _ = self.encoder

    @cached_property
    def encoder(self) -> "LibraryEncoder":
        """The model, loaded. Raises InputError where the library cannot load it, or an option does not fit it."""
        from harness.retrievers.sbert import encode, load

        chosen, kind = self.options, self.about_folder.kind
        model, self._warnings = load.model(self.folder, kind, chosen.backend, str(self.device))
        load.set_length(model, chosen.max_seq_length, self.folder)
        shared = {
            "model": model,
            "batch_size": chosen.batch_size,
            "cosine": self.similarity == "cosine",
            "titles": chosen.titles,
            "query_prompt": self._prompt("query"),
            "document_prompt": self._prompt("document"),
        }
        if kind == "lexical":
            return encode.SparseEncoder(**shared, max_active_dims=chosen.max_active_dims)
        own = load.dimension(model)
        if chosen.truncate_dim is not None and own is not None and chosen.truncate_dim > own:
            raise InputError(f"truncate_dim is {chosen.truncate_dim:,}, and {self.folder} has {own:,} values.")
        return encode.DenseEncoder(**shared, truncate_dim=chosen.truncate_dim)

    def fingerprint(self) -> str:
        """The folder's bytes, the device, and the versions of a backend's packages."""
        hashes = self.checkpoint_hash  # first: a folder that is not there is an error before torch is imported
        backend = self.options.backend
        versions = {} if backend == "torch" else {name: version(name) for name in _NEEDED[backend][2]}
        return repr((hashes, self.device.type, versions))

    def resolved(self) -> dict[str, Any]:
        """The options, with every None replaced by what it came to."""
        from harness.retrievers.sbert import load

        encoder = self.encoder
        return self.options.model_dump(mode="json", exclude={"query_prompt_name", "document_prompt_name"}) | {
            "query_prompt": encoder.query_prompt,
            "document_prompt": encoder.document_prompt,
            "similarity": self.similarity,
            "max_seq_length": max(filter(None, load.lengths(encoder.model)), default=None),
            "device": str(self.device),
            "precision": self._precision,
        }

    @property
    def _precision(self) -> str:
        """The type of the weights, as the library loaded them."""
        weight = next(self.encoder.model.parameters(), None)
        return "as the backend has it" if weight is None else str(weight.dtype).removeprefix("torch.")

    def identity(self) -> Identity:
        """What the record says: sizes as they came out."""
        from harness.retrievers.encoding.vectors import bytes_per_document

        dense, terms, vocabulary = self._sizes
        ours, paper = bytes_per_document(dense, terms, vocabulary)
        return Identity(
            system=self.name,
            variant=f"{dense:,} values" if dense else f"{terms:,.0f} of {vocabulary:,} terms",
            checkpoint=self.name,
            checkpoint_hash=self.checkpoint_hash,
            bytes_per_document=ours,
            bytes_per_document_paper=paper,
        )

    def search(self, corpus: Corpus, queries: Sequence[Query], top_k: int, job: Job) -> Run:
        """Return the `top_k` documents of each query with the greatest similarity, exactly.

        Raises CheckpointError or InputError for wrong input, before any document is encoded.
        """
        from harness.retrievers.search.exact import engine_for
        from harness.retrievers.torch_threads import torch_threads

        with torch_threads(job.threads):
            engine = self.options.engine
            if job.rank == 0 and engine_for(engine, self.device, corpus.count) == "compiled":
                compile_ahead.start(WARM, self.about_folder.kind)
            self.prepare()
            for line in self._warnings:
                job.warn(f"sentence-transformers, of {self.name}: {line}")
            shards = self.shards(corpus, job)
            vocabulary = 0

            def encode(block: Sequence[Query]) -> Any:
                nonlocal vocabulary
                vectors = self.encoder.queries(block)
                vocabulary = vectors.lexical.shape[1]
                return vectors

            run = search_store(shards, encode, queries, top_k, engine, self.device, job)
            if shards:
                terms = sum(int((shard.vectors.term_weights != 0).sum()) for shard in shards)
                documents = sum(len(shard.vectors) for shard in shards)
                self._sizes = shards[0].vectors.width, terms / documents, vocabulary
            return run

    def shards(self, corpus: Corpus, job: Job) -> list["Shard"]:
        """The corpus as vectors: this process's shards of its store, in order, encoded where they are not there yet."""
        from harness.retrievers.encoding.encode import build

        header = self.header(corpus)
        return list(build(job.cache / "stores" / header.key[:20], header, self.encoder, corpus, job).values())

    def header(self, corpus: Corpus) -> "Header":
        """What decides the bytes of the store of a corpus."""
        from harness.retrievers.encoding.store import Header
        from harness.retrievers.sbert import load

        chosen = self.options
        spec = {
            "library": "sentence-transformers",
            "cosine": self.similarity == "cosine",
            "document_prompt": self.encoder.document_prompt,
            "max_seq_length": load.lengths(self.encoder.model),
            **{name: getattr(chosen, name) for name in ("truncate_dim", "max_active_dims", "titles", "backend")},
        }
        backend = chosen.backend
        more = () if backend == "torch" else _NEEDED[backend][2]
        return Header(
            checkpoint_hash=self.checkpoint_hash,
            corpus_hash=corpus.content_hash,
            spec=spec,
            precision=f"{self._precision} on {self.device.type}",
            libraries={name: version(name) for name in (*self.packages, *more)},
            batch_rule=f"by length within a shard, {chosen.batch_size} texts",
            documents=corpus.count,
            shard_documents=chosen.shard_documents,
        )


@register_prefix(
    PREFIX,
    "st:PATH_OR_ID",
    "whatever sentence-transformers loads, dense or sparse; -o query_prompt=, truncate_dim=, max_seq_length=, backend=",
)
def _from_library(name: str) -> type[Retriever]:
    if not name:
        raise InputError(f"{PREFIX} needs a folder or hub id behind it, such as {PREFIX}./my-model.")
    attributes = {"name": name, "summary": f"the model {name}, by sentence-transformers", "__module__": __name__}
    return type(f"SentenceTransformers[{name}]", (SentenceTransformers,), attributes)
