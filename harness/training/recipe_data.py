"""What a recipe learns from: corpora to pre-train on, collections, pseudo-queries."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from harness.runs.config import named


class Strict(BaseModel):
    """What a recipe is made of: nothing else may stand in it, and it does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        """Null is what is not given, where there is a default; `true` and `yes` are no numbers."""
        if not isinstance(values, dict):
            return values
        fields, kept = cls.model_fields, {}
        for name, value in values.items():
            allowed = _kinds(fields[name].annotation) if name in fields else {type(value)}
            if isinstance(value, bool) and bool not in allowed and allowed & {int, float}:
                raise ValueError(f"{name} is {str(value).lower()}; it must be a number")
            if value is not None or type(None) in allowed or fields[name].is_required():
                kept[name] = value
        return kept


class CorpusPart(Strict):
    """Texts to learn from: any collection, a .jsonl or .txt file (.gz, .xz), or a folder of such files."""

    name: str
    documents: int | None = Field(None, ge=1)  # the first ones only
    join: int = Field(0, ge=0)  # texts that follow each other become one, until it has so many words

    @property
    def shown(self) -> str:
        """As a checkpoint names what it has learnt from."""
        return self.name + (f", first {self.documents:,}" if self.documents else "")


def _kinds(annotation: Any) -> set[Any]:
    """The types that may stand in a field, those within a union or an Annotated among them."""
    return {annotation} | {kind for part in get_args(annotation) for kind in _kinds(part)}


def _several(value: Any) -> Any:
    """One text alone is a list of it."""
    return [value] if isinstance(value, str) else value


Corpora = Annotated[tuple[CorpusPart, ...], BeforeValidator(lambda value: named(_several(value)))]  # a name: {name: it}
Names = Annotated[tuple[str, ...], BeforeValidator(_several)]


class Writer(Strict):
    """A language model that writes queries; see `data.written_queries`."""

    model: str  # a folder or a hub id
    each: int = Field(1, ge=1, le=64)  # queries of a text
    tokens: int = Field(32, ge=4)  # of a query, at most
    prompt: str | None = None  # what it is given, with {text} for the text

    @model_validator(mode="after")
    def _holds_the_text(self) -> "Writer":
        if self.prompt is not None and "{text}" not in self.prompt:
            raise ValueError(f"prompt is {self.prompt!r:.60}; {{text}} must stand where the text comes in")
        return self


class RoundTrip(Strict):
    """Which queries are kept: those whose own text is among the `within` best that a retriever finds for them."""

    retriever: str
    options: dict[str, Any] = Field(default_factory=dict)
    within: int = Field(20, ge=1)


class Pseudo(Strict):
    """Training pairs made of plain texts; see `data.pseudo_queries`.

    One query of each text, by `kinds`, which are shares; or those that a `writer` writes; or `asked`, a file of
    questions without answers (`.txt`, or `.jsonl` with `text`), each answered by what `round_trip` finds first.
    """

    corpora: Corpora = Field(min_length=1)
    kinds: dict[Literal["title", "sentence", "crop"], Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {
        "title": 1.0,
        "sentence": 1.0,
        "crop": 1.0,
    }
    words: int = Field(16, ge=3)  # of a query, at most
    seed: int = Field(42, ge=0, lt=2**63)
    writer: Writer | None = None
    asked: str | None = None
    round_trip: RoundTrip | None = None
    apart_from: str | None = None  # another name of `data.pseudo`: none of its queries is among these

    @model_validator(mode="after")
    def _some(self) -> "Pseudo":
        if self.writer and self.asked:
            raise ValueError("writer and asked: give one of them; another set of pairs may have the other")
        if self.asked and not self.round_trip:
            raise ValueError("asked: nobody has answered these queries; round_trip names the retriever that does")
        if not sum(self.kinds.values()) > 0:
            raise ValueError(f"kinds is {self.kinds}; give one of title, sentence, crop a share above 0")
        if joined := [part.name for part in self.corpora if part.join]:
            raise ValueError(f"corpora: {', '.join(joined)}: texts that are joined have no titles; leave join out")
        return self


class Data(Strict):
    """Collections. A relative path is looked for under the recipe's `root` first."""

    corpora: Corpora = ()
    pseudo: dict[str, Pseudo] = {}  # by the names that they have among `train`
    train: Names = ()
    validate_on: str | None = None
    validation_documents: int | None = Field(None, ge=1)  # judged ones, and others up to so many; all where None
    evaluate: Names = ()
    against: Names = ("bm25",)
    sources: dict[str, str] = {}  # of a corpus or a collection by its name here: where the public gets it

    @model_validator(mode="after")
    def _apart(self) -> "Data":
        for name, pseudo in self.pseudo.items():
            other = pseudo.apart_from
            if other is not None and (other not in self.pseudo or self.pseudo[other].apart_from):
                raise ValueError(
                    f"pseudo.{name}.apart_from is {other}; want another of data.pseudo, itself without one"
                )
        return self
