"""Each encoder family against a second, naive implementation: whole logits, and `transformers` own forward passes."""

import pytest
import torch
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput

from harness.models.layers import families
from harness.models.layers.encoder import decoder_of, max_pooled_at, max_pooled_logits
from harness.models.losses.pretraining import IGNORED
from harness.models.pretraining.config import PretrainConfig
from harness.models.pretraining.mae import DupMAE, RetroMAE
from harness.models.pretraining.masking import Collator, Vocabulary
from tests.support import tiny
from tests.support.families import CONFIGS, SIZE, masked_lm

FIRST = {"camembert": 1, "mpnet": 2, "roberta": 1, "xlm-roberta": 1}  # the position of a first token; padding is 0


def batch_for(config, lengths=(12, 5, 9, 2)):
    vocabulary = Vocabulary.of(tiny.tokenizer())
    torch.manual_seed(0)
    texts = [torch.randint(5, vocabulary.size, (n,)).tolist() for n in lengths]
    return Collator(vocabulary, config, max_length=max(16, max(lengths) + 2), seed=3)(texts, step=7)


def logits_of(lm, monkeypatch, states, batch):
    """The model's own head, by its whole forward pass over states that its body is made to give."""
    with monkeypatch.context() as patch:
        patch.setattr(type(lm.base_model), "forward", lambda *_, **__: BaseModelOutput(last_hidden_state=states))
        return lm(input_ids=batch.encoder_input_ids).logits


def written_out(model, lm, config, batch, monkeypatch):
    """The three losses with all logits held, as tests/models/pretraining/test_pretraining.py has them for BERT."""
    mask = batch.attention_mask
    answer = lm(input_ids=batch.encoder_input_ids, attention_mask=mask, output_hidden_states=True)
    hidden, logits = answer.hidden_states[-1], answer.logits
    if lm.config.model_type == "modernbert":  # a norm comes behind the last layer
        hidden = lm.base_model(input_ids=batch.encoder_input_ids, attention_mask=mask).last_hidden_state
    mlm = functional.cross_entropy(logits.view(-1, SIZE).float(), batch.encoder_labels.view(-1), reduction="sum") / len(
        mask
    )
    block = lm.base_model(
        input_ids=batch.decoder_input_ids, attention_mask=mask, output_hidden_states=True
    ).hidden_states[0]
    length, own = mask.shape[1], model.positions
    if own is None:
        first = FIRST.get(lm.config.model_type, 0)
        positions = lm.base_model.embeddings.position_embeddings.weight[first : first + length]
    else:
        positions = own.weight[:length]
        if lm.config.model_type in ("deberta", "deberta-v2", "modernbert"):
            block = block + positions
    context = torch.cat([hidden[:, :1], block[:, 1:]], dim=1)
    rebuilt = model.decoder(hidden[:, :1] + positions, context, batch.decoder_mask)
    again = logits_of(lm, monkeypatch, rebuilt, batch).view(-1, SIZE).float()
    reconstruction = functional.cross_entropy(again, batch.decoder_labels.view(-1), reduction="sum") / len(mask)
    bow = 0.0
    for row, own_mask in enumerate(mask):
        n = int(own_mask.sum())
        kept = [i for i in range(1, n - 1) if batch.encoder_labels[row, i] == IGNORED]
        log_p = logits[row, kept].float().max(0).values.log_softmax(-1)
        bow = bow - sum(log_p[x] for x in set(batch.decoder_input_ids[row, 1 : n - 1].tolist())) / len(mask)
    return mlm, reconstruction, bow


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_objective_of_each_family(name, kind, monkeypatch, one_thread):
    """Values and gradients; in bf16 by autocast, as training runs."""
    if (name, kind) == ("deberta", "bf16"):
        pytest.skip("transformers' DeBERTa of the first version cannot: training refuses it")
    lm, config = masked_lm(name), PretrainConfig.paper("DupMAE", chunk_logits=2000)
    model, batch = DupMAE(lm, config).eval(), batch_for(config)
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
        found = model(batch)
        expected = written_out(model, lm, config, batch, monkeypatch)
    tolerance = {"rtol": 1e-5, "atol": 1e-4} if kind == "fp32" else {"rtol": 0.02, "atol": 0.1}
    for one, other in zip((found.mlm, found.reconstruction, found.bow), expected, strict=True):
        torch.testing.assert_close(one.float(), other.float(), **tolerance)
    parameters = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(found.total, parameters, allow_unused=True)
    theirs = torch.autograd.grad(sum(expected), parameters, allow_unused=True)
    largest = max(other.norm() for other in theirs if other is not None)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert (one - other).norm() <= (1e-5 if kind == "fp32" else 0.05) * largest


