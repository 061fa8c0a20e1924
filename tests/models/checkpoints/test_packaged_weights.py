"""The weights that are packed under models/data, each of them: size, precision, files, card, and vectors."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from harness.models import hybrid
from harness.models.checkpoints import checkpoint, hub, packaged
from harness.models.checkpoints.weights import quiet
from harness.reports.card import SECTIONS
from harness.retrievers.neural.catalog import entries
from harness.retrievers.registry import get
from harness.retrievers.types import Document, Query

pytestmark = pytest.mark.usefixtures("one_thread")
MEGABYTES = 25  # of all of them in the package
NEEDED = {"README.md", "config.json", "hybrid.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
ALLOWED = NEEDED | {"cls_projection.safetensors", "special_tokens_map.json", "vocab.txt"}
TEXTS = ["The river Rhine runs from the Alps to the North Sea.", "who wrote the first novel", "zebra 42 !?"]


@pytest.fixture(params=packaged.NAMES)
def model(request):
    """(name, folder) of each model that is packed."""
    return request.param, packaged.folder(request.param)


def test_nothing_else_is_packed_and_all_of_it_is_small():
    found = [path for path in packaged.FOLDER.rglob("*") if path.is_file()]
    assert {path.relative_to(packaged.FOLDER).parts[0] for path in found} <= {*packaged.NAMES}
    assert sum(path.stat().st_size for path in found) <= MEGABYTES * 1_000_000
    assert all(path.stat().st_size < 16 * 2**20 for path in found)


def test_the_folder_holds_what_loading_needs_in_16_bits(model):
    name, folder = model
    files = {path.name for path in folder.iterdir()}
    assert NEEDED <= files <= ALLOWED
    spec = hybrid.read(folder)
    assert ("cls_projection.safetensors" in files) == (spec.dense not in (0, _config(folder)["hidden_size"]))
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            assert {opened.get_tensor(tensor).dtype for tensor in names} == {torch.float16}
            assert "cls.predictions.decoder.weight" not in names  # the embedding table, which is there once
    assert (spec.lexical == 0) == (name == "retromae-mini")


def test_no_file_names_a_path_of_the_machine_it_was_made_on(model):
    for path in model[1].iterdir():
        text = path.read_bytes().decode("utf-8", "replace") if path.suffix != ".safetensors" else ""
        text = "" if path.name == "tokenizer.json" else text  # a vocabulary has words with a stroke
        assert not re.search(r"(?:^|[\s`'\"(=\[:])(/[\w.-]+/)", text), path


def test_it_says_how_it_was_trained_and_fills_no_comparable_cell(model):
    """What decides that is in its own files: a past of its own, and sizes that are not the paper's."""
    name, folder = model
    trained, sizes = hybrid.read(folder).trained, _config(folder)
    assert trained["pretraining"] == ("CLS and OT decoding" if name == "dupmae-mini" else "CLS decoding")
    assert trained["pretrained_on"]
    assert trained["finetuned_on"]
    assert sizes["num_hidden_layers"] < 12
    assert sizes["hidden_size"] < 768


def test_its_card_has_every_section_and_is_of_these_weights(model):
    name, folder = model
    card = (folder / "README.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", card, flags=re.MULTILINE)
    found = {title: text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)}
    assert tuple(found) == SECTIONS
    assert all(len(text) > 20 for text in found.values())
    assert f"`{hub.content_hash(folder)}`" in card
    assert f"license: {entries()[name].licence.lower()}\n" in card
    assert entries()[name].licence in found["Licence"]
    for source in (*hybrid.read(folder).trained["pretrained_on"], *hybrid.read(folder).trained["finetuned_on"]):
        assert f"`{source}`" in found["Data"]


def test_its_vectors_are_those_of_the_formula_written_out(model):
    """A second path: transformers alone, a text at a time, float32: CLS through the projection, the logits' maximum."""
    name, folder = model
    cls = get(name)
    retriever = cls(cls.Options(device="cpu"))
    spec, tokenizer = hybrid.read(folder), AutoTokenizer.from_pretrained(folder)
    kind = AutoModelForMaskedLM if spec.lexical else AutoModel
    with quiet():
        net = kind.from_pretrained(folder, dtype=torch.float32).eval()
    found = retriever.query_encoder.queries([Query(str(n), text) for n, text in enumerate(TEXTS)])
    stored = retriever.encoder.documents([Document(str(n), "", text) for n, text in enumerate(TEXTS)], lambda _: None)
    for row, text in enumerate(TEXTS):
        given = tokenizer(text, truncation=True, max_length=spec.query_length, return_tensors="pt")
        with torch.no_grad():
            out = net(**given, output_hidden_states=True)
        dense = out.hidden_states[-1][0, 0]
        if (folder / checkpoint.PROJECTION).is_file():
            with safe_open(folder / checkpoint.PROJECTION, "pt") as file:
                dense = file.get_tensor("weight").float() @ dense
        np.testing.assert_allclose(found.dense[row], dense.numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(stored.dense[row], dense.numpy(), rtol=2e-3, atol=2e-3)
        if spec.lexical:
            logits = out.logits[0, 1:-1].max(0).values.numpy()
            np.testing.assert_allclose(found.lexical[row], spec.lexical_scale * logits, rtol=1e-4, atol=1e-4)
            kept = dict(zip(stored.term_ids[row].tolist(), stored.term_weights[row].tolist(), strict=True))
            assert len(kept) == spec.lexical
            assert min(kept.values()) >= np.sort(logits)[-spec.lexical] - 5e-2
            for term, weight in kept.items():
                assert weight == pytest.approx(logits[term], rel=2e-3, abs=2e-3)


def _config(folder):
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))
