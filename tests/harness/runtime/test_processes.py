"""Several processes that share one `harness run`: the same record as one process makes.

The whole command runs under torchrun twice only, as every process has to import torch; what else they must agree on is
tested with threads that take the place of processes.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest

from harness.retrievers import mining
from harness.retrievers.errors import InputError
from harness.retrievers.registry import Identity, Options, Retriever
from harness.retrievers.search.searcher import merged
from harness.retrievers.types import Run
from harness.runs.config import RetrieverSpec, build, make_retriever
from harness.runs.runner import iterate
from harness.runtime.job import HarnessJob
from harness.runtime.processes import Processes, ProcessLost, speaks
from harness.training.data.collections import Training
from tests.support import tiny
from tests.support.datasets import DOCS, write_beir
from tests.support.paths import ROOT
from tests.support.retrievers import registered

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = "red apples grow on trees|green pears|water runs to the sea|the bank is a river bank|money|fish|bank".split("|")
SEVEN = [(f"d{number}", "a river" if number % 3 else "", text) for number, text in enumerate(TEXTS)]
QRELS = {"test": [("q1", "d3", 2), ("q1", "d2", 1), ("q2", "d0", 1)]}
SHARDS = {"shard_documents": 2}


@pytest.fixture
def place(tmp_path):
    """A model `m`, `seven` documents in four shards of two, and `three`, which `-o shard_documents=4` leaves whole."""
    tiny.save_hybrid(tmp_path / "m")
    write_beir(tmp_path / "seven", docs=SEVEN, qrels=QRELS)
    write_beir(tmp_path / "three", docs=DOCS)
    return tmp_path


# --- processes


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def torchrun(cwd, *words):
    """Two processes, each with a HARNESS_HOME of its own, as on machines that share no file system.

    What the second writes to its streams goes to a file, so that the answer holds the first's and the launcher's.
    """
    (cwd / "apart.py").write_text(
        "import os\nos.environ['HARNESS_HOME'] = os.path.abspath('home-' + os.environ['RANK'])\n"
        "from harness.cli import main\nmain()\n"
    )
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    launcher += ["--redirects", "1:3", "--log-dir", "logs", "-m", "apart"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, *launcher, *map(str, words)],
        cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    second = "".join(path.read_text() for path in sorted(cwd.glob("logs/**/1/std*.log")))
    return answer, second


def files(folder, name):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob(name))}


@pytest.mark.process
def test_two_processes_make_the_record_that_one_makes(place, cli, monkeypatch):
    """Neural and BM25, two collections, shards of four: 4 and 3 documents of `seven`; of `three` rank 1 gets none."""
    words = ["run", "-r", "hf:m", "-r", "bm25", "-d", "seven", "-d", "three", "-o", "shard_documents=4"]
    words += ["--threads", 1, "--metric", "NDCG@2", "--metric", "R@3", "--top-k", 3]
    two, second = torchrun(place, *words)
    assert two.returncode == 0, two.stderr + second
    assert second == ""
    monkeypatch.setenv("HARNESS_HOME", str(place / "home"))
    one = cli(*words, "--results", "alone")
    assert one.code == 0, one.err
    for name in ("run.trec.gz", "metrics.json", "per_query.csv"):
        made = files(place / "results", name)
        assert len(made) == 4
        assert made == files(place / "alone", name)  # the folders' names, which are hashes, are equal as well
    assert two.stdout == one.out.replace("wrote alone", "wrote results")
    assert two.stderr.count("encoded shard") == 2
    assert one.err.count("encoded shard") == 3

    homes = [files(place / f"home-{rank}" / "cache" / "stores", "shard-*") for rank in range(2)]
    assert [len(home) for home in homes] == [2, 1]
    assert homes[0] | homes[1] == files(place / "home" / "cache" / "stores", "shard-*")
    assert [path.rsplit("-", 1)[1] for path in homes[1]] == ["00001.safetensors"]
    assert [(place / f"home-{rank}" / "cache" / "bm25").exists() for rank in range(2)] == [True, False]
    manifests = [json.loads(text) for text in files(place / "results", "manifest.json").values()]
    made_by = {(m["system"]["retriever"], m["cost"]["hardware"]["processes"]) for m in manifests}
    assert made_by == {("hf:m", 2), ("bm25", 1)}


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-r", "nobody"], "unknown retriever 'nobody'"),  # before the processes meet
        (["-r", "hf:m", "--dense", "8"], "want `weight` [8, 32]"),  # while rank 0 and the other search
    ],
)
def test_a_mistake_is_told_once_and_ends_all(place, words, said):
    answer, second = torchrun(place, "run", *words, "-d", "seven")
    assert answer.returncode != 0
    told = answer.stderr + second
    assert told.count("error: ") == 1
    assert said in told
    assert not list(place.glob("results/*/*/*"))


@pytest.mark.process
def test_a_process_that_ends_is_missed(monkeypatch):
    """Real gloo: this process is rank 0, the other says what it is and goes."""
    import torch.distributed as dist

    env = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    code = (
        "from harness.runtime.processes import Processes; "
        "team = Processes.launched(); team.gather({'rank': team.rank}); "
        "assert team.agreed(None) == 'over'"
    )
    for name, value in {**env, "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "RANK": "1"}) as other:
        try:
            team = Processes.launched()
            assert (team.rank, team.count, team.main) == (0, 2, True)
            assert team.gather({"rank": 0}) == [{"rank": 0}, {"rank": 1}]
            assert team.agreed("over") == "over"
            assert other.wait(timeout=60) == 0
            with pytest.raises(ProcessLost, match="another process of this command ended"):
                team.gather(1)
        finally:
            other.kill()
            dist.destroy_process_group()


@pytest.mark.parametrize(
    ("rank", "size", "said"),
    [
        ("2", "2", "RANK=2 and WORLD_SIZE=2 name no process"),
        ("-1", "2", "name no process"),
        ("first", "2", "RANK=first"),
        ("0", "2", "MASTER_ADDR and MASTER_PORT do not say where they meet"),
    ],
)
def test_an_environment_that_makes_no_sense(beir, bad, monkeypatch, rank, size, said):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    assert said in bad("run", "-r", "bm25", "-d", beir())


def test_one_process_needs_no_other(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team = Processes.launched()
    assert team == Processes()
    assert team.main
    assert team.gather("x") == ["x"]
    assert team.agreed("y") == "y"
    assert speaks()


# --- threads in their place


class Meeting:
    """Where threads exchange values."""

    def __init__(self, count):
        self.values, self.barrier = [None] * count, threading.Barrier(count, timeout=60)

    def exchange(self, rank, value):
        try:
            self.values[rank] = value
            self.barrier.wait()
            found = list(self.values)
            self.barrier.wait()
        except threading.BrokenBarrierError as error:
            raise ProcessLost("gone") from error
        return found


@dataclass(frozen=True)
class Thread(Processes):
    meeting: Meeting | None = None

    def gather(self, value):
        found = self.meeting.exchange(self.rank, value)
        return found if self.main else None

    def agreed(self, value):
        return self.meeting.exchange(self.rank, value)[0]


@pytest.fixture
def together(monkeypatch):
    """Call a function with each of `count` teams at once; returns what they returned, or raised, by rank."""
    own = threading.local()
    monkeypatch.setattr(Processes, "launched", lambda: getattr(own, "team", Processes()))

    def call(function, count=2):
        meeting, answers = Meeting(count), [None] * count

        def work(rank):
            own.team = Thread(rank, count, meeting)
            try:
                answers[rank] = function(own.team)
            except Exception as error:
                answers[rank] = error
                meeting.barrier.abort()

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    return call


@pytest.fixture
def go(place, monkeypatch):
    """Run in this thread as `harness run` does; a share of the work where it is one of several."""
    monkeypatch.setenv("HARNESS_HOME", str(place / "home"))
    monkeypatch.chdir(place)

    def call(results="results", name="hf:m", datasets=("seven",), **values):
        options = values.pop("options", SHARDS)
        config = {"retrievers": [{"name": name, "options": options}], "datasets": list(datasets), "threads": 1}
        return list(
            iterate(build({**config, "results": place / results, **values}, "test"), ["test"], Processes.launched())
        )

    return call


def run_bytes(outcome):
    return (outcome.record.folder / "run.trec.gz").read_bytes()


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("engine", ["compiled", "torch", "faiss"])
def test_any_number_of_processes_and_any_engine(place, go, together, count, engine):
    """Each searches the shards that it has, with gaps where the others' are; of six, two have none."""
    tiny.save_hybrid(place / "d", dense=32, lexical=0)
    asked = {"name": "hf:d", "options": {**SHARDS, "engine": engine}, "top_k": 4}
    [one] = go("alone", **asked)
    first, *others = together(lambda team: go(**asked, force=True), count)
    assert others == [[]] * (count - 1)
    assert run_bytes(first[0]) == run_bytes(one)
    assert first[0].record.folder.name == one.record.folder.name
    assert first[0].record.manifest.cost.hardware["processes"] == count
    assert "gather" in first[0].record.manifest.cost.seconds


