"""Titles joined to a corpus that lacks them.

The MS MARCO passages of `ir_datasets` carry no titles; the authors of RetroMAE and DupMAE trained and searched with the
titles of another release of the corpus (RocketQA's `para.title.txt`: passage id, tab, title).
"""

import contextlib
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.datasets.survey import CorpusSurvey, Source
from harness.retrievers.errors import InputError
from harness.retrievers.text_files import text_lines
from harness.retrievers.types import Document, Job, Query


class TitledSource:
    """Another source, its documents with the titles of a file.

    The titles lie in a database file in the cache, so memory does not grow with their number. Raises InputError for a
    file that is missing or malformed, for one id with two titles, or for a corpus that has titles already.
    """

    def __init__(self, source: Source, path: Path, job: Job) -> None:
        if path.exists() and not path.is_file():
            raise InputError(f"the titles {path} are no file. They are read again by every run, so a pipe will not do.")
        if not path.is_file():
            raise InputError(f"the titles file {path} does not exist. Give lines of: document id, tab, title.")
        self.source, self.path = source, path.resolve()
        self.kind, self.location = f"{source.kind}+titles", source.location
        stat = self.path.stat()
        self._stamp = [str(self.path), stat.st_size, stat.st_mtime_ns]
        key = hashlib.sha256(repr(self._stamp).encode()).hexdigest()[:32]
        self._database = job.cache / "titles" / f"{key}.sqlite"
        if not self._database.exists():
            self._load(job)

    def _load(self, job: Job) -> None:
        self._database.parent.mkdir(parents=True, exist_ok=True)
        new = self._database.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        new.unlink(missing_ok=True)
        try:
            with contextlib.closing(sqlite3.connect(new)) as connection:
                self._fill(connection, job)
            new.replace(self._database)
        finally:
            new.unlink(missing_ok=True)

    def _fill(self, connection: sqlite3.Connection, job: Job) -> None:
        connection.execute("CREATE TABLE titles (doc_id TEXT PRIMARY KEY, title TEXT) WITHOUT ROWID")
        with job.phase("titles", None, "titles") as meter:
            for number, line in text_lines(self.path):
                doc_id, tab, title = line.partition("\t")
                if not tab:
                    raise InputError(f"{self.path}, line {number}: no tab. Want document id, tab, title.")
                row = (doc_id.strip(), title.strip())
                if connection.execute("INSERT OR IGNORE INTO titles VALUES (?, ?)", row).rowcount == 0:
                    _same_again(connection, row, f"{self.path}, line {number}")
                meter.advance()
        connection.commit()

    def check(self, found: CorpusSurvey) -> str | None:
        """What to warn of once the corpus was read. Raises InputError where not one document got a title."""
        if found.without_title == found.documents + found.duplicates:
            raise InputError(
                f"{self.path} has a title for none of the documents in {self.location}. Do the ids belong together?"
            )
        return f"{found.without_title:,} documents got no title from {self.path.name}" if found.without_title else None

    @property
    def count_hint(self) -> int | None:
        """As the corpus says."""
        return self.source.count_hint

    def stamp(self) -> list[Any]:
        """Changes with the corpus or the titles."""
        return [*self.source.stamp(), *self._stamp]

    def documents(self) -> Iterator[Document]:
        """Yield the corpus with titles; a document that the file does not name keeps an empty one."""
        connection = sqlite3.connect(f"{self._database.absolute().as_uri()}?mode=ro", uri=True)
        try:
            for doc in self.source.documents():
                if doc.title:
                    raise InputError(
                        f"document {doc.doc_id!r} of {self.location} has a title already; --titles is for a corpus "
                        "without titles, such as msmarco-dev."
                    )
                row = connection.execute("SELECT title FROM titles WHERE doc_id = ?", (doc.doc_id,)).fetchone()
                yield doc._replace(title=row[0]) if row else doc
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self._database} is damaged ({error}). Delete it and run again.") from error
        finally:
            connection.close()

    def queries(self) -> Iterator[Query]:
        """As the collection has them."""
        return self.source.queries()

    def qrels(self) -> Iterator[tuple[str, str, int]]:
        """As the collection has them."""
        return self.source.qrels()


def _same_again(connection: sqlite3.Connection, row: tuple[str, str], place: str) -> None:
    [title] = connection.execute("SELECT title FROM titles WHERE doc_id = ?", row[:1]).fetchone()
    if title != row[1]:
        raise InputError(f"{place}: the id {row[0]!r} has two titles, {title!r} and {row[1]!r}. Keep one.")
