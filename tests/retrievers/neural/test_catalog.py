"""Every entry of the catalog: its facts are of one piece, and its vectors are those that its authors' code makes.

References are transformers, sentence-transformers, or the formula written out, on small random weights in the layout in
which the system is published.
"""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from torch import nn
from transformers import AutoModel, AutoModelForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from harness.models.checkpoints import hub, packaged
from harness.models.checkpoints.weights import quiet
from harness.models.errors import CheckpointError
from harness.reports.paper.published import published
from harness.retrievers.errors import InputError
from harness.retrievers.neural.catalog import Entry, entries
from harness.retrievers.registry import available, get
from harness.retrievers.types import Document, Query
from tests.support import tiny
from tests.support.layouts import SIZE, ance, backbone, saved

DOCS = [
    Document("1", "green pears", "red apples grow on trees"),
    Document("2", "", "water runs to the sea"),
    Document("3", "money", ""),
]
ASKED = ["what is a river", "red fish"]
VERIFIED = [name for name, entry in entries().items() if entry.verified == "against reference"]
HERE = [
    name
    for name in VERIFIED
    if entries()[name].kind != "late interaction"
    and name not in packaged.NAMES  # tests/models/checkpoints/test_packaged.py
]


def distilbert(folder):
    torch.manual_seed(6)
    settings = {"vocab_size": SIZE, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "initializer_range": 0.3}
    with quiet():
        DistilBertForMaskedLM(DistilBertConfig(**settings)).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)


def folder_for(entry: Entry, folder):
    """A small random checkpoint in the entry's own layout."""
    if entry.kind == "hybrid":
        return tiny.save_hybrid(folder, **{} if entry.values is None else {"dense": 16, "lexical": 12})
    if entry.layout == "ANCE":
        ance(folder)
    elif entry.layout == "sentence-transformers":
        modules = [lambda: Pooling(32, "mean"), lambda: Dense(32, 24, bias=False, activation_function=nn.Identity())]
        return saved(folder, *modules, Normalize, kind=entry.architecture)[0]
    elif entry.architecture == "distilbert":
        distilbert(folder)
    else:
        backbone(folder, entry.architecture)
    return folder


def inputs(entry: Entry, doc: Document):
    """What the tokenizer is given, as the authors' scripts write it out."""
    if entry.system in ("AR2", "AR2+SimANS", "SimLM"):
        return [doc.title or "-", doc.text]
    if entry.titles == "separator" and doc.title:
        return [f"{doc.title}[SEP]{doc.text}"]
    return [f"{doc.title} {doc.text}".strip()]


def written_out(entry: Entry, folder, texts, length):
    """(dense, lexical) of one text or pair, without batches or padding."""
    if entry.layout == "sentence-transformers":
        model = SentenceTransformer(str(folder), device="cpu")
        return model.encode(texts)[0], None
    typed = entry.system == "SimLM"  # the one that hands token types on
    settings = {"truncation": True, "max_length": length, "return_tensors": "pt", "return_token_type_ids": typed}
    found = tiny.tokenizer()(*([text] for text in texts), **settings)
    assert not typed or len(texts) == 1 or found["token_type_ids"].any()
    with torch.no_grad(), quiet():
        if entry.kind == "lexical":  # SPLADE v2, equation 6
            logits = AutoModelForMaskedLM.from_pretrained(folder).eval()(**found).logits[0]
            return None, torch.log(1 + torch.clamp(logits, min=0)).max(0).values
        if entry.layout == "ANCE":
            body, head, norm = ance(folder)
            return norm(head(body(**found).last_hidden_state[0, 0])), None
        hidden = AutoModel.from_pretrained(folder).eval()(**found).last_hidden_state[0]
    vector = hidden.mean(0) if entry.system == "Contriever" else hidden[0]
    return (vector / vector.norm() if entry.system == "SimLM" else vector), None


@pytest.mark.parametrize("name", [name for name in HERE if entries()[name].kind != "hybrid"])
def test_vectors_and_ranking_are_the_references(tmp_path, name):
    """The hybrid's reference is the formula in test_encoder.py; late interaction has tests of its own."""
    entry, cls = entries()[name], get(name)
    folder = folder_for(entry, tmp_path / "m")
    lengths = {"query_length": 12, "max_length": 12} if entry.layout == "sentence-transformers" else {}
    retriever = cls(cls.Options(checkpoint=str(folder), device="cpu", **lengths))
    docs = retriever.encoder.documents(DOCS, lambda _: None)
    asked = retriever.query_encoder.queries([Query(str(n), text) for n, text in enumerate(ASKED)])
    spec = retriever.spec
    wanted_docs = [written_out(entry, folder, inputs(entry, doc), spec.passage_length) for doc in DOCS]
    wanted = [written_out(entry, folder, [text], spec.query_length) for text in ASKED]
    half = 0 if entry.kind == "dense" else 1
    found = asked.dense if entry.kind == "dense" else asked.lexical
    np.testing.assert_allclose(found, np.array([np.asarray(w[half]) for w in wanted]), rtol=1e-5, atol=1e-5)
    if entry.kind == "dense":
        stored = docs.dense.astype(np.float64)
        assert docs.term_ids.shape[1] == asked.lexical.shape[1] == 0
    else:
        assert docs.dense.shape[1] == 0
        stored = np.zeros((len(DOCS), SIZE))
        for row in range(len(DOCS)):
            np.add.at(stored[row], docs.term_ids[row], docs.term_weights[row])
    truth = np.array([np.asarray(w[half], dtype=np.float64) for w in wanted_docs])
    np.testing.assert_allclose(stored, truth, rtol=2e-3, atol=2e-3)  # stored in 16 bits
    scores = np.array([np.asarray(w[half], dtype=np.float64) for w in wanted]) @ truth.T
    np.testing.assert_array_equal((found.astype(np.float64) @ stored.T).argsort(), scores.argsort())


