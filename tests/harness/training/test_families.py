"""Each encoder family from a folder to a hybrid that searches: pre-trained, fine-tuned, run, exported."""

import json

import pytest
import torch
import yaml
from sentence_transformers import SentenceTransformer

from harness.datasets.loader import MINI
from harness.models import hybrid
from harness.models.checkpoints.weights import tensors_only
from harness.models.training import tokens
from harness.reports.records import records
from tests.support import families, tiny
from tests.support import tokenizers as tokenizers_of

STAGES = {
    "pretrain": {"kind": "pretrain", "steps": 2, "batch": 4, "length": 24, "learning_rate": 0.001, "clip": 10},
    "tune": {
        "kind": "finetune", "steps": 2, "batch": 4, "learning_rate": 0.001, "query_length": 12, "passage_length": 24,
        "dense": 16, "lexical": 6,
    },
}  # fmt: skip


def train(cli, folder, base, **changes):
    values = {
        "name": "own", "base": {"checkpoint": str(base)}, "stages": STAGES,
        "data": {"train": ["mini"], "corpora": [{"name": str(MINI), "documents": 40}]}, **changes,
    }  # fmt: skip
    (folder / "own.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return cli("train", "--recipe", "own.yaml", "--threads", 1)


@pytest.mark.integration
@pytest.mark.parametrize("name", [name for name in families.CONFIGS if "narrow" not in name])
def test_from_a_folder_to_a_hybrid(name, tmp_path, cli, beir):
    base = families.save(tmp_path / "base", name)
    answer = train(cli, tmp_path, base)
    assert answer.code == 0, answer.err
    left = tmp_path / "trained" / "own"
    before, after = (tensors_only(place / "model.safetensors") for place in (base, left / "pretrain"))
    assert before.keys() == after.keys()  # nothing of the decoder is saved
    moved = sum(not torch.equal(before[key], after[key]) for key in before)
    assert moved > len(before) / 2
    log = [json.loads(line) for line in (left / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["bow"] > 0 and line["reconstruction"] > 0 for line in log if "bow" in line)
    spec = hybrid.read(left / "tune")
    assert (spec.dense, spec.lexical) == (16, 6)

    run = ("run", "-r", "dupmae", "--checkpoint", left / "tune", "-d", beir(), "-m", "ndcg@10", "--threads", 1)
    assert cli(*run).code == 0
    [record] = records.find(tmp_path / "results")[0]
    assert record.manifest.system.variant == "CLS:16, OT:6"
    assert cli("export", left / "tune", tmp_path / "exported").code == 0
    assert SentenceTransformer(str(tmp_path / "exported"), device="cpu").encode_query(["water"]).shape == (1, 16)


@pytest.mark.integration
def test_an_embedding_narrower_than_the_states(tmp_path, cli):
    """ELECTRA small: the decoder has positions of its own."""
    base = families.save(tmp_path / "base", "electra, narrow embeddings")
    assert train(cli, tmp_path, base).code == 0


TEXT = "The brownfield site, unremediated; don't!"
WORDS = {
    "byte_level": ["The", "brownfield", "site", ",", "unremediated", ";", "don", "'t", "!"],
    "unigram": ["The", "brownfield", "site,", "unremediated;", "don't!"],  # as SentencePiece has them
}


@pytest.mark.parametrize("kind", WORDS)
def test_words_begin_where_the_tokenizer_says(kind, tmp_path):
    tokenizer = getattr(tokenizers_of, kind)()
    found = tokens.write(tmp_path / "store", tokenizer, iter([TEXT]), 100, words=True)
    groups: list[list[int]] = []
    for token, start in zip(found.tokens[0].tolist(), found.starts[0].tolist(), strict=True):
        if start:
            groups.append([])
        groups[-1].append(token)
    assert len(found.tokens[0]) > len(groups)  # some word is of several pieces
    assert [tokenizer.decode(group).strip() for group in groups] == WORDS[kind]


def test_starts_are_read_from_anywhere_in_the_bits(tmp_path):
    """Rows that begin and end within bytes, more of them than are tokenised at once, cut and split."""
    tokenizer = tokenizers_of.byte_level()
    texts = [f"word{'ish' * (n % 7)} and {n} others, {'again ' * (n % 5)}" for n in range(2_300)]
    for split in (False, True):
        found = tokens.write(
            tmp_path / f"store-{split}", tokenizer, iter(texts), 7, words=True, split=split, shortest=2
        )
        rows = []
        for text in texts:
            answer = tokenizer(text, add_special_tokens=False)
            numbers = answer.word_ids()
            begun = [n == 0 or numbers[n] != numbers[n - 1] for n in range(len(numbers))]
            for at in range(0, len(begun), 7) if split else (0,):
                rows.append(begun[at : at + 7])
        rows = [row for row in rows if len(row) >= 2]
        assert len(rows) == len(found.tokens)
        assert all(found.starts[n].tolist() == row for n, row in enumerate(rows))


def test_a_store_of_wordpiece_keeps_none(tmp_path):
    assert tokens.write(tmp_path / "store", tiny.tokenizer(), iter(["red apples"]), 9).starts is None
    assert not (tmp_path / "store" / "starts.bin").exists()
