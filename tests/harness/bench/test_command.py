"""`harness bench`: what is compared, how, and what is written; no test looks at how fast anything is."""

import json
import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.bench import command, encode, memory, score
from harness.bench.collate import CLS, MASK, SEP, plain
from harness.bench.options import BenchOptions
from harness.bench.timing import Comparison, compare
from harness.retrievers.errors import InputError
from tests.support import tiny


@pytest.fixture
def no_process(monkeypatch):
    """Call what would be measured here, instead of measuring it in a process of its own; returns what was asked."""
    asked = []

    def call(target, **kwargs):
        module, _, name = target.partition(":")
        getattr(sys.modules[module], name)(**kwargs)()
        asked.append(kwargs)
        return memory.Peak(100, 100 + len(asked))

    monkeypatch.setattr(memory, "apart", call)
    return asked


def test_rounds_alternate_and_ratios_are_round_by_round():
    """By hand: ours deals with 10 in 1 s and 2 s, the peer with 8 in 2 s and 8 s: 10 and 5 against 4 and 1."""
    order, said = [], []
    ticks = iter([0, 1, 1, 3, 10, 18, 20, 22])  # round 1: ours, peer; round 2: peer, ours
    found = compare(
        lambda: order.append("ours"), lambda: order.append("peer"), "p", (10, 8), "things", 2, said.append,
        lambda: next(ticks),
    )  # fmt: skip
    assert order == ["ours", "peer", "peer", "ours"]
    assert found == Comparison("p", "things", (10, 5), (4, 1))
    assert found.ratio == (2.5, 5)
    assert found.entry(threads=1) == {
        "peer": "p",
        "unit": "things/s",
        "rounds": 2,
        "ours": {"min": 5, "median": 7.5, "max": 10},
        "theirs": {"min": 1, "median": 2.5, "max": 4},
        "ratio": {"min": 2.5, "median": 3.75, "max": 5},
        "threads": 1,
    }
    assert [line.split()[-3:] for line in said] == [
        ["min", "median", "max"],
        ["5.0", "7.5", "10.0"],
        ["1.0", "2.5", "4.0"],
        ["2.500", "3.750", "5.000"],
    ]


def test_the_plain_collator_masks_and_hides():
    """Rates of 1 and 0 leave nothing to chance: all words masked, and every row sees all but itself."""
    rates = SimpleNamespace(encoder_mask_rate=1.0, decoder_mask_rate=0.0)
    [(ids, labels, visible)] = plain([[7, 8]], [False] * 10, rates, random.Random(0))
    assert ids.tolist() == [CLS, MASK, MASK, SEP]
    assert labels.tolist() == [-100, 7, 8, -100]
    assert torch.equal(visible, 1 - torch.eye(4, dtype=torch.long))


def test_a_synthetic_run_is_like_ms_marcos():
    run, qrels = score.synthetic(2000, 20)
    assert np.diff(run.offsets).tolist() == [20] * 2000  # from_rows refused any document that came twice
    assert list(qrels) == list(run.query_ids)
    assert np.mean([len(judged) for judged in qrels.values()]) == pytest.approx(1.06, abs=0.02)
    ranks = [
        list(run.rows(number)[0]).index(doc_id.encode()) + 1
        for number, judged in enumerate(qrels.values())
        for doc_id in judged
        if doc_id.encode() in run.rows(number)[0]
    ]
    assert len(ranks) / sum(map(len, qrels.values())) == pytest.approx(0.9, abs=0.03)
    assert min(ranks) == 1
    assert max(ranks) > 15


def test_several_benchmarks_in_one_call_and_their_file(cli, one_thread, no_process, tmp_path):
    (tmp_path / "out.json").write_text("what an earlier call left")
    words = (
        "bench collate score collate --queries 12 --k 15 --batch 2 --length 8 --rounds 1 --threads 1 --json out.json"
    )
    answer = cli(*words.split())
    assert answer.code == 0, answer.err
    found = json.loads((tmp_path / "out.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert list(found) == ["collate", "score", "machine"]
    assert found["collate"]["pretrain"]["peer"] == "plain"
    ranx = found["score"]["ranx"]
    assert (ranx["peer"], ranx["unit"], ranx["queries"], ranx["k"], ranx["threads"]) == (
        "pytrec_eval", "queries/s", 12, 15, 1,
    )  # fmt: skip
    assert ranx["ratio"]["median"] == pytest.approx(ranx["ours"]["median"] / ranx["theirs"]["median"])
    assert ranx["peak_bytes_above_run"] == {"ours": 1, "theirs": 2, "checked": 3}
    assert [asked["way"] for asked in no_process] == ["ours", "theirs", "checked"]
    for entry in (found["collate"]["pretrain"], ranx):
        assert all(list(entry[name]) == ["min", "median", "max"] for name in ("ours", "theirs", "ratio"))
    assert {"processor", "cores", "packages"} <= found["machine"].keys()
    assert answer.out.count("ratio ours/peer") == 2
    assert answer.out.endswith("wrote out.json\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", ["no benchmark named", "search, encode, collate, score"]),
        ("colate", ["unknown benchmark 'colate'", "Did you mean collate"]),
        ("collate --k 5", ["--k: not used by collate", "--k belongs to search, score"]),
        ("collate score --max-length 5", ["--max-length: not used by collate or score"]),
        ("score --docs 5 --lexical 3", ["--lexical, --docs: not used by score"]),
        ("encode", ["encode needs --model"]),
        ("encode --model nowhere", ["--model 'nowhere' is not a folder"]),
        ("encode --model .", ["nothing to measure", "no modules.json", "no masked-LM head"]),
        ("encode --model . --lexical 5", ["--lexical 5", "no masked-LM head"]),
        ("score --threads 1000000", ["--threads is 1000000", "cores"]),
        ("score --json .", ["--json . cannot be written"]),
        ("score --json nowhere/out.json", ["cannot be written", "a folder that is there"]),
    ],
)
def test_bad_input(bad, words, said):
    message = bad("bench", *words.split())
    assert all(part in message for part in said), message


