"""What a live search engine is: where it is asked, with what, and where its answer holds ids and scores."""

import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.retrievers.errors import InputError, unknown
from harness.retrievers.places import expanded, home
from harness.retrievers.remote import template
from harness.retrievers.yaml_files import read_yaml

# what a request may hold, beside the description's own variables
PLACES = {
    "query": "the query's text",
    "k": "how many results this request asks for",
    "from": "how many results came before",
    "top_k": "how many results the query asks for in all",
}
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Description(BaseModel):
    """The YAML file of an engine. `ids`, `scores`, `total` and `error` are JMESPath expressions on its JSON answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str = ""
    url: str | None = None
    path: str = ""  # behind the URL
    example: str = "http://HOST/PATH"  # of a URL, for messages
    method: Literal["GET", "POST"] = "POST"
    headers: dict[str, str] = {}  # ${NAME} is an environment variable, which must be set
    optional_headers: dict[str, str] = {}  # sent only where all their variables are set
    params: dict[str, Any] = {}
    body: dict[str, Any] | list[Any] | None = None
    variables: dict[str, Any] = {}  # further places, with their defaults
    ids: str
    id_pattern: str | None = None  # a regular expression, whose one group is the collection's id in the engine's
    scores: str | None = None  # without it the rank decides
    total: str | None = None  # how many documents match: more are asked for, or missed by name, where fewer came
    error: str | None = None  # what the engine says of an error; null, false or empty where there is none
    page: int | None = Field(None, ge=1, strict=True)  # the most results that one request may ask for

    @field_validator("id_pattern")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        try:
            if value is not None and re.compile(value).groups != 1:
                raise ValueError("want a regular expression with one group, such as ^doc-(.*)$")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from error
        return value

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if self.method == "GET" and self.body is not None:
            raise ValueError("a GET request has no body; write params, or method: POST")
        used = self.used
        known = PLACES.keys() | self.variables.keys()
        if taken := sorted(PLACES.keys() & self.variables.keys()):
            raise ValueError(f"variables: {', '.join(taken)} has a meaning of its own; choose another name")
        if wrong := sorted(used - known):
            raise ValueError(f"{{{{{wrong[0]}}}}} stands for nothing; there is {', '.join(sorted(known))}")
        if "query" not in used:
            raise ValueError("neither params nor body holds {{query}}, so the engine would not see the query")
        if not used & {"k", "top_k"} and self.page is None:
            raise ValueError("neither params nor body holds {{k}}, and page does not say how many results come")
        return self

    @property
    def used(self) -> set[str]:
        """The places that a request fills."""
        return template.places([self.params, self.body])

    @property
    def pages(self) -> bool:
        """Whether further results can be asked for."""
        return "from" in self.used

    def sent_headers(self) -> tuple[dict[str, str], list[str], list[str]]:
        """The headers, their secrets, and the variables without which an optional header is not sent.

        Raises InputError for a variable that is not set, or a value that no header can carry.
        """
        found, secrets, absent = {}, [], []
        for name, value in (*self.headers.items(), *self.optional_headers.items()):
            asked = _VARIABLE.findall(value)
            unset = [one for one in asked if not os.environ.get(one)]
            if unset and name not in self.headers:
                absent += unset
                continue
            if unset:
                raise InputError(f"the header {name} needs the environment variable {unset[0]}, which is not set.")
            own = {one: os.environ[one].strip() for one in asked}
            full = _VARIABLE.sub(lambda place, own=own: own[place[1]], value)  # type: ignore[misc]
            if re.search(r"[^\x20-\x7e]", full) or not re.fullmatch(r"[A-Za-z0-9-]+", name):
                where = f" ({', '.join(asked)})" if asked else ""
                raise InputError(f"the header {name!r:.60}{where} holds letters that no header can carry.")
            found[name] = full
            secrets += [full, *own.values()]
        return found, secrets, absent

    def recorded(self) -> dict[str, Any]:
        """The description for a record: of headers the names alone."""
        said = self.model_dump(mode="json", exclude={"headers", "optional_headers", "summary", "example"})
        return said | {"headers": sorted({*self.headers, *self.optional_headers})}


def names() -> list[str]:
    """The engines by name: the user's own under HARNESS_HOME, and those that come with the harness."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("*.yaml")})


def load(name: str) -> Description:
    """The description in a file (a name with a slash or .yaml), of the user's own engines, or of ours.

    Raises InputError for a name that is none of these, or a file that describes no engine.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = expanded(name)
    else:
        found = [folder / f"{name}.yaml" for folder in _folders() if (folder / f"{name}.yaml").is_file()]
        if not found:
            own = home() / "engines" / f"{name}.yaml"
            hint = f"Write {own}, or name a file: search:./engine.yaml."
            raise unknown("engine", name, names(), hint)
        path = found[0]
    try:
        return Description.model_validate(read_yaml(path, "ids: hits[].id"))
    except ValidationError as error:
        raise InputError(f"{path}: {'; '.join(_problems(error))}.") from error


def _folders() -> list[Path]:
    return [home() / "engines", Path(str(files("harness") / "data" / "engines"))]


def _problems(error: ValidationError) -> list[str]:
    """What is wrong, without the values, which may be secrets."""
    found = []
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"]))
        what = problem["msg"].removeprefix("Value error, ").rstrip(".")
        if problem["type"] == "extra_forbidden":
            what = f"unknown; there is {', '.join(sorted(Description.model_fields))}"
        found.append(f"{where}: {what}" if where else what)
    return found
