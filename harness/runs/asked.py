"""What a program asks for as a retriever: a name, a class, or an object of its own."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from pydantic import ValidationError

from harness.reports.records.names import slug
from harness.retrievers import functions
from harness.retrievers.errors import InputError
from harness.retrievers.registry import Retriever
from harness.runs import naming
from harness.runs.config import RetrieverSpec, called, explain, make_retriever, share_options


class Transformer(Protocol):
    """As PyTerrier's: a DataFrame of qid and query becomes one of qid, docno and score."""

    def transform(self, queries: Any, /) -> Any:
        """The results."""
        ...


Asks = str | type[Retriever] | Retriever | Transformer | Callable[..., Any]


class Asked(NamedTuple):
    """A retriever by the name that its records go by; `own` holds it, where it is an object of the caller's."""

    spec: RetrieverSpec
    own: dict[str, Retriever]

    @property
    def retriever(self) -> Retriever:
        """The retriever itself. Raises as `harness.runs.config.make_retriever`."""
        return self.own.get(self.spec.name) or make_retriever(self.spec)


def asked(found: Asks, options: Mapping[str, Any], name: str | None = None, version: str | None = None) -> Asked:
    """What `found` stands for: a registered retriever's name, a `Retriever` or its class, a function, a transformer.

    `name` is what its records go by, `version` the state of a function's code, by which its records are found again; to
    a retriever by name that is an option like others. Raises InputError for an object that is none of these, a name
    that is no word or that a retriever of ours has, or options that an object cannot take.
    """
    if isinstance(found, str):
        more = {} if version is None else {"version": version}
        [spec] = called(name, share_options([found], {**options, **more}))
        return Asked(spec, {})
    if isinstance(found, type) and issubclass(found, Retriever):
        label = naming.checked(slug(found.__name__) if name is None else name)
        return _of(label, _made(found, label, options), version)
    if options:
        raise InputError(
            f"{', '.join(options)}: options are of retrievers by name. Bind what a function takes with "
            "functools.partial, and give an object its settings when it is made."
        )
    if isinstance(found, Retriever):
        return _of(naming.checked(slug(type(found).__name__) if name is None else name), found, version)
    if isinstance(found, type) or not functions.is_object(found):
        raise InputError(
            f"the retriever is {found!r:.60}; want its name, such as bm25, a function of (queries, corpus, k), a "
            "PyTerrier transformer, or a harness.Retriever."
        )
    made = functions.of_object(found, None if name is None else naming.checked(name), version)
    return _of(naming.checked(made.name), made, None)


def _of(label: str, made: Retriever, version: str | None) -> Asked:
    if version is not None:
        raise InputError(f"version is of functions and transformers; {label} is a Retriever, which has fingerprint().")
    return Asked(RetrieverSpec(name=label), {label: made})


def _made(cls: type[Retriever], label: str, options: Mapping[str, Any]) -> Retriever:
    try:
        return cls(cls.Options.model_validate(dict(options)))
    except ValidationError as error:
        raise InputError(f"retriever {label}: {explain(error, sorted(cls.Options.model_fields))}") from error
