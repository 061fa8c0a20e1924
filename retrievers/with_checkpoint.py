"""A retriever of one vector a text: the choice of halves that its checkpoint is used with, and its encoders."""

import hashlib
from abc import ABC
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.retrievers.errors import InputError
from harness.retrievers.neural_options import NeuralOptions
from harness.retrievers.on_checkpoint import OnCheckpoint

if TYPE_CHECKING:
    from harness.models.hybrid import HybridSpec
    from harness.retrievers.encoding import TextEncoder


class WithCheckpoint(OnCheckpoint, ABC):
    """What options, the checkpoint's own files and the catalog's entry come to; nothing is loaded unasked."""

    Options = NeuralOptions
    aside = (*OnCheckpoint.aside, "engine")
    options: NeuralOptions

    @cached_property
    def spec(self) -> "HybridSpec":
        """The resolved choice of halves: options, `hybrid.json`, else the entry, the folder's other files, defaults.

        Raises CheckpointError for a checkpoint of another architecture or layout than the entry's.
        """
        from harness.models.checkpoints import layouts

        chosen, entry = self.options, self.entry
        layout = layouts.read(self.folder)
        layouts.demand(layout, entry.architecture, entry.layout, entry.system)
        spec = layout.spec()
        if layout.kind != "ours":  # which knows better than the name it is run under
            spec = spec.replace(**entry.spec(layout.vocabulary))
        return spec.replace(
            dense=chosen.dense,
            lexical=chosen.lexical,
            pooling=chosen.pooling,
            similarity=chosen.similarity,
            passage_length=chosen.max_length,
            query_length=chosen.query_length or chosen.max_length,
            query_prefix=chosen.query_prefix,
            passage_prefix=chosen.passage_prefix,
            lexical_pooling=chosen.lexical_pooling,
            activation=chosen.activation,
            lexical_tokens=chosen.lexical_tokens,
        )

    @cached_property
    def query_folder(self) -> Path:
        """The folder of the queries' encoder: that of the passages, unless there are two. Raises as `folder`."""
        from harness.models.checkpoints import hub

        name = self.options.query_checkpoint
        if name is None and self.options.checkpoint is None:
            name = self.entry.query_checkpoint
        if name is None:
            return self.folder
        return hub.locate(name, None if self.options.query_checkpoint else self.entry.query_revision)

    @cached_property
    def hashes(self) -> str:
        """Of the checkpoint; of both, where queries have one of their own."""
        from harness.models.checkpoints import hub

        if self.query_folder == self.folder:
            return self.checkpoint_hash
        both = f"{self.checkpoint_hash} {hub.content_hash(self.query_folder)}"
        return hashlib.sha256(both.encode()).hexdigest()

    @cached_property
    def encoder(self) -> "TextEncoder":
        """The checkpoint, loaded and on its device."""
        return self._load(self.folder, self.spec)

    @cached_property
    def query_encoder(self) -> "TextEncoder":
        """The one for queries: the same, unless there are two. Raises InputError where their vectors do not meet."""
        from harness.models.checkpoints import layouts

        if self.query_folder == self.folder:
            return self.encoder
        layouts.demand(layouts.read(self.query_folder), self.entry.architecture, self.entry.layout, self.entry.system)
        spec = self.encoder.loaded.spec
        found = self._load(self.query_folder, spec)
        if spec.lexical and found.loaded.vocabulary != self.encoder.loaded.vocabulary:
            raise InputError(
                f"queries of {self.query_folder} have {found.loaded.vocabulary:,} terms, passages of {self.folder} "
                f"{self.encoder.loaded.vocabulary:,}: the two do not belong together."
            )
        return found

    def _load(self, folder: Path, spec: "HybridSpec") -> "TextEncoder":
        import torch

        from harness.models.checkpoints import checkpoint
        from harness.retrievers.encoding import TextEncoder

        loaded = checkpoint.load(folder, spec, torch.bfloat16 if self.precision == "bf16" else torch.float32)
        loaded.encoder.to(self.device)
        return TextEncoder(loaded, self.device, self.titles, self.entry.missing_title)