@pytest.mark.parametrize("name", CONFIGS)
def test_decoder_query_of_the_embedding_block(name):
    """The authors' DupMAE; a narrow embedding cannot take states, which is said."""
    lm, config = masked_lm(name), PretrainConfig.official("DupMAE")
    model = DupMAE(lm, config).eval()
    if "narrow" in name:
        with pytest.raises(ValueError, match="word embeddings are narrower than its states"):
            model(batch_for(config))
        return
    found = model(batch_for(config))
    assert torch.isfinite(found.total)
    # the rows of the query differ by their positions
    states = families.embedded_states(lm.base_model, torch.ones(1, 6, 32))
    assert (states[0, 0] != states[0, 5]).any() == families.has_positions(lm.base_model)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_head_of_each_family(name, monkeypatch):
    """It is the model's own, whole and in its two parts."""
    lm, batch = masked_lm(name), batch_for(PretrainConfig.paper("DupMAE"))
    states = torch.randn(*batch.attention_mask.shape, 32)
    head = families.mlm_head(lm)
    expected = logits_of(lm, monkeypatch, states, batch)
    torch.testing.assert_close(head(states), expected)
    transform, decoder = decoder_of(head)
    torch.testing.assert_close(transform(states) @ decoder.weight.T + decoder.bias, expected)
    keep = batch.attention_mask.bool()
    pooled = max_pooled_logits(head, states, keep)
    terms = pooled.topk(3).indices
    torch.testing.assert_close(max_pooled_at(head, states, keep, terms), pooled.gather(1, terms))


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_is_nan_where_a_text_is_mostly_padding(name):
    """ModernBERT's local attention leaves padding beyond its window without anything to see (NaN upstream)."""
    lm, config = masked_lm(name), PretrainConfig.paper("DupMAE")
    model = DupMAE(lm, config).train()
    batch = batch_for(config, (36, 1, 2))
    total = model(batch).total
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["deberta-v2", "modernbert"])
def test_positions_of_its_own_stay_behind(name, tmp_path):
    """They are the decoder's: what is saved has the model's weights alone, and they learn."""
    lm = masked_lm(name)
    model = DupMAE(lm, PretrainConfig.paper("DupMAE"))
    assert model.positions is not None
    model(batch_for(model.config)).total.backward()
    assert model.positions.weight.grad.abs().sum() > 0
    assert not any("positions" in key for key in lm.state_dict())
    assert DupMAE(masked_lm("bert"), PretrainConfig.paper("DupMAE")).positions is None


def test_the_sentence_vector_may_be_the_mean(one_thread):
    """As an encoder pools that is searched so: the mean over all attended states, padding left out."""
    lm, config = masked_lm("bert"), PretrainConfig.paper("RetroMAE")
    batch, found = batch_for(config), []
    model = RetroMAE(lm, config, "mean").eval()
    hidden = lm.bert(batch.encoder_input_ids, batch.attention_mask).last_hidden_state
    rows = []
    for row, n in enumerate(batch.attention_mask.sum(1).tolist()):
        rows.append(hidden[row, :n].mean(0))
    vector = torch.stack(rows).unsqueeze(1)
    block = lm.bert.embeddings(input_ids=batch.decoder_input_ids)
    context = torch.cat([vector, block[:, 1:]], dim=1)
    query = vector + lm.bert.embeddings.position_embeddings.weight[: block.shape[1]]
    logits = lm.cls(model.decoder(query, context, batch.decoder_mask)).view(-1, SIZE)
    expected = functional.cross_entropy(logits, batch.decoder_labels.view(-1), reduction="sum") / len(hidden)
    found = model(batch)
    torch.testing.assert_close(found.reconstruction, expected)
    assert (model(batch).reconstruction != RetroMAE(masked_lm("bert"), config).eval()(batch).reconstruction).all()


def test_an_unknown_head_is_named():
    class Other:
        class config:
            model_type = "longformer"

    with pytest.raises(ValueError, match="the masked-LM head of 'longformer' is not known; there is bert, camembert"):
        families.mlm_head(Other)
