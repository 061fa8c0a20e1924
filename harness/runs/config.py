"""What a user asks for, checked before anything runs; every error of a file is reported at once."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.datasets.fields import Fields
from harness.datasets.loose_files import identifier
from harness.datasets.suites import check_suite
from harness.metrics.names import DEFAULT_METRICS, OFFICIAL, parse_metrics
from harness.reports.records.names import RERANKED
from harness.retrievers.errors import InputError
from harness.retrievers.registry import Retriever, get
from harness.retrievers.rerank import RerankOptions
from harness.runs import naming


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RetrieverSpec(_Strict):
    """A retriever by name, with the options that differ from its defaults, and what re-ranks it, if anything.

    `called` is what its records go by. It isn't `name`, which says what is run, and which a record keeps as it was
    typed, so that it can be run again.
    """

    name: str
    called: str | None = Field(None, description="a word; else `name`, of a path or URL its last part")
    options: dict[str, Any] = {}
    rerank: RerankOptions | None = None

    @field_validator("called")
    @classmethod
    def _word(cls, value: str | None) -> str | None:
        return None if value is None else naming.checked(value)

    @property
    def own_name(self) -> str | None:
        """What it is called, where that is another name than it has anyway."""
        return None if self.called == naming.usual(self.name) else self.called

    @property
    def label(self) -> str:
        """What its records are filed and shown under: a word."""
        return self._of_stage(self.called or naming.usual(self.name))

    @property
    def whole(self) -> str:
        """What its records keep: the name as it was typed."""
        return self._of_stage(self.name)

    def _of_stage(self, name: str) -> str:
        return f"{name}{RERANKED}" if self.rerank else name

    @property
    def stages(self) -> tuple["RetrieverSpec", ...]:
        """Itself, and before it the first stage alone where it is re-ranked; each has a record of its own."""
        return (self.model_copy(update={"rerank": None}), self) if self.rerank else (self,)


class RunConfig(_Strict):
    """One `harness run`: every retriever on every dataset."""

    retrievers: list[RetrieverSpec] = Field(min_length=1)
    datasets: list[str] = Field(["mini"], min_length=1)
    top_k: int = Field(1000, ge=1, le=1_000_000, strict=True, description="results kept for a query")
    metrics: list[str] | None = Field(None, min_length=1)
    results: Path = Path("results")
    titles: Path | None = None
    query_field: str | None = Field(None, description="of a query, such as title+description")
    doc_fields: str | None = Field(None, description="of a document, such as title,abstract")
    queries_with_text: bool = Field(False, strict=True)
    threads: int | None = Field(None, ge=1, le=1024, strict=True)
    force: bool = False
    suites: dict[str, list[str]] = Field({}, description="names of ours for several collections")
    skip_missing: bool = Field(False, strict=True)

    @field_validator("suites")
    @classmethod
    def _sound_suites(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, members in value.items():
            check_suite(name, members, value)
        return value

    @field_validator("retrievers", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """Allow `bm25` for `{name: bm25}`."""
        return named(value)

    @model_validator(mode="before")
    @classmethod
    def _collection(cls, values: Any) -> Any:
        """Allow `collection: {docs: …, queries: …, qrels: …}`, and the same as an entry of `datasets`."""
        if not isinstance(values, dict):
            return values
        found = dict(values)
        if "collection" in found:
            if found.get("datasets"):
                raise ValueError("collection and datasets are both given: put the collection among the datasets")
            found["datasets"] = [found.pop("collection")]
        if isinstance(found.get("datasets"), list):
            found["datasets"] = [identifier(d) if isinstance(d, dict) else d for d in found["datasets"]]
        return found

    @property
    def fields(self) -> Fields:
        """The fields of queries and documents that are read. Raises InputError for names that are none."""
        return Fields.of(self.query_field, self.doc_fields)

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: list[str] | None) -> list[str] | None:
        parse_metrics(_but_official(value))
        return value

    @model_validator(mode="after")
    def _cutoffs(self) -> "RunConfig":
        deep = [str(m) for m in parse_metrics(_but_official(self.metrics)) if (m.cutoff or 0) > self.top_k]
        if deep:
            raise ValueError(f"{', '.join(deep)} cannot be measured on runs of {self.top_k} results: raise top_k")
        return self

    @model_validator(mode="after")
    def _depths(self) -> "RunConfig":
        deep = max((spec.rerank.depth for spec in self.retrievers if spec.rerank), default=0)
        if deep > self.top_k:
            raise ValueError(f"a depth of {deep:,} cannot be re-ranked in runs of {self.top_k:,} results: raise top_k")
        return self

    def metric_names(self, official: Callable[[], Sequence[str]] = tuple) -> list[str]:
        """The metrics asked for, else the default ones that `top_k` results can give, else the like at `top_k`.

        `official` says what the collection is reported by, and is called where that was asked for.
        """
        asked = self.metrics or DEFAULT_METRICS
        chosen = parse_metrics(name for each in asked for name in (official() if each == OFFICIAL else (each,)))
        fit = [str(metric) for metric in chosen if (metric.cutoff or 0) <= self.top_k]
        return fit or [f"{family}@{self.top_k}" for family in ("MRR", "R", "NDCG")]


def _but_official(metrics: Sequence[str] | None) -> list[str]:
    return [name for name in metrics or () if name != OFFICIAL]


def build(values: dict[str, Any], origin: str) -> RunConfig:
    """Validate `values`. Raises InputError that lists all that is wrong, under the name of `origin`."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{origin}: {explain(error, sorted(RunConfig.model_fields))}") from error


