"""How a passage's title and text go into an encoder: the systems differ, and their vectors with them.

==========  ==========================================================  ==================================
form        what the tokenizer gets                                     whose
==========  ==========================================================  ==================================
space       title + " " + text                                          BEIR's, Contriever, GTR
separator   title + its separator token + text, as one text             RetroMAE and coCondenser (MS MARCO)
pair        a pair (title, text), all of token type 0                   AR2, SimANS
typed pair  a pair (title, text), of token types 0 and 1                SimLM
none        the text                                                    MS MARCO as `ir_datasets` has it
==========  ==========================================================  ==================================

A document without a title is its text alone, unless a filler stands for missing titles ("-" at SimLM and AR2).
"""

from collections.abc import Sequence
from typing import Literal

from harness.retrievers.types import Document

Form = Literal["space", "separator", "pair", "typed pair", "none"]
Text = str | tuple[str, str]  # what a tokenizer takes: one text, or a pair


def text_of(doc: Document, form: Form, missing: str, separator: str) -> Text:
    """What of `doc` is encoded; `missing` stands for a title that is not there, `separator` is the tokenizer's."""
    title = doc.title or missing
    if form == "none" or not title:
        return doc.text
    if form == "space":
        return f"{title} {doc.text}".strip()
    if form == "separator":
        return f"{title}{separator}{doc.text}"
    return title, doc.text


def passage_texts(docs: Sequence[Document], form: Form, missing: str, separator: str | None, prefix: str) -> list[Text]:
    """What the tokenizer gets of each passage; `separator` is the tokenizer's separator token, where it has one."""
    return prefixed(prefix, [text_of(doc, form, missing, separator or " ") for doc in docs])


def prefixed(prefix: str, texts: Sequence[Text]) -> list[Text]:
    """The texts with the prefix before each; before the title of a pair."""
    if not prefix:
        return list(texts)
    return [prefix + text if isinstance(text, str) else (prefix + text[0], text[1]) for text in texts]