def test_everything_is_checked_before_anything_is_measured(bad, monkeypatch):
    monkeypatch.setattr(command.importlib, "import_module", lambda name: pytest.fail(f"{name} ran"))
    bad("bench", "collate", "encode", "--rounds", "1")
    bad("bench", "collate", "--json", "nowhere/out.json")


def test_a_missing_peer_is_named_with_what_to_install(bad, monkeypatch):
    monkeypatch.setattr("harness.bench.peers.there", lambda module: False)
    assert "needs its peer pytrec_eval" in (message := bad("bench", "score", "--queries", 2, "--k", 2))
    assert "`pip install pytrec-eval-terrier`" in message


def test_a_disagreement_is_not_timed(monkeypatch, no_process):
    monkeypatch.setattr(
        score.trec_eval, "trec_values", lambda found, ids, metrics: {str(m): np.ones(3) for m in metrics}
    )
    monkeypatch.setattr(score, "compare", lambda *a: pytest.fail("it was timed"))
    with pytest.raises(RuntimeError, match="disagree"):
        score.score(BenchOptions(queries=3, k=4), print)


def test_an_interrupt_leaves_the_file_alone(cli, monkeypatch, tmp_path):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.bench.collate.compare", stop)
    (tmp_path / "out.json").write_text("old")
    answer = cli("bench", "collate", "--batch", 1, "--length", 5, "--json", "out.json")
    assert answer.code == 130
    assert answer.err == "interrupted; nothing was written\n"
    assert (tmp_path / "out.json").read_text() == "old"


def test_a_file_is_whole_or_the_old_one(tmp_path):
    (tmp_path / "out.json").write_text("old")
    with pytest.raises(TypeError):
        command.write(tmp_path / "out.json", {"collate": object()})
    assert (tmp_path / "out.json").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_memory_is_measured_in_a_process_of_its_own(tmp_path, monkeypatch):
    """Preparing takes 200 MiB and lets go of them, the call takes 64 MiB: only the call's count."""
    (tmp_path / "hungry.py").write_text(
        "def prepare(size):\n    filled(200 << 20)\n    return lambda: filled(size)\n"
        "def filled(size):\n    return len(bytearray(b'x') * size)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    peak = memory.apart("hungry:prepare", size=64 << 20)
    assert 62 <= peak.above / 2**20 < 80  # the kernel's counters are out by some pages
    with pytest.raises(RuntimeError, match=r"(?s)hungry:prepare failed.*TypeError"):
        memory.apart("hungry:prepare", length=1)


# encode

FAKE = """
import numpy as np, torch
from pathlib import Path
from harness.bench.encode import peer_spec
from harness.models.checkpoints import checkpoint
from harness.retrievers.encoding.encode import TextEncoder
from harness.retrievers.types import Document

class SentenceTransformer:
    max_seq_length = 20

    def __init__(self, folder, device):
        self.encoder = TextEncoder(checkpoint.load(Path(folder), peer_spec(Path(folder)).replace(passage_length=20)),
                                   torch.device(device))

    def encode(self, texts, batch_size, convert_to_numpy):
        docs = [Document(str(n), "", text) for n, text in enumerate(texts)]
        return self.encoder.documents(docs, lambda _: None).dense.astype(np.float32)[::STEP]
"""


def sentence_transformers(folder, pooling, *more):
    """A checkpoint with a masked-LM head that is a sentence-transformers folder as well."""
    tiny.masked_lm().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *more]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    said = {"embedding_dimension": 32} | pooling if isinstance(pooling, dict) else pooling
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    return folder