def explain(error: ValidationError, allowed: list[str], inside: Mapping[str, list[str]] | None = None) -> str:
    """One sentence per problem; an unknown key says which there are, also `inside` some of the keys."""
    inner = {"retrievers": sorted(RetrieverSpec.model_fields), **(inside or {})}
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "the whole"
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            there = inner.get(str(problem["loc"][0]), allowed) if len(problem["loc"]) > 1 else allowed
            there = sorted(RerankOptions.model_fields) if "rerank" in problem["loc"] else there
            what = f"unknown; there is {', '.join(there) or 'none'}"
        elif problem["type"] not in ("missing", "value_error"):
            what = f"{what}, got {problem['input']!r:.60}"
        lines.append(f"{where}: {what.rstrip('.')}" if problem["loc"] else what.rstrip("."))
    return "; ".join(lines) + "."


def read_value(text: str, origin: str) -> Any:
    """A value that was typed, as YAML. Raises InputError, beginning with `origin`, where it is none."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{origin}: the value cannot be read ({' '.join(str(error).split())}).") from error


def named(value: Any) -> Any:
    """Of a list, each text `x` as `{name: x}`; anything else as it is."""
    return [{"name": item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value


def make_retriever(spec: RetrieverSpec) -> Retriever:
    """The retriever of `spec`. Raises InputError for an unknown name or option, or a value out of range."""
    cls = get(spec.name)
    try:
        return cls(cls.Options.model_validate(spec.options))
    except ValidationError as error:
        raise InputError(f"retriever {spec.name}: {explain(error, sorted(cls.Options.model_fields))}") from error


class Raw(str):
    """An option's value as it was typed: taken literally where the option is a text, read as YAML elsewhere."""

    __slots__ = ()

    def read(self, name: str, annotation: Any) -> Any:
        """The value for a field of that annotation. Raises InputError where it cannot be read."""
        if get_origin(annotation) is not dict and str in (annotation, *get_args(annotation)):
            return str(self)
        return read_value(self, f"--option {name}={self}")


def pairs(words: list[str]) -> dict[str, Any]:
    """Split each NAME=VALUE of `--option`; what a value means is up to the option's type.

    Raises InputError for a word without a name or an equals sign, or a name that is given twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"--option {word!r} is not NAME=VALUE.")
        name = name.strip().replace("-", "_")
        if name in found:
            raise InputError(f"--option {name} is given twice, as {found[name]} and as {value}. Give it once.")
        found[name] = Raw(value)
    return found


def share_options(names: list[str], options: dict[str, Any]) -> list[RetrieverSpec]:
    """Give each named retriever those of the options that it has.

    Raises InputError for an option that none of them has: a flag is never parsed and then ignored.
    """
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise InputError(f"the retriever is {wrong[0]!r:.60}; want its name, such as bm25.")
    fields = {name: get(name).Options.model_fields for name in names}
    for option in options:
        if not any(option in have for have in fields.values()):
            say = "; ".join(f"{name} has {', '.join(sorted(have)) or 'none'}" for name, have in fields.items())
            raise InputError(f"no retriever of this run has the option {option!r}: {say}.")
    return [
        RetrieverSpec(
            name=name,
            options={
                key: value.read(key, fields[name][key].annotation) if isinstance(value, Raw) else value
                for key, value in options.items()
                if key in fields[name]
            },
        )
        for name in names
    ]


def called(name: str | None, specs: list[RetrieverSpec]) -> list[RetrieverSpec]:
    """The one of `specs`, called `name` where that is given.

    Raises InputError for several, and as `harness.runs.naming.checked`.
    """
    if name is None:
        return specs
    if len(specs) != 1:
        raise InputError(
            f"--name {name} is of one retriever, and {len(specs)} are named: {', '.join(one.name for one in specs)}. "
            "Leave it out, or write `called: NAME` under each in a --config."
        )
    return [specs[0].model_copy(update={"called": naming.checked(name)})]


def reranked_by(checkpoint: str | None, depth: int | None, specs: list[RetrieverSpec]) -> list[RetrieverSpec]:
    """Each of `specs`, re-ranked by `checkpoint` where one is given. Raises InputError for a value out of range."""
    if checkpoint is None and depth is not None:
        raise InputError("--depth says how far to re-rank, and nothing re-ranks. Give --rerank CHECKPOINT as well.")
    if checkpoint is None:
        return specs
    try:
        options = RerankOptions.model_validate({"checkpoint": checkpoint} | ({} if depth is None else {"depth": depth}))
    except ValidationError as error:
        raise InputError(f"--rerank: {explain(error, sorted(RerankOptions.model_fields))}") from error
    return [spec.model_copy(update={"rerank": options}) for spec in specs]
