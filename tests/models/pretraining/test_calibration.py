"""Where logits begin to count as words: by hand, and as a saved checkpoint of every family has it."""

import numpy as np
import pytest
import torch

from harness.models.checkpoints import checkpoint
from harness.models.checkpoints.weights import quiet
from harness.models.hybrid import HybridSpec
from harness.models.layers.families import mlm_head
from harness.models.pretraining import calibration
from harness.training.student import special_ids
from tests.support import families

TEXTS = ["red apples grow on trees", "green pears", "water runs to the sea", "money", "fish and fish and fish"]


def test_idf_by_hand():
    """Of three texts, term 4 is in all, term 2 in one and twice there, term 0 in none."""
    found = calibration.idf([np.array([4, 2, 2]), np.array([4]), np.array([4, 1], np.uint32)], 5)
    by_hand = {0: np.log(1 + 3.5 / 0.5), 2: np.log(1 + 2.5 / 1.5), 4: np.log(1 + 0.5 / 3.5)}
    for term, value in by_hand.items():
        assert found[term] == pytest.approx(value, rel=1e-6)
    assert found[1] == found[2]
    assert found.dtype == np.float32


def test_the_constant_by_hand():
    """μ + w is [5,1,3] and [2,2,4]: of two terms the second are 3 and 2, 2.5 on the mean."""
    logits = torch.tensor([[4.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
    assert calibration.zero(logits, torch.tensor([1.0, 0.0, 1.0]), 2) == -2.5
    assert calibration.zero(logits, torch.zeros(3), 9) == -1.0  # no more than there are


def test_scores_by_hand():
    """Two passages keep one term each; what falls below 0 counts nothing."""
    passages = torch.tensor([[2.0, 1.0, 9.0], [-1.0, 3.0, -4.0]])
    query, added = torch.tensor([[1.0, 2.0, -5.0]]), torch.tensor([0.0, 1.0, -8.0])
    # with the bias the passages are [2,2,1] and [-1,4,-12], of which terms 0 or 1, and 1 are kept; the query [1,3,-13]
    found = calibration.scores(query, passages, added, 1)
    second = np.log(5) * np.log(4)
    assert found[0, 1].item() == pytest.approx(second)
    assert found[0, 0].item() == pytest.approx(np.log(3) * np.log(2)) or found[0, 0].item() == pytest.approx(
        np.log(3) * np.log(4)
    )
    both = calibration.scores(query, passages, added, 2)
    assert both[0].tolist() == pytest.approx([np.log(3) * (np.log(2) + np.log(4)), second])


@pytest.mark.parametrize("name", families.CONFIGS)
def test_a_saved_checkpoint_has_the_new_zero(name, tmp_path):
    """Every logit is raised by its term's weight and the constant, and K are above 0 on the mean over texts."""
    families.save(tmp_path / "before", name)
    spec = HybridSpec(lexical=12, activation="log1p_relu", passage_length=30, query_length=30)
    loaded = checkpoint.load(tmp_path / "before", spec)
    special = special_ids(loaded.tokenizer, tmp_path)
    rows = [np.array(ids) for ids in loaded.tokenizer(TEXTS, add_special_tokens=False)["input_ids"]]
    weights = torch.from_numpy(calibration.idf(rows, loaded.vocabulary))
    before = calibration.pooled(loaded.encoder, rows, special, "cpu")
    constant = calibration.zero(before, weights, 12)
    calibration.calibrate(loaded.encoder.head, weights + constant)
    with quiet():
        checkpoint.save(tmp_path / "after", loaded.model, loaded.tokenizer, spec)
    again = checkpoint.load(tmp_path / "after", spec)
    after = calibration.pooled(again.encoder, rows, special, "cpu")
    torch.testing.assert_close(after, before + weights + constant, rtol=1e-4, atol=1e-4)
    assert after.topk(12).values[:, -1].mean().item() == pytest.approx(0, abs=1e-4)
    # one text, encoded by itself without padding, and pooled by hand
    ids = torch.tensor([[special[0], *rows[2].tolist(), special[1]]])
    hidden = again.encoder.backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    own = mlm_head(again.model)(hidden)[0]
    ordinary = [place for place, token in enumerate(ids[0].tolist()) if token not in special]
    torch.testing.assert_close(after[2], own[ordinary].max(0).values.detach(), rtol=1e-4, atol=1e-4)