NORMALISED = ("2_Normalize", "Normalize")


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """Make a stand-in for sentence-transformers, one that gives every vector to the right text or (-1) not."""

    def make(step):
        place = tmp_path / "packages"
        place.mkdir()
        (place / "sentence_transformers.py").write_text(FAKE.replace("STEP", str(step)))
        monkeypatch.syspath_prepend(place)
        for name in [name for name in sys.modules if name.partition(".")[0] == "sentence_transformers"]:
            monkeypatch.delitem(sys.modules, name)
        return sentence_transformers(tmp_path / "model", {"pooling_mode_mean_tokens": True}, NORMALISED)

    yield make
    sys.modules.pop("sentence_transformers", None)


def test_encode_has_an_entry_for_each_peer(cli, one_thread, no_process, peer, tmp_path):
    folder = peer(1)
    words = "--passages 5 --lexical 7 --rounds 1 --threads 1 --json out.json"
    answer = cli("bench", "encode", "--model", folder, *words.split())
    assert answer.code == 0, answer.err
    found = json.loads((tmp_path / "out.json").read_text())["encode"]
    assert list(found) == ["sentence-transformers", "lexical"]
    theirs = found["sentence-transformers"]
    assert (theirs["peer"], theirs["passages"], theirs["max_length"]) == ("sentence-transformers", 5, 20)
    assert theirs["apart"] < 1e-6
    lexical = found["lexical"]
    assert [lexical[name] for name in ("peer", "dense", "lexical")] == ["lexical 0", 32, 7]
    assert lexical["peak_bytes"] == {"ours": 101, "theirs": 102}
    assert [asked["lexical"] for asked in no_process] == [7, 0]


def test_encoders_that_differ_are_not_compared(bad, one_thread, peer):
    assert "differ (1 - cosine up to" in bad("bench", "encode", "--model", peer(-1), "--passages", 5, "--threads", 1)


def test_without_its_peer_encode_measures_what_is_left(cli, one_thread, no_process, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "there", lambda module: False)
    folder = sentence_transformers(tmp_path / "model", {"pooling_mode": "cls"})
    answer = cli("bench", "encode", "--model", folder, *"--passages 3 --lexical 5 --rounds 1 --threads 1".split())
    assert answer.code == 0, answer.err
    assert (
        "sentence-transformers: skipped; its peer is not installed: `pip install 'dupmae-harness[bench]'`" in answer.out
    )
    assert "encode/lexical: 3 passages, 144 tokens, dense 32, lexical 5" in answer.out


@pytest.mark.parametrize(
    ("pooling", "more", "want"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, [NORMALISED], ("mean", "cosine")),
        ({"pooling_mode_cls_token": True, "include_prompt": True}, [], ("cls", "dot")),
        ({"pooling_mode": "mean", "include_prompt": True}, [], ("mean", "dot")),
        ({"pooling_mode": ["mean", "cls"]}, [], "pools by"),
        ({"pooling_mode_max_tokens": True}, [], "pools by pooling_mode_max_tokens"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, [], "pools by"),
        ({}, [], "pools by nothing"),
        (["mean"], [], "no readable"),
        ({"pooling_mode": "mean"}, [("2_Dense", "Dense")], "is made of Transformer, Pooling, Dense"),
    ],
)
def test_how_a_sentence_transformers_folder_is_read(tmp_path, pooling, more, want):
    folder = sentence_transformers(tmp_path / "model", pooling, *more)
    if isinstance(want, str):
        with pytest.raises(InputError, match=want):
            encode.peer_spec(folder)
    else:
        spec = encode.peer_spec(folder)
        assert (spec.pooling, spec.similarity) == want


def test_the_lexical_half_is_the_checkpoints_own_or_384(tmp_path):
    own = tiny.save_hybrid(tmp_path / "own", dense=16, lexical=12, passage_length=30)
    plain_one = sentence_transformers(tmp_path / "plain", {})
    assert [encode.lexical_spec(own, k, None).lexical for k in (None, 9)] == [12, 9]
    assert [encode.lexical_spec(own, None, n).passage_length for n in (None, 40)] == [30, 40]
    assert [encode.lexical_spec(plain_one, k, None).lexical for k in (None, 9)] == [384, 9]


def test_a_checkpoint_without_a_dense_half_has_nothing_to_compare_with(bad, tmp_path):
    folder = tiny.save_hybrid(tmp_path / "own", dense=0, lexical=12)
    assert "no dense half to compare with" in bad("bench", "encode", "--model", folder)


def test_what_the_memory_of_encoding_is_measured_on(tmp_path, one_thread):
    folder = tiny.save_hybrid(tmp_path / "own", dense=16, lexical=12)
    for lexical in (12, 0):
        vectors = encode.prepare(str(folder), "mini", 4, lexical, 20, 1)()
        assert vectors.dense.shape == (4, 16)
        assert vectors.term_ids.shape == (4, lexical)