def test_what_is_found_is_not_searched_and_a_metric_is_added(go, together, monkeypatch):
    datasets = ("seven", "three")
    made, _ = together(lambda team: go(datasets=datasets, metrics=["NDCG@10"]))
    assert [outcome.found for outcome in made] == [False, False]
    monkeypatch.setattr("harness.retrievers.neural.retriever.Neural.search", lambda *a: pytest.fail("searched again"))
    found, nothing = together(lambda team: go(datasets=datasets, metrics=["NDCG@10"]))
    assert ([outcome.found for outcome in found], nothing) == ([True, True], [])
    more, nothing = together(lambda team: go(datasets=datasets, metrics=["R@10"]))
    assert [set(outcome.record.metrics) for outcome in more] == [{"NDCG@10", "R@10"}] * 2
    assert nothing == []


def test_a_missing_or_damaged_shard_is_made_anew_by_its_process_only(place, go, together, monkeypatch, capsys):
    [whole], _ = together(lambda team: go())
    [shard] = place.glob("home/cache/stores/*/shard-00003*")
    shard.write_bytes(shard.read_bytes()[:-1])
    before = {path.name: path.stat().st_mtime_ns for path in shard.parent.glob("shard*")}
    capsys.readouterr()
    [again], nothing = together(lambda team: go(force=True))
    after = {path.name: path.stat().st_mtime_ns for path in shard.parent.glob("shard*")}
    assert {name for name in before if before[name] != after[name]} == {shard.name}
    assert run_bytes(again) == run_bytes(whole)
    assert nothing == []
    assert "shard-00003" in " ".join(again.record.manifest.warnings)  # the record hears of rank 1's trouble
    assert capsys.readouterr().err.count("only this shard is encoded again") == 1
    shutil.rmtree(shard.parent)
    [last], _ = together(lambda team: go(force=True))
    assert run_bytes(last) == run_bytes(whole)


