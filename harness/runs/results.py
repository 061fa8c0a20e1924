"""What the Python functions return: a ranking, and a ranking that was scored and recorded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.metrics.names import Measured
from harness.reports.records.labels import label, name_of
from harness.reports.records.records import RUN, Manifest, Record
from harness.retrievers.run_files import exchange, trec
from harness.retrievers.types import Run
from harness.runs import mteb_results, written_runs
from harness.runs.lookup import measured
from harness.runs.record_store import tag_of

if TYPE_CHECKING:
    import pandas
    import ranx


class Ranking:
    """The ranked documents of each query, and its ways out of here.

    `name` is what a TREC file's last column and a ranx Run call it. Made from a `Run`, or from a function that reads it
    when it is first asked for.
    """

    def __init__(self, name: str, run: Run | Callable[[], Run]) -> None:
        self.name, self._run = name, run

    @property
    def run(self) -> Run:
        """Query ids, offsets, document ids and scores as arrays, in the order of the one tie rule."""
        if not isinstance(self._run, Run):
            self._run = self._run()
        return self._run

    @property
    def tag(self) -> str:
        """The word that a TREC file has for the run."""
        return "_".join(self.name.split()) or "run"

    def to_trec(self, path: str | Path) -> Path:
        """Write a TREC file (`query Q0 document rank score tag`), gzipped where the name ends in .gz; returns its path.

        A file of that name is replaced when this one is whole. Raises InputError where it cannot be written.
        """
        return written_runs.write(self.run, path, "trec", self.tag)

    def to_json(self, path: str | Path) -> Path:
        """Write `{query id: {document id: score}}`, as ranx and BEIR do. Raises InputError as `to_trec`."""
        return written_runs.write(self.run, path, "json", self.tag)

    def to_parquet(self, path: str | Path) -> Path:
        """Write a row a result: query_id, document_id, rank, score. Raises InputError as `to_trec`."""
        return written_runs.write(self.run, path, "parquet", self.tag)

    def to_ranx(self) -> "ranx.Run":
        """ranx's Run; it orders ties as it likes. Raises InputError for a ranking without any result."""
        return exchange.to_ranx(self.run, self.name)

    def to_frame(self) -> "pandas.DataFrame":
        """One row a result: query_id, document_id, rank (from 1), score."""
        return exchange.to_frame(self.run)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """{query id: {document id: score}}, best first."""
        return exchange.to_dict(self.run)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.run.doc_ids):,} results of {len(self.run):,} queries>"


class Result(Ranking):
    """A record: a ranking with its scores, in the folder that the command line leaves as well.

    `record.manifest` says everything that produced it. Queries without results are not in `run`, and score 0.
    """

    def __init__(self, record: Record) -> None:
        super().__init__(name_of(record.manifest.system), lambda: trec.read(record.folder / RUN))
        self.record = record

    @property
    def tag(self) -> str:
        """The word that a TREC file has for the run: the retriever, and the record's hash."""
        return tag_of(self.name, self.record.folder)

    def to_trec(self, path: str | Path, header: bool = False) -> Path:
        """The same as of a ranking; with `header` an ir_metadata header says what made the run."""
        said = written_runs.header_of(self.record.manifest, self.tag) if header else ""
        return written_runs.write(self.run, path, "trec", self.tag, said)

    def to_mteb(
        self,
        path: str | Path,
        *,
        task: str | None = None,
        split: str | None = None,
        subset: str = "default",
        languages: str | Sequence[str] | None = None,
        revision: str | None = None,
    ) -> Path:
        """Write the scores as JSON that mteb reads (`mteb.results.TaskResult.from_disk`); returns its path.

        `task` is the name in MTEB, `revision` that of the data there: see `harness.runs.mteb_results.text_of`. Raises
        InputError as that, and where the file cannot be written.
        """
        text = mteb_results.text_of(self.record, task, split, subset, languages, revision)
        return written_runs.write_whole(path, lambda new: new.write_text(text, encoding="utf-8"), "the scores")

    @property
    def folder(self) -> Path:
        """Where the record is."""
        return self.record.folder

    @property
    def manifest(self) -> Manifest:
        """System, options, collection, rules, packages, cost and warnings."""
        return self.record.manifest

    @property
    def metrics(self) -> Measured:
        """The mean of each metric, under any of its names: `metrics["NDCG@10"]`, `metrics["nDCG@10"]`."""
        return measured(self.record)

    def per_query(self) -> "pandas.DataFrame":
        """Each metric (columns) of each judged query (index `query_id`)."""
        import pandas

        frame = pandas.DataFrame.from_dict(self.record.per_query(), orient="index")
        return frame.rename_axis(index="query_id")

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        return f"<{label(self.manifest)} on {self.manifest.data.name}: {values}>"
