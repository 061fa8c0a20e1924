"""TREC's documents and topics: SGML as NIST wrote it, whose tags are not always closed, and topics in XML."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from harness.datasets.qrels_file import sound_id
from harness.datasets.rows import Row
from harness.retrievers.errors import InputError
from harness.retrievers.text_files import text, text_lines

_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)[^>]*>")
_TOPIC = {"num": "number", "desc": "description", "narr": "narrative"}
_LABEL = re.compile(r"^(?:Number|Topic|Domain|Description|Narrative|Summary|Concepts?|Factors?)\s*:\s*", re.IGNORECASE)


def documents(path: Path) -> Iterator[Row]:
    """Yield the documents (`<DOC>` … `</DOC>`) of a file: `<DOCNO>` is the id, every other element inside is a field.

    An element that stands several times is joined, in order; what stands in an element inside another belongs to both.
    A document without an element `text` has all that is outside of elements, or else all there is, as its text.
    Raises InputError, with file and line, for a document without a number or without an end.
    """
    for number, block in _blocks(path, "doc"):
        place = f"{path}, line {number}"
        fields = _elements(block)
        if "docno" not in fields:
            raise InputError(f"{place}: a document without <DOCNO>, which is its id.")
        identifier = sound_id(fields.pop("docno"), place)
        if "text" not in fields:
            rest = re.sub(r"(?is)<docno[^>]*>.*?</docno\s*>", " ", block)
            fields["text"] = _plain(rest)
        yield Row(place, identifier, fields)


def topics(path: Path) -> Iterator[Row]:
    """Yield the topics (`<top>` … `</top>`) of a file: number, title, description and narrative, as it has them.

    Raises InputError, with file and line, for a topic without a number or without an end.
    """
    for number, block in _blocks(path, "top"):
        place = f"{path}, line {number}"
        fields: dict[str, str] = {}
        pieces = re.split(r"<([A-Za-z][\w-]*)[^>]*>", block)  # a tag here ends at the next one
        for tag, content in zip(pieces[1::2], pieces[2::2], strict=True):
            name = _TOPIC.get(tag.casefold(), tag.casefold())
            fields[name] = f"{fields.get(name, '')} {_LABEL.sub('', _plain(content))}".strip()
        if not fields.get("number"):
            raise InputError(f"{place}: a topic without <num>, which is its id.")
        yield Row(place, sound_id(fields.pop("number"), place), fields)


def xml_topics(path: Path) -> Iterator[Row]:
    """Yield the topics of an XML file (`<topic number="1">`, with an element a field), as TREC-COVID's.

    Raises InputError for a file that is not XML, holds a document type, or has a topic without a number.
    """
    content = text(path)
    if "<!DOCTYPE" in content or "<!ENTITY" in content:  # entities may name files, or grow without an end
        raise InputError(f"{path} declares a document type or entities, which are not read. Take the lines out.")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise InputError(f"{path} is not XML ({error}).") from error
    for place, topic in enumerate(root.iter("topic"), 1):
        where = f"{path}, topic {place}"
        fields = {_TOPIC.get(part.tag, part.tag): _plain("".join(part.itertext())) for part in topic}
        identifier = topic.get("number") or topic.get("id") or fields.pop("number", "")
        if not identifier:
            raise InputError(f"{where}: neither an attribute nor an element says its number, which is its id.")
        yield Row(where, sound_id(identifier.strip(), where), fields)


def _blocks(path: Path, tag: str) -> Iterator[tuple[int, str]]:
    """Yield (number of its first line, what stands between) of each `<tag>` … `</tag>`; each begins a line."""
    opens, closes = re.compile(rf"\s*<{tag}(?:\s[^>]*)?>", re.IGNORECASE), re.compile(rf"\s*</{tag}\s*>", re.IGNORECASE)
    begun, lines = 0, list[str]()
    for number, line in text_lines(path):
        rest = line
        if not begun:
            found = opens.match(line)
            if found is None:
                continue
            begun, lines, rest = number, [], line[found.end() :]
        elif opens.match(line):
            raise InputError(f"{path}, line {number}: <{tag}> inside the one of line {begun}, which has no </{tag}>.")
        end = re.search(rf"</{tag}\s*>", rest, re.IGNORECASE)
        lines.append(rest[: end.start()] if end else rest)
        if end or closes.match(line):
            yield begun, "\n".join(lines)
            begun = 0
    if begun:
        raise InputError(f"{path}, line {begun}: <{tag}> without </{tag}>. Is the file whole?")


def _elements(block: str) -> dict[str, str]:
    """{name in lower case: text} of each element that is closed; of one name all, joined."""
    found: dict[str, list[str]] = {}
    opened: list[tuple[str, int]] = []
    for match in _TAG.finditer(block):
        name = match[2].casefold()
        if not match[1]:
            opened.append((name, match.end()))
            continue
        while opened:  # what is left open inside is no element
            inner, start = opened.pop()
            if inner == name:
                found.setdefault(name, []).append(_plain(block[start : match.start()]))
                break
    return {name: " ".join(filter(None, parts)) for name, parts in found.items()}


def _plain(content: str) -> str:
    """Text without tags and entities, its white space single."""
    return " ".join(html.unescape(_TAG.sub(" ", content)).split())
