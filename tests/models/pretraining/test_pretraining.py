"""The pre-training objectives: each equation by hand, by a second way, and as the authors' code has them."""

import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional
from transformers.models.bert.modeling_bert import BertLayer

from harness.models.layers.decoder import EnhancedDecoderLayer
from harness.models.losses import pretraining as losses
from harness.models.pretraining.config import PretrainConfig
from harness.models.pretraining.mae import DupMAE, PretrainBatch, RetroMAE, ordinary
from harness.models.pretraining.masking import Collator, Vocabulary
from harness.models.pretraining.task import effective_rank, spread
from tests.support import tiny, training

IGNORED = losses.IGNORED


def identity(states):
    return states


# --- equations by hand


def test_cross_entropy_by_hand():
    """Logits (0, 0) and (ln 3, 0) with labels 0 and 1: -ln 1/2 and -ln 1/4, mean (ln 2 + ln 4) / 2 = 1.5 ln 2."""
    hidden = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0], [9.0, 9.0]]])
    labels = torch.tensor([[0, 1, IGNORED]])
    assert losses.cross_entropy_at(identity, hidden, labels, chunk=2).item() == pytest.approx(1.5 * math.log(2))
    summed = losses.cross_entropy_at(identity, hidden, labels, chunk=2, summed=True)  # of the one text
    assert summed.item() == pytest.approx(3 * math.log(2))


def test_bag_of_words_by_hand():
    """μ = (0, ln 2, 0): softmax (1/4, 1/2, 1/4). The words of `1 0 1` are {0, 1}: -ln 1/4 - ln 1/2 = 3 ln 2.

    With 1/n, n = 3 tokens: ln 2. The special token 2 does not count.
    """
    pooled = torch.tensor([[0.0, math.log(2), 0.0]])
    ids, words = torch.tensor([[2, 1, 0, 1, 2]]), torch.tensor([[False, True, True, True, False]])
    assert losses.bag_of_words(pooled, ids, words, over_n=False).item() == pytest.approx(3 * math.log(2))
    assert losses.bag_of_words(pooled, ids, words, over_n=True).item() == pytest.approx(math.log(2))


def test_max_pool_by_hand():
    """Position 0 is not kept, so the greatest of columns (1, 5) and (3, 2) are 3 and 5."""
    hidden = torch.tensor([[[9.0, 9.0], [1.0, 5.0], [3.0, 2.0]]])
    keep = torch.tensor([[False, True, True]])
    assert losses.max_pool(identity, hidden, keep, chunk=100).tolist() == [[3.0, 5.0]]
    with pytest.raises(ValueError, match="sequence 0 of the batch has no token to pool"):
        losses.max_pool(identity, hidden, torch.zeros(1, 3, dtype=torch.bool), chunk=100)


def test_no_label_at_all_is_an_error():
    with pytest.raises(ValueError, match="no position of the batch is labelled"):
        losses.cross_entropy_at(identity, torch.zeros(1, 2, 3), torch.full((1, 2), IGNORED), chunk=10)


def test_ordinary_positions():
    attended = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    assert ordinary(attended).long().tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]


# --- chunks and recomputation change neither value nor gradient


def random_case(seed=0):
    torch.manual_seed(seed)
    head = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 40)).double()
    hidden = torch.randn(6, 7, 8, dtype=torch.float64, requires_grad=True)
    return head, hidden


def gradients(loss, head, hidden):
    return torch.autograd.grad(loss, [hidden, *head.parameters()], retain_graph=True)