class Alone(Retriever):
    """Not distributed: asked at rank 0 only, and told of no other process."""

    Options = Options
    asked: list[tuple[int, int]]

    def identity(self):
        return Identity(system="alone")

    def search(self, corpus, queries, top_k, job):
        self.asked.append((job.rank, job.processes))
        assert job.gather("own") == ["own"]
        return Run.of({query.query_id: {"d3": 1.0} for query in queries})


def test_what_is_not_distributed_runs_at_rank_0_alone(go, together):
    class Here(Alone):
        asked = []  # noqa: RUF012

    with registered(alone=Here):
        [outcome], nothing = together(lambda team: go(name="alone", options={}))
    assert (Here.asked, nothing) == ([(0, 1)], [])
    assert outcome.record.manifest.cost.hardware["processes"] == 1


def test_composites_and_dropped_documents(place, go, together, monkeypatch):
    """The mean of two forums, one of which drops the query's own document."""
    from harness.datasets import rules

    forums = ("beir/cqadupstack/android", "beir/cqadupstack/english")
    write_beir(place / "home" / "datasets" / forums[0], docs=[*SEVEN, ("q1", "", "river bank")], qrels=QRELS)
    write_beir(place / "home" / "datasets" / forums[1], docs=DOCS)
    table = {"beir/cqadupstack": rules.Rules(mean_of=forums), forums[0]: rules.Rules(drop_self=True)}
    monkeypatch.setattr(rules, "RULES", table)
    one = go("alone", datasets=["beir/cqadupstack"], top_k=2)
    two, nothing = together(lambda team: go(datasets=["beir/cqadupstack"], top_k=2))
    assert (len(two), nothing) == (3, [])
    assert [run_bytes(outcome) for outcome in two] == [run_bytes(outcome) for outcome in one]