def test_every_system_of_tables_1_and_2_has_an_entry_and_no_entry_claims_another():
    claimed = {(row.table, row.row) for cls in available().values() for row in cls.about().paper_rows}
    claimed |= {(row.table, row.row) for entry in entries().values() for row in entry.paper_rows}
    for table in (1, 2):
        systems = {name.removesuffix(" (stage 2)").removesuffix(" (stage 3)") for name in published(table).systems}
        assert {row for number, row in claimed if number == table} == systems
    assert {row for number, row in claimed if number == 3} <= set(published(3).rows)


@pytest.mark.parametrize("name", entries())
def test_an_entry_is_whole(name):
    entry = entries()[name]
    assert entry.source
    assert bool(entry.paper_rows) == (name not in packaged.NAMES)
    assert entry.kind == "late interaction" or get(name).summary == entry.summary
    if entry.checkpoint:
        assert entry.architecture
        # what could not be found out is said, not left open
        words = entry.source + ("" if entry.checkpoint != "bert-base-uncased" else " revision")
        assert entry.revision or "revision" in words.lower() or name in ("ance",), "which revision?"
        assert entry.licence or "icence" in entry.source, "which licence?"
    if entry.status == "published numbers only":
        assert not entry.verified
        cls = get(name)
        with pytest.raises(InputError, match="row of published numbers only"):
            cls(cls.Options()).check()


def test_splade_runs_end_to_end(tmp_path, cli, monkeypatch):
    """Every term above 0 is kept, no dense half; bytes a document are counted from what is there."""
    import json

    distilbert(tmp_path / "m")
    monkeypatch.chdir(tmp_path)
    ran = cli("run", "-r", "splade-v2", "--checkpoint", str(tmp_path / "m"), "-m", "R@100")
    assert ran.code == 0, ran.err
    manifest = json.loads(next((tmp_path / "results").rglob("manifest.json")).read_text())
    system = manifest["system"]
    assert (system["options"]["dense"], system["options"]["lexical"]) == (0, SIZE)
    assert 4 < system["bytes_per_document"] < 4 * SIZE
    assert system["bytes_per_document"] != round(system["bytes_per_document"])  # a mean
    assert system["paper_rows"] == []  # a checkpoint of the user's that does not say how it was trained


def test_queries_may_have_an_encoder_of_their_own(tmp_path):
    passages, queries = tiny.save_hybrid(tmp_path / "p"), tiny.save_hybrid(tmp_path / "q", seed=1)
    cls = get("dupmae")
    both = cls(cls.Options(checkpoint=str(passages), query_checkpoint=str(queries), device="cpu"))
    alone = [cls(cls.Options(checkpoint=str(folder), device="cpu")) for folder in (passages, queries)]
    asked = [Query("1", ASKED[0])]
    np.testing.assert_array_equal(
        both.encoder.documents(DOCS, print).dense, alone[0].encoder.documents(DOCS, print).dense
    )
    np.testing.assert_array_equal(both.query_encoder.queries(asked).dense, alone[1].encoder.queries(asked).dense)
    assert len({both.fingerprint(), *(one.fingerprint() for one in alone)}) == 3
    assert both.checkpoint_hash == alone[0].checkpoint_hash == hub.content_hash(passages)  # one store serves both


# --- what is refused


def refused(name, folder, message, error=CheckpointError, **options):
    cls = get(name)
    retriever = cls(cls.Options(checkpoint=str(folder), device="cpu", **options))
    with pytest.raises(error, match=message):
        retriever.check()


def test_a_checkpoint_of_another_architecture_than_the_entry_says(tmp_path):
    backbone(tmp_path / "bert")
    backbone(tmp_path / "roberta", "roberta")
    backbone(tmp_path / "t5", "t5")
    refused("tas-b", tmp_path / "bert", "is a 'bert' model, and TAS-B is a 'distilbert' one")
    refused(
        "ance", tmp_path / "roberta", "is a plain checkpoint, and ANCE is a ANCE one: it has weights `embeddingHead`"
    )
    refused(
        "gtr-base",
        tmp_path / "t5",
        "is a plain checkpoint, and GTR-base is a sentence-transformers one: it has a modules.json",
    )


def test_an_absent_hub_model_without_a_network(monkeypatch):
    def away(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", away)
    cls = get("contriever")
    with pytest.raises(CheckpointError, match=r"facebook/contriever-msmarco .*hf download .*--checkpoint FOLDER"):
        cls(cls.Options()).check()


def test_a_vocabulary_of_queries_that_is_not_the_passages(tmp_path):
    passages = tiny.save_hybrid(tmp_path / "p")
    backbone(tmp_path / "q")
    with quiet():
        tiny.masked_lm(vocab_size=SIZE + 1).save_pretrained(tmp_path / "q")
    cls = get("dupmae")
    retriever = cls(cls.Options(checkpoint=str(passages), query_checkpoint=str(tmp_path / "q"), dense=0, device="cpu"))
    with pytest.raises(InputError, match="do not belong together"):
        _ = retriever.query_encoder