@pytest.mark.parametrize("chunk", [1, 90, 1000, 1 << 25])
def test_chunked_losses_equal_the_naive_ones_in_value_and_gradient(chunk):
    head, hidden = random_case()
    labels = torch.where(torch.rand(6, 7) < 0.4, torch.randint(40, (6, 7)), IGNORED)
    keep = torch.rand(6, 7) < 0.6
    keep[:, 1] = True
    ids, words = torch.randint(40, (6, 7)), torch.rand(6, 7) < 0.7
    words[:, 2] = True

    logits = head(hidden).float()
    naive_ce = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    pooled = logits.masked_fill(~keep.unsqueeze(-1), float("-inf")).max(1).values
    target = torch.zeros(6, 40).scatter_add_(1, ids, words.float()).clamp(max=1)
    naive_bow = -(target * pooled.log_softmax(1)).sum(1).mean()

    ce = losses.cross_entropy_at(head, hidden, labels, chunk)
    bow = losses.bag_of_words(losses.max_pool(head, hidden, keep, chunk), ids, words, over_n=False)
    for ours, naive in ((ce, naive_ce), (bow, naive_bow)):
        torch.testing.assert_close(ours, naive, rtol=1e-5, atol=1e-6)
        for one, other in zip(gradients(ours, head, hidden), gradients(naive, head, hidden), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


# --- the decoder


def test_a_bert_layers_weights_load_and_give_its_output_where_the_streams_are_one():
    """Query = context makes the two-stream layer an ordinary BERT layer, mask and all."""
    config = tiny.config(attn_implementation="eager")
    torch.manual_seed(0)
    reference = BertLayer(config).eval()
    ours = EnhancedDecoderLayer(config).eval()
    ours.load_state_dict(reference.state_dict())
    hidden = torch.randn(3, 9, 32)
    visible = torch.rand(3, 9, 9) < 0.5
    visible[:, :, 0] = True
    additive = (~visible).unsqueeze(1).float() * torch.finfo(torch.float32).min
    expected = reference(hidden, additive)
    expected = expected[0] if isinstance(expected, tuple) else expected
    torch.testing.assert_close(ours(hidden, hidden, visible), expected, rtol=1e-5, atol=1e-5)


def test_rows_see_what_the_mask_says_and_nothing_else():
    torch.manual_seed(0)
    layer = EnhancedDecoderLayer(tiny.config()).eval()
    query, context = torch.randn(1, 5, 32), torch.randn(1, 5, 32)
    visible = torch.ones(1, 5, 5)
    visible[0, 2, 3] = 0
    before = layer(query, context, visible)
    changed = context.clone()
    changed[0, 3] += 1
    after = layer(query, changed, visible)
    same = (before == after).all(-1)[0].tolist()
    assert same == [False, False, True, False, False]
    assert torch.isfinite(layer(query, context, torch.zeros(1, 5, 5))).all()  # a row of padding sees nothing


# --- the whole objective, written out a second time


def batch_for(config, seed=0):
    vocabulary = Vocabulary.of(tiny.tokenizer())
    torch.manual_seed(seed)
    texts = [torch.randint(5, vocabulary.size, (n,)).tolist() for n in (12, 5, 9, 2)]
    return Collator(vocabulary, config, max_length=16, seed=3)(texts, step=7)


def written_out(model, lm, config, batch: PretrainBatch):
    """Equations 2 to 9 with full logits and dense targets, from the words of the paper and of the authors' code."""
    hidden = lm.bert(batch.encoder_input_ids, batch.attention_mask).last_hidden_state
    logits = lm.cls(hidden)
    size = logits.shape[-1]
    summed = config.reduction == "sum"
    per = {"reduction": "sum" if summed else "mean"}  # the sum is then averaged over the batch's texts
    texts = len(hidden) if summed else 1
    mlm = functional.cross_entropy(logits.view(-1, size), batch.encoder_labels.view(-1), **per) / texts
    cls, length = hidden[:, :1], hidden.shape[1]
    context = torch.cat([cls, lm.bert.embeddings(input_ids=batch.decoder_input_ids)[:, 1:]], dim=1)
    if config.decoder_query == "position":
        query = cls + lm.bert.embeddings.position_embeddings.weight[:length]
    else:
        query = lm.bert.embeddings(inputs_embeds=cls.repeat(1, length, 1))
    rebuilt = lm.cls(model.decoder(query, context, batch.decoder_mask))
    reconstruction = functional.cross_entropy(rebuilt.view(-1, size), batch.decoder_labels.view(-1), **per) / texts
    if config.kind == "RetroMAE":
        return mlm, reconstruction, None
    terms = []
    for row in range(len(logits)):
        n = int(batch.attention_mask[row].sum())
        original = batch.decoder_input_ids[row, 1 : n - 1].tolist()
        if config.bow_positions == "unmasked":
            positions = [i for i in range(1, n - 1) if batch.encoder_labels[row, i] == IGNORED]
        else:
            positions = list(range(1, n))
        log_p = logits[row, positions].max(0).values.log_softmax(-1)
        weight = 1 / len(original) if config.bow_weights == "one_over_n" else 1.0
        terms.append(-weight * sum(log_p[x] for x in set(original)))
    return mlm, reconstruction, sum(terms) / len(terms)


@pytest.mark.parametrize("kind", ["DupMAE", "RetroMAE"])
@pytest.mark.parametrize("preset", [PretrainConfig.paper, PretrainConfig.official])
def test_the_objective_is_the_formula_in_value_and_gradient(kind, preset):
    config = preset(kind, chunk_logits=2000)
    lm = tiny.masked_lm()
    model = (DupMAE if kind == "DupMAE" else RetroMAE)(lm, config).eval()
    batch = batch_for(config)
    found = model(batch)
    mlm, reconstruction, bow = written_out(model, lm, config, batch)
    torch.testing.assert_close(found.mlm, mlm, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.reconstruction, reconstruction, rtol=1e-5, atol=1e-5)
    total = mlm + reconstruction
    if bow is None:
        assert found.bow is None
    else:
        torch.testing.assert_close(found.bow, bow, rtol=1e-5, atol=1e-5)
        total = total + config.bow_loss_weight * bow
    torch.testing.assert_close(found.total, total, rtol=1e-5, atol=1e-5)
    parameters = [p for p in model.parameters() if p.requires_grad]
    ours = torch.autograd.grad(found.total, parameters, allow_unused=True)
    theirs = torch.autograd.grad(total, parameters, allow_unused=True)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_configuration_of_the_other_kind_is_refused():
    with pytest.raises(ValueError, match="DupMAE was given a configuration of kind 'RetroMAE'"):
        DupMAE(tiny.masked_lm(), PretrainConfig.paper("RetroMAE"))


def test_ot_decoding_alone_is_the_masked_lm_and_the_bag_of_words():
    """The third pre-training of Table 3: nothing is reconstructed, and the decoder learns nothing."""
    both = PretrainConfig.paper("DupMAE")
    lm = tiny.masked_lm()
    batch = batch_for(both)
    whole = DupMAE(lm, both).eval()(batch)
    assert PretrainConfig.paper("DupMAE", reconstruction_weight=0.0).tasks == "OT decoding"
    model = DupMAE(lm, PretrainConfig.paper("DupMAE", reconstruction_weight=0.0)).eval()
    found = model(batch)
    assert found.reconstruction is None
    torch.testing.assert_close(found.total, whole.mlm + whole.bow)
    found.total.backward()
    assert all(weight.grad is None for weight in model.decoder.parameters())
    assert all(weight.grad is not None for weight in lm.parameters())


def test_presets_differ_where_the_table_says():
    paper, official = PretrainConfig.paper("DupMAE"), PretrainConfig.official("DupMAE")
    assert (paper.corruption, official.corruption) == ((1.0, 0.0, 0.0), (0.8, 0.1, 0.1))
    assert (paper.bow_loss_weight, official.bow_loss_weight) == (1.0, 0.1)
    assert (paper.reduction, official.reduction) == ("sum", "mean")
    assert PretrainConfig.official("RetroMAE").decoder_query == "position"
    for wrong in (
        {"kind": "BERT"},
        {"encoder_mask_rate": 0.0},
        {"corruption": (0.5, 0.1, 0.1)},
        {"bow_weights": "two"},
        {"bow_loss_weight": -1.0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            PretrainConfig(**wrong)


# --- the collator


@pytest.fixture
def vocabulary():
    return Vocabulary.of(tiny.tokenizer())


def collate(vocabulary, texts, step=0, max_length=60, seed=0, preset=PretrainConfig.paper, **changes):
    return Collator(vocabulary, preset("DupMAE", **changes), max_length, seed)(texts, step)


def random_texts(vocabulary, n=40, length=50, seed=0):
    torch.manual_seed(seed)
    return [torch.randint(5, vocabulary.size, (length,)).tolist() for _ in range(n)]


def words_of(vocabulary, text):
    groups = []
    for token in text:
        if groups and vocabulary.continues[token]:
            groups[-1].append(token)
        else:
            groups.append([token])
    return groups


def test_shapes_and_special_tokens(vocabulary):
    batch = collate(vocabulary, [[10, 11, 12], list(range(10, 90))], max_length=20)
    assert batch.decoder_input_ids.shape == (2, 20)
    assert batch.decoder_input_ids[0].tolist() == [2, 10, 11, 12, 3, *[0] * 15]
    assert batch.decoder_input_ids[1].tolist() == [2, *range(10, 28), 3]
    assert batch.attention_mask.sum(1).tolist() == [5, 20]
    assert batch.decoder_labels[0].tolist() == [2, 10, 11, 12, 3, *[IGNORED] * 15]
    only = collate(vocabulary, [[10, 11, 12]], decoder_labels="ordinary").decoder_labels
    assert only[0].tolist() == [IGNORED, 10, 11, 12, IGNORED]
    with pytest.raises(ValueError, match="text 1 of the batch has no token"):
        collate(vocabulary, [[10], []])


def test_whole_words_are_masked_together_at_the_rate(vocabulary):
    texts = random_texts(vocabulary, n=200)
    batch = collate(vocabulary, texts)
    chosen = batch.encoder_labels != IGNORED
    assert (batch.encoder_input_ids[chosen] == vocabulary.mask_id).all()
    assert (batch.encoder_input_ids[~chosen] == batch.decoder_input_ids[~chosen]).all()
    assert (batch.encoder_labels[chosen] == batch.decoder_input_ids[chosen]).all()
    total = masked = 0
    for row, text in enumerate(texts):
        place = 1
        for word in words_of(vocabulary, text):
            flags = chosen[row, place : place + len(word)].tolist()
            assert len(set(flags)) == 1  # the whole word or nothing of it
            total, masked, place = total + 1, masked + flags[0], place + len(word)
    spread = math.sqrt(0.3 * 0.7 / total)
    assert abs(masked / total - 0.3) < 4 * spread


def test_the_decoder_mask_of_each_row_is_its_own(vocabulary):
    texts = random_texts(vocabulary, n=30)
    batch = collate(vocabulary, texts)
    visible, length = batch.decoder_mask, 52
    assert not visible.diagonal(dim1=1, dim2=2).any()
    assert visible[:, 1:, 0].all()  # every other row sees [CLS]
    inner = visible[:, :, 1:51].float()
    assert abs(inner.mean().item() - 0.5) < 0.02
    rows = {tuple(visible[0, i, 1:51].tolist()) for i in range(length)}
    assert len(rows) == length
    for i in range(length):  # columns of one word are seen together, but for the row's own token
        place = 1
        for word in words_of(vocabulary, texts[0]):
            seen = {visible[0, i, j].item() for j in range(place, place + len(word)) if j != i}
            assert len(seen) <= 1
            place += len(word)


def test_padding_is_never_seen_and_sees_nothing(vocabulary):
    batch = collate(vocabulary, [[10, 11, 12], list(range(10, 40))])
    assert not batch.decoder_mask[0, :, 5:].any()
    assert not batch.decoder_mask[0, 5:].any()


def test_official_corruption_shares(vocabulary):
    batch = collate(vocabulary, random_texts(vocabulary, n=400), preset=PretrainConfig.official)
    chosen = batch.encoder_labels != IGNORED
    new, old = batch.encoder_input_ids[chosen], batch.encoder_labels[chosen]
    assert abs((new == vocabulary.mask_id).float().mean().item() - 0.8) < 0.02
    assert abs((new == old).float().mean().item() - 0.1) < 0.02


def test_a_batch_is_a_function_of_seed_and_step(vocabulary):
    texts = random_texts(vocabulary)
    first = collate(vocabulary, texts, step=5)
    assert all(torch.equal(a, b) for a, b in zip(first, collate(vocabulary, texts, step=5), strict=True))
    for other in (collate(vocabulary, texts, step=6), collate(vocabulary, texts, step=5, seed=1)):
        assert not torch.equal(first.decoder_mask, other.decoder_mask)
        assert not torch.equal(first.encoder_labels, other.encoder_labels)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_texts_keep_something_to_pool_and_something_to_guess(vocabulary, length):
    batch = collate(vocabulary, [[10 + n for n in range(length)]] * 300)
    masked = (batch.encoder_labels != IGNORED).sum(1)
    assert masked.max() < length or length == 1
    assert (masked >= (length > 1)).all()
    assert torch.isfinite(DupMAE(tiny.masked_lm())(collate(vocabulary, [[10, 11]] * 4)).total)


# --- the task, and how far its vectors are from collapse


def test_a_task_shares_its_batch_out_among_processes(one_thread):
    """Four micro-batches of two on two processes: the first and third, the second and fourth."""
    whole = training.pretrain().prepare(3)
    parts = [training.pretrain(rank=rank, processes=2).prepare(3) for rank in range(2)]
    assert [numbers for _, numbers in whole] == [numbers for pair in zip(*parts, strict=True) for _, numbers in pair]
    for (ours, _), (theirs, _) in zip([parts[0][0], parts[1][0], parts[0][1], parts[1][1]], whole, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    task = training.pretrain()
    for piece, (batch, numbers) in enumerate(whole):  # each micro-batch has masks of its own: step 3 begins at the 12th
        again = task.collator([task.tokens[number] for number in numbers], 12 + piece)
        assert all(torch.equal(one, other) for one, other in zip(batch, again, strict=True))
    with pytest.raises(ValueError, match="a batch of 8 is no multiple of micro-batches of 2 on 3 processes"):
        training.pretrain(processes=3)


def test_effective_rank_by_hand():
    """Four points of a square: two equal singular values, rank 2; on a line 1; all in one place 1 as well.

    Stretched so that the values are as 3 to 1: p = (3/4, 1/4), exp(ln 4 - 3/4 ln 3).
    """
    square = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert effective_rank(square + 5) == pytest.approx(2)
    assert effective_rank(square * torch.tensor([1.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.ones(4, 2)) == 1
    assert effective_rank(square * torch.tensor([3.0, 1.0])) == pytest.approx(4 / 3**0.75)


def test_spread_by_a_second_computation(vocabulary):
    model = DupMAE(tiny.masked_lm()).eval()
    texts = random_texts(vocabulary, n=5, length=9)
    found = spread(model, collate(vocabulary, texts), Accelerator(cpu=True))
    rows = [model.lm.bert(torch.tensor([[2, *text, 3]])).last_hidden_state[0, 0] for text in texts]
    pairs = [functional.cosine_similarity(a, b, dim=0).item() for i, a in enumerate(rows) for b in rows[:i]]
    assert found["cosine"] == pytest.approx(sum(pairs) / 10, abs=1e-5)
    assert 1 < found["rank"] <= 4 + 1e-4  # five centred vectors span four dimensions
    same = spread(model, collate(vocabulary, [texts[0]] * 3), Accelerator(cpu=True))
    assert same["cosine"] == pytest.approx(1, abs=1e-5)


def authors_mask(sizes, length, rate, shuffle):
    """Their `_whole_word_mask`, written anew: the words taken of words of these many tokens, in a random order."""
    order = list(range(len(sizes)))
    shuffle(order)
    budget = max(1, round(length * rate))
    taken = set()
    for word in order:
        if sizes[word] <= budget:
            budget -= sizes[word]
            taken.add(word)
    return frozenset(taken)


def test_official_masks_are_drawn_as_the_authors_do(vocabulary):
    """Every set of words is as frequent as theirs is; the rate of another text in the batch changes nothing."""
    sizes, count = (1, 3, 1, 2, 1), 3_000
    continues = [number for number in range(20, vocabulary.size) if vocabulary.continues[number]]
    begins = [number for number in range(20, vocabulary.size) if not vocabulary.continues[number]]
    text = [token for size in sizes for token in (begins[0], *continues[: size - 1])]
    longer = begins[:25]
    draw = random.Random(0)
    wanted = Counter(authors_mask(sizes, len(text) + 2, 0.3, draw.shuffle) for _ in range(count))
    config = PretrainConfig.official("DupMAE")
    batch = Collator(vocabulary, config, 27, 0)([text] * count + [longer], 0)
    chosen = (batch.encoder_labels[:count] != IGNORED)[:, 1 : len(text) + 1]
    ends = np.cumsum(sizes)
    found = Counter(frozenset(np.flatnonzero(row[ends - 1].numpy()).tolist()) for row in chosen)
    for end, size in zip(ends, sizes, strict=True):
        assert not chosen[:, end - size : end].float().var(1, correction=0).any()  # all tokens of a word, or none
    assert found.keys() == wanted.keys()
    for words, times in wanted.items():
        assert abs(found[words] - times) < 5 * math.sqrt(times + 1) + 5, (words, found[words], times)
    assert int((batch.encoder_labels[count] != IGNORED).sum()) == round(27 * 0.3)


def test_official_rows_of_the_decoder_take_one_of_the_texts_masks(vocabulary):
    """Half of the tokens, special ones counted, and the row's own; as many masks as tokens: some rows are alike."""
    begins = [number for number in range(20, vocabulary.size) if not vocabulary.continues[number]][:28]
    batch = Collator(vocabulary, PretrainConfig.official("DupMAE"), 30, 0)([begins], 0)
    hidden = ~batch.decoder_mask[0]  # [L,L]
    assert hidden.diagonal().all()
    assert not hidden[1:-1, [0, -1]].any()
    rows = []
    for number, row in enumerate(hidden):
        others = row.clone()
        others[number] = False
        assert int(others.sum()) in (14, 15)  # 15 of 30, the row's own among them or not
        rows.append(others)
    alike = sum(
        int((one != other).sum()) <= 2 for place, one in enumerate(rows) for other in rows[:place]
    )  # but for the rows' own
    assert 1 <= alike < 60  # by chance 28 draws of 30 masks: 12 pairs or so, where independent masks have none
