"""The store: every shard whole or rebuilt, and nothing else rebuilt."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from harness.retrievers.encoding import encode, store
from harness.retrievers.encoding.store import Header, Ids, ShardError
from harness.retrievers.encoding.vectors import HybridVectors
from harness.retrievers.errors import InputError
from harness.retrievers.types import Document

HEADER = Header(
    "c" * 64, "d" * 64, {"dense": 3, "lexical": 2}, "fp32", {"torch": "1"}, "rule", documents=25, shard_documents=10
)


class Corpus:
    name, count, content_hash = "made up", 25, "d" * 64

    def documents(self):
        return (Document(f"{'long-' * (n % 3)}dé{n}", "", f"text {n}") for n in range(25))


class Fake:
    """Vectors that tell the document; counts what it encodes."""

    kind = HybridVectors

    def __init__(self):
        self.encoded = []

    def documents(self, docs, done):
        self.encoded += [doc.doc_id for doc in docs]
        numbers = np.array([float(doc.text.split()[1]) for doc in docs])
        done(len(docs))
        return HybridVectors(
            np.repeat(numbers[:, None], 3, axis=1).astype(np.float16),
            np.tile(np.array([1, 2], np.uint16), (len(docs), 1)),
            np.repeat(numbers[:, None], 2, axis=1).astype(np.float16),
        )


def build(folder, job, encoder=None):
    return encode.build(folder, HEADER, encoder or Fake(), Corpus(), job)


def test_what_is_written_is_what_is_mapped(tmp_path, job):
    found = build(tmp_path / "s", job)
    assert list(found) == [0, 1, 2]
    shards = list(found.values())
    assert [len(shard.vectors) for shard in shards] == [10, 10, 5]
    assert isinstance(shards[0].vectors.dense, np.memmap)
    assert shards[2].vectors.dense[:, 0].tolist() == [20, 21, 22, 23, 24]
    expected = [doc.doc_id.encode() for doc in Corpus().documents()]
    ids = Ids({10 * number: shard for number, shard in found.items()})
    assert ids(np.arange(25)).tolist() == expected
    assert ids(np.array([3, 9, 10, 24])).tolist() == [expected[n] for n in (3, 9, 10, 24)]
    assert json.loads((tmp_path / "s" / "store.json").read_text())["documents"] == 25
    other = load_file(store.path_of(tmp_path / "s", 2))  # the format is safetensors' own
    assert other["term_weights"].dtype == np.float16
    assert other["id_offsets"].dtype == np.uint64


def test_whole_shards_are_not_encoded_again(tmp_path, job, capsys):
    build(tmp_path / "s", job)
    fake = Fake()
    build(tmp_path / "s", job, fake)
    assert fake.encoded == []


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def craft(path, changes):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]) | changes).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: flip(path, -1), "its bytes are not those that were written"),
        (lambda path: flip(path, -100), "its bytes are not those that were written"),
        (lambda path: flip(path, 12), "shard-00001.safetensors"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "damaged or half written"),
        (lambda path: path.write_bytes(path.read_bytes()[:5]), "damaged or half written"),
        (lambda path: path.write_bytes(b""), "damaged or half written"),
        (lambda path: craft(path, {"__metadata__": {"store": "[]"}}), "another store or place"),
        (lambda path: craft(path, {"dense": {"dtype": "F16", "shape": [1], "data_offsets": [-2, 0]}}), "half written"),
        (lambda path: shutil.copy(path.with_name("shard-00000.safetensors"), path), "another store or place"),
    ],
)
def test_a_damaged_or_foreign_shard_is_named_and_only_it_is_rebuilt(tmp_path, job, damage, said, capsys):
    build(tmp_path / "s", job)
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").glob("shard*")}
    damage(store.path_of(tmp_path / "s", 1))
    fake = Fake()
    build(tmp_path / "s", job, fake)
    expected = [doc.doc_id for doc in Corpus().documents()][10:20]
    assert fake.encoded == expected
    err = capsys.readouterr().err
    assert "shard-00001.safetensors" in err
    assert said in err
    assert "2 of 3 shards are encoded already and are kept" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").glob("shard*")} == before


def test_a_store_of_other_vectors_has_another_key(tmp_path, job):
    for change in (
        {"checkpoint_hash": "x"},
        {"corpus_hash": "x"},
        {"spec": {}},
        {"precision": "bf16"},
        {"libraries": {"torch": "2"}},
        {"batch_rule": ""},
    ):
        other = Header(**{**HEADER.__dict__, **change})
        assert other.key != HEADER.key
        build(tmp_path / "s", job)
        with pytest.raises(ShardError, match="another store"):
            store.read(tmp_path / "s", other, 0, HybridVectors)


def test_values_beyond_16_bits_are_named(tmp_path, job):
    class Large(Fake):
        def documents(self, docs, done):
            vectors = super().documents(docs, done)
            dense = vectors.dense.copy()
            dense[4] = np.inf
            return HybridVectors(dense, vectors.term_ids, vectors.term_weights)

    with pytest.raises(InputError, match="document 'long-dé4' holds values that are not finite in 16 bits"):
        build(tmp_path / "s", job, Large())
    assert not list((tmp_path / "s").glob("shard*"))


def test_a_full_disk_leaves_no_half_shard(tmp_path, job, monkeypatch):
    def full(arrays, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(store, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        build(tmp_path / "s", job)
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [".lock", "store.json"]