def test_the_others_end_when_the_caller_wants_no_more(go, together, place):
    config = build(
        {
            "retrievers": [{"name": "hf:m", "options": SHARDS}],
            "datasets": ["seven", "three"],
            "results": place / "results",
            "threads": 1,
        },
        "test",
    )

    def first(team):
        with closing(iterate(config, ["test"], team)) as found:
            return next(found, None)

    outcome, nothing = together(first)
    assert outcome.record.manifest.data.name == "seven/test"
    assert nothing is None


def test_a_machine_with_another_collection_is_refused(place, go, together):
    write_beir(place / "other" / "seven", docs=SEVEN[1:], qrels=QRELS)
    where = [place / "seven", place / "other" / "seven"]
    lost, refused = together(lambda team: go(datasets=[str(where[team.rank])]))
    assert isinstance(refused, InputError)
    assert "process 1" in str(refused)
    assert "differ in hashes of hf:m on seven/test" in str(refused)
    assert isinstance(lost, ProcessLost)
    assert not list(place.glob("results/*/*/*"))


def test_an_error_at_rank_0_leaves_no_record(go, together, place, monkeypatch):
    monkeypatch.setattr("harness.runs.record_store.score", lambda *a: (_ for _ in ()).throw(InputError("no space")))
    failed, lost = together(lambda team: go())
    assert (str(failed), type(lost)) == ("no space", ProcessLost)
    assert not list(place.glob("results/*/*/*"))


def test_mining_by_two_equals_one(place, together):
    spec = RetrieverSpec(name=f"hf:{place / 'm'}", options=SHARDS)

    def mined(team):
        job = HarnessJob(place / f"cache-{team.rank}-of-{team.count}", 1, team)
        [part] = Training([str(place / "seven")], job).collections
        with job.lent(True):
            data = part.dataset
            return mining.mine(make_retriever(spec), data, data.queries, part.positives, part.rows, 3, job)

    one = mined(Processes())
    two, _ = together(mined)
    assert two.flat.tolist() == one.flat.tolist()
    assert two.offsets.tolist() == one.offsets.tolist() == [0, 3, 6]


# --- by hand


def test_ties_across_processes_go_to_the_greater_id():
    """Three processes found a and c at 1, b at 1 and z at 2, nothing: of two results z is first, then c."""
    runs = [Run.of({"q": {"a": 1.0, "c": 1.0}}), Run.of({"q": {"b": 1.0, "zz": 2.0}}), Run.of({"q": {}})]
    found = merged(["q"], [(run.offsets, run.doc_ids, run.scores) for run in runs], 2)
    ids, scores = found.rows(0)
    assert ids.tolist() == [b"zz", b"c"]
    assert scores.tolist() == [2.0, 1.0]


def test_the_first_of_a_run():
    """Of three, no and one results the first two: two, none, one."""
    run = Run.of({"q1": {"a": 3.0, "b": 2.0, "c": 1.0}, "q2": {}, "q3": {"d": 1.0}})
    first = run.first(2)
    assert [first.rows(number)[0].tolist() for number in range(3)] == [[b"a", b"b"], [], [b"d"]]
    assert first.scores.dtype == np.float32
    assert len(run.first(0).doc_ids) == 0
    assert run.first(9).doc_ids.tolist() == run.doc_ids.tolist()
