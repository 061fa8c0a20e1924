"""Models as sentence-transformers loads them: no network, nobody's code, and what it warns of heard."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sentence_transformers

from harness.models.checkpoints.weights import positions, quiet
from harness.models.errors import first_line
from harness.retrievers.errors import InputError
from harness.retrievers.sbert.folder import Backend, Kind


def model(folder: Path, kind: Kind, backend: Backend, device: str) -> tuple[Any, Sequence[str]]:
    """The model in `folder`, and what the library warned of. Raises InputError where it cannot load it."""
    cls = sentence_transformers.SparseEncoder if kind == "lexical" else sentence_transformers.SentenceTransformer
    try:
        with _heard() as lines:
            found = cls(str(folder), device=device, backend=backend, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the library, transformers, torch and optimum each have their own ways to fail
        raise InputError(
            f"sentence-transformers cannot load {folder} ({type(error).__name__}: {first_line(error)[:200]})."
        ) from error
    return found, lines


def set_length(model: Any, wanted: int | None, folder: Path) -> None:
    """Set `max_seq_length`. Raises InputError where the model has none to set, or fewer positions."""
    changed = False
    for module in _inputs(model):
        if wanted is not None:
            with suppress(AttributeError):  # of one that takes texts of any length
                module.max_seq_length = wanted
                changed = True
        config, length = getattr(getattr(module, "auto_model", None), "config", None), _finite(module)
        if config is not None and length is not None and length > (most := positions(config)):
            raise InputError(
                f"{folder} cuts texts at {length:,} tokens, and has {most:,} positions. Give max_seq_length, {most:,} "
                "at most."
            )
    if wanted is not None and not changed:
        raise InputError(f"max_seq_length is given, and {folder} takes texts of any length. Leave it out.")


def lengths(model: Any) -> list[int | None]:
    """At how many tokens each module that reads texts cuts them; None where it does not."""
    return [_finite(module) for module in _inputs(model)]


def dimension(model: Any) -> int | None:
    """D of a dense model before it is truncated, where it says so; the method's name changed within release 6."""
    ask = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    found: int | None = ask()
    return found


def _inputs(model: Any) -> list[Any]:
    """The modules that read texts: a model's first, or the first of each of its Router's routes."""
    routes = getattr(model[0], "sub_modules", None)
    return [model[0]] if routes is None else [route[0] for route in routes.values()]


def _finite(module: Any) -> int | None:
    """A module's limit; None also for what the library calls infinite, or very large."""
    length = getattr(module, "max_seq_length", None)
    return int(length) if length is not None and length < 1 << 30 else None


class _Heard(logging.Handler):
    """Keeps the first line of each warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if (line := record.getMessage().strip().partition("\n")[0]) not in self.lines:
            self.lines.append(line)


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What the library warns of meanwhile, in place of its own lines and transformers' report on loading."""
    logger, handler = logging.getLogger("sentence_transformers"), _Heard()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        with quiet():
            yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
