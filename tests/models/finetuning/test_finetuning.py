"""Fine-tuning: cached gradients against naive ones, what is masked, what is picked, and that it learns."""

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from harness.models.finetuning.biencoder import BiEncoder
from harness.models.finetuning.examples import Examples, FinetuneConfig, check
from harness.models.finetuning.gradient_cache import replay, represent
from harness.models.finetuning.task import FinetuneTask
from harness.models.hybrid import HybridSpec
from harness.models.layers.encoder import Encoder
from harness.models.layers.families import mlm_head
from harness.models.training.batching import chunks
from harness.models.training.config import LoopConfig
from harness.models.training.loop import fit
from harness.models.training.tokens import Ragged
from tests.support import tiny
from tests.support.training import SPECIAL, biencoder, examples, finetune, random_tokens

pytestmark = pytest.mark.usefixtures("one_thread")
GIVEN = {"temperature": 20.0, "lexical_scale": 0.5}


@pytest.fixture(scope="module")
def accelerator():
    return Accelerator(cpu=True)


def gradients(task):
    found = {n: w.grad for n, w in task.module.named_parameters() if w.grad is not None}
    task.module.zero_grad(set_to_none=True)
    return found


def step_of(task, accelerator, step=0):
    """Losses, tokens and gradients of one step."""
    losses, count = task.backward(task.module, task.prepare(step), accelerator)
    return {name: loss.item() for name, loss in losses.items()}, count, gradients(task)


def alike(one, other, tolerance=1e-5):
    assert one.keys() == other.keys()
    largest = max(grad.abs().max().item() for grad in one.values())
    assert largest > 0
    for name, grad in one.items():
        torch.testing.assert_close(grad, other[name], rtol=1e-4, atol=tolerance * max(1.0, largest), msg=name)


# --- the naive way: texts one by one, without padding; vectors [V] with zeros; one softmax over everything


def naive_vector(encoder, text, query):
    ids = torch.tensor([[2, *text.tolist(), 3]])
    hidden = encoder.backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    dense = hidden[0] if encoder.projection is None else encoder.projection(hidden[0])
    if not encoder.spec.lexical:
        return dense, torch.zeros(1)
    pooled = encoder.head(hidden)[1:-1].max(dim=0).values
    if not query:
        least = pooled.sort(descending=True).values[encoder.spec.lexical - 1]
        pooled = torch.where(pooled >= least, pooled, 0.0)
    if encoder.spec.activation == "log1p_relu":
        pooled = torch.log(1 + torch.where(pooled > 0, pooled, torch.zeros_like(pooled)))
    return (dense if encoder.spec.dense else torch.zeros(1)), pooled


def naive_scores(task, step):
    """Dense and lexical scores [q,N], and what the step picked."""
    encoder, known, config = task.module.encoder, task.examples, task.config
    batch = task.prepare(step)
    picks = [known.pick(config, step, number) for number in batch.numbers]
    queries = [naive_vector(encoder, known.queries[number], True) for number in batch.numbers]
    passages = [naive_vector(encoder, known.passages[int(row)], False) for pick in picks for row in pick.rows]
    return *(torch.stack([torch.stack([q[i] @ d[i] for d in passages]) for q in queries]) for i in (0, 1)), batch, picks


def naive_loss(task, step):
    dense, lexical, batch, picks = naive_scores(task, step)
    logits = (dense + task.lexical_scale * lexical) / task.temperature
    rows = [int(row) for pick in picks for row in pick.rows]
    width = 1 + task.config.negatives
    contrastive, distilled = [], []
    for place, number in enumerate(batch.numbers):
        own = place * width
        answers = set(task.examples.positives[number].tolist())
        others = [column for column, row in enumerate(rows) if row not in answers or column == own]
        contrastive.append(-logits[place, own] + logits[place, others].logsumexp(0))
        group = logits[place, own : own + width]
        if task.config.distil:
            teacher = torch.tensor(picks[place].teacher).softmax(0)
            distilled.append(sum(-t * (logit - group.logsumexp(0)) for t, logit in zip(teacher, group, strict=True)))
    contrastive = torch.stack(contrastive).mean()
    if not task.config.distil:
        return contrastive
    return torch.stack(distilled).mean() + task.config.contrastive_weight * contrastive


CASES = {
    "in-batch": {},
    "hard negatives": {"negatives": 3},
    "distillation": {"negatives": 3, "distil": True},
    "distillation and contrast": {"negatives": 3, "distil": True, "contrastive_weight": 0.3},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunk", [1, 3, 256])
def test_loss_and_gradient_are_the_naive_ones(case, chunk, accelerator):
    task = finetune(FinetuneConfig(6, chunk=chunk, **GIVEN, **CASES[case]))
    losses, _, found = step_of(task, accelerator)
    naive = naive_loss(task, 0)
    assert losses["loss"] == pytest.approx(naive.item(), rel=1e-5)
    naive.backward()
    alike(found, gradients(task))


@pytest.mark.parametrize(("dense", "lexical"), [(0, 12), (16, 0), (32, 12), (32, 0)])
@pytest.mark.parametrize("chunk", [2, 256])
def test_either_half_may_be_missing(dense, lexical, chunk, accelerator):
    task = finetune(FinetuneConfig(6, negatives=1, chunk=chunk, **GIVEN), dense=dense, lexical=lexical)
    losses, _, found = step_of(task, accelerator)
    naive = naive_loss(task, 0)
    assert losses["loss"] == pytest.approx(naive.item(), rel=1e-5)
    naive.backward()
    alike(found, gradients(task))
    everything = {name for name, weight in task.module.named_parameters() if weight.requires_grad}
    assert found.keys() == everything  # data-parallel training waits for all


@pytest.mark.parametrize("chunk", [2, 256])
@pytest.mark.parametrize("frozen", [False, True])
def test_log1p_relu_and_a_frozen_encoder(frozen, chunk, accelerator):
    """The naive loss and gradient; frozen, the head alone has one, though its decoder is tied to the embeddings."""
    task = finetune(FinetuneConfig(6, negatives=1, chunk=chunk, **GIVEN), activation="log1p_relu", frozen=frozen)
    losses, _, found = step_of(task, accelerator)
    naive = naive_loss(task, 0)
    assert losses["loss"] == pytest.approx(naive.item(), rel=1e-5)
    naive.backward()
    alike(found, gradients(task))
    plain = naive_loss(finetune(FinetuneConfig(6, negatives=1, chunk=chunk, **GIVEN)), 0)
    assert plain.item() != pytest.approx(naive.item(), rel=1e-3)
    inside = {name for name in found if name.startswith("encoder.head.")}
    assert inside
    assert (found.keys() == inside) == frozen


def test_a_frozen_encoder_has_no_dropout():
    """Though the rest is in training mode; a text is then encoded alike twice."""
    module, text = biencoder(dropout=True, frozen=True).train(), torch.tensor([[2, 9, 8, 3]])
    first, again = (module(text, torch.ones_like(text), True) for _ in range(2))
    assert module.encoder.head.training
    assert torch.equal(first[0], again[0])
    moved = biencoder(dropout=True).train()
    assert not torch.equal(*(moved(text, torch.ones_like(text), True)[0] for _ in range(2)))


@pytest.mark.parametrize("chunk", [2, 256])
def test_what_each_half_sends_back_is_the_gradient_at_its_states(chunk, accelerator):
    """Against the hidden states' own gradients: CLS [:,0] is the dense half's, the rest the lexical half's."""
    task = finetune(FinetuneConfig(6, negatives=1, chunk=chunk, **GIVEN))
    states = []

    def keep(_module, _inputs, hidden):
        if hidden.requires_grad:
            hidden.retain_grad()
            states.append(hidden)

    with_hook = task.module.encoder.register_forward_hook(keep)
    losses, _, _ = step_of(task, accelerator)
    with_hook.remove()
    cls = sum(hidden.grad[:, 0].square().sum() for hidden in states).sqrt().item()
    others = sum(hidden.grad[:, 1:].square().sum() for hidden in states).sqrt().item()
    assert cls > 0 < others
    assert (losses["dense_gradient"], losses["lexical_gradient"]) == pytest.approx((cls, others), rel=1e-5)
    again, _, _ = step_of(task, accelerator)  # nothing is left over from the step before
    assert again["dense_gradient"] == pytest.approx(cls, rel=1e-5)


def test_the_spread_of_each_half_is_as_the_softmax_sees_it(accelerator):
    """Twice the scale doubles the lexical half's, twice the temperature halves both."""
    settings = GIVEN | {"temperature": 2.0, "lexical_scale": 1.0}
    first = step_of(finetune(FinetuneConfig(6, **settings)), accelerator)[0]
    scaled = step_of(finetune(FinetuneConfig(6, **settings | {"lexical_scale": 2.0})), accelerator)[0]
    softer = step_of(finetune(FinetuneConfig(6, **settings | {"temperature": 4.0})), accelerator)[0]
    dense, lexical = first["dense_spread"], first["lexical_spread"]
    assert (scaled["dense_spread"], scaled["lexical_spread"]) == pytest.approx((dense, 2 * lexical))
    assert (softer["dense_spread"], softer["lexical_spread"]) == pytest.approx((dense / 2, lexical / 2))
    alone = step_of(finetune(FinetuneConfig(6, **settings), lexical=0), accelerator)[0]
    assert not {"dense_spread", "lexical_gradient"} & alone.keys()


@pytest.mark.parametrize("chunk", [2, 256])
def test_each_half_may_learn_alone_as_well(chunk, accelerator):
    """0.5 times the losses of either half with the other left out, added to the loss of both."""
    case = {"negatives": 1, **GIVEN}
    task = finetune(FinetuneConfig(6, chunk=chunk, each_half=0.5, **case))
    losses, _, found = step_of(task, accelerator)
    both = naive_loss(task, 0)
    dense, lexical, *_ = naive_scores(task, 0)
    batch = task.prepare(0)
    parts = [
        torch.nn.functional.cross_entropy(
            (half / task.temperature).masked_fill(batch.excluded, float("-inf")), batch.positives
        )
        for half in (dense, task.lexical_scale * lexical)
    ]
    total = both + 0.5 * sum(parts)
    assert losses["loss"] == pytest.approx(total.item(), rel=1e-5)
    assert (losses["contrastive"], losses["dense"], losses["lexical"]) == pytest.approx(
        (both.item(), *(part.item() for part in parts)), rel=1e-5
    )
    total.backward()
    alike(found, gradients(task))
    alone = step_of(finetune(FinetuneConfig(6, each_half=0.5, **case), lexical=0), accelerator)[0]
    assert "lexical" not in alone


def test_the_parts_of_the_loss_add_up(accelerator):
    """0.3 of the contrastive loss on top; attended tokens are the texts' and two more each."""
    task = finetune(FinetuneConfig(6, **GIVEN, **CASES["distillation and contrast"]))
    losses, count, _ = step_of(task, accelerator)
    assert losses["loss"] == pytest.approx(losses["distillation"] + 0.3 * losses["contrastive"])
    known, batch = task.examples, task.prepare(0)
    rows = [row for number in batch.numbers for row in known.pick(task.config, 0, number).rows]
    texts = [known.queries[n] for n in batch.numbers] + [known.passages[int(row)] for row in rows]
    assert count == sum(len(text) + 2 for text in texts)
    alone, _, _ = step_of(finetune(FinetuneConfig(6, **GIVEN, **CASES["distillation"])), accelerator)
    assert "contrastive" not in alone
    assert alone["loss"] == alone["distillation"] == pytest.approx(losses["distillation"])


# --- dropout


class Recorder:
    """Calls the module and keeps what it returned."""

    def __init__(self, module):
        self.module, self.found = module, []

    def __call__(self, *words):
        self.found.append(self.module(*words))
        return self.found[-1]


@pytest.mark.parametrize("query", [True, False])
def test_dropout_falls_the_second_time_as_the_first(query):
    module = Recorder(biencoder(dropout=True).train())
    texts = list(random_tokens(7, 3))
    parts = chunks(texts, 3, *SPECIAL)
    torch.manual_seed(1)
    found = represent(module, parts, query, False, torch.device("cpu"))
    first, module.found = module.found, []
    for number in reversed(range(3)):  # in any order
        torch.rand(5)
        replay(module, parts, query, found, number, (torch.ones_like(found.dense), None))
    for (dense, ids, weights), (again, same, others) in zip(first, reversed(module.found), strict=True):
        assert torch.equal(dense, again)
        assert torch.equal(ids, same)
        assert torch.equal(weights, others)
    torch.manual_seed(2)
    assert not torch.equal(represent(module, parts, query, False, torch.device("cpu")).dense, found.dense)


def test_cached_gradients_with_dropout_are_those_of_one_graph(accelerator):
    """The same chunks with one graph over all of them, from the same seed."""
    task = finetune(FinetuneConfig(6, negatives=2, chunk=4, **GIVEN), dropout=True)
    task.module.train()
    batch, device = task.prepare(0), torch.device("cpu")
    torch.manual_seed(1)
    losses, _ = task.backward(task.module, batch, accelerator)
    cached = gradients(task)
    torch.manual_seed(1)
    queries = represent(task.module, batch.queries, True, True, device)
    passages = represent(task.module, batch.passages, False, True, device)
    whole = task._losses(queries, passages, batch)[0]["loss"]
    assert losses["loss"].item() == pytest.approx(whole.item(), rel=1e-6)
    whole.backward()
    alike(cached, gradients(task))


# --- chunks


def test_chunks_hold_every_text_once_longest_first():
    texts = list(random_tokens(11, 0, low=0))
    parts = chunks(texts, 4, *SPECIAL)
    assert [len(part.places) for part in parts] == [4, 4, 3]
    assert sorted(torch.cat([part.places for part in parts]).tolist()) == list(range(11))
    lengths = [int(n) for part in parts for n in part.attention_mask.sum(1)]
    assert lengths == sorted((len(text) + 2 for text in texts), reverse=True)
    for part in parts:
        for place, ids, mask in zip(*part, strict=True):
            expected = [2, *texts[place].tolist(), 3]
            assert ids.tolist() == expected + [0] * (len(ids) - len(expected))
            assert mask.tolist() == [1] * len(expected) + [0] * (len(ids) - len(expected))
        assert part.attention_mask.any(0).all()  # no column is padding alone


def test_vectors_come_in_the_batchs_order():
    module, texts = biencoder(), list(random_tokens(7, 3))
    whole = represent(module, chunks(texts, 3, *SPECIAL), False, True, torch.device("cpu"))
    for place, text in enumerate(texts):
        [one] = chunks([text], 1, *SPECIAL)
        dense, ids, weights = module(one.input_ids, one.attention_mask, False)
        torch.testing.assert_close(whole.dense[place], dense[0], rtol=1e-4, atol=1e-5)
        assert torch.equal(whole.ids[place], ids[0])
        torch.testing.assert_close(whole.weights[place], weights[0], rtol=1e-4, atol=1e-4)


def test_a_head_that_is_not_used_is_frozen_but_for_the_embeddings_it_is_tied_to():
    lm = tiny.masked_lm()
    module = BiEncoder(Encoder(lm.base_model, mlm_head(lm), None, HybridSpec(dense=32, lexical=0), SPECIAL))
    frozen = {name for name, weight in lm.named_parameters() if not weight.requires_grad}
    assert frozen
    assert all(name.startswith("cls.") for name in frozen)
    assert lm.get_input_embeddings().weight.requires_grad
    assert module.encoder.backbone.encoder.layer[0].output.dense.weight.requires_grad


# --- examples


def test_answers_by_hand():
    """Query 0 is answered by passage 0, query 1 by 0 and 3, query 2 by 2."""
    known = Examples(random_tokens(3, 0), random_tokens(4, 1), Ragged.of([[0], [3, 0], [2]]))
    found = known.answers(np.array([2, 0, 1]), np.array([0, 1, 2, 3, 0]))
    assert found.astype(int).tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 0, 1], [1, 0, 0, 1, 1]]


def test_known_positives_of_others_are_masked_by_hand(accelerator):
    """Both queries are answered by passage 0 alone: nobody has a negative, so the loss is -ln 1 = 0.

    Were they not masked it would be ln 2: the same passage twice.
    """
    known = Examples(random_tokens(2, 0), random_tokens(4, 1), Ragged.of([[0], [0]]))
    task = finetune(FinetuneConfig(2, **GIVEN), known=known)
    assert task.prepare(0).excluded.tolist() == [[False, True], [True, False]]
    losses, _, _ = step_of(task, accelerator)
    assert losses["loss"] == 0
    apart = Examples(known.queries, Ragged.of([known.passages[0]] * 2, np.uint16), Ragged.of([[0], [1]]))
    losses, _, _ = step_of(finetune(FinetuneConfig(2, **GIVEN), known=apart), accelerator)
    assert losses["loss"] == pytest.approx(math.log(2))


def test_the_columns_of_a_batch():
    """q = 5 with two negatives each: own positives stand at 0, 3, 6, 9, 12, and are never excluded."""
    task = finetune(FinetuneConfig(5, negatives=2, **GIVEN))
    for step in range(4):
        batch = task.prepare(step)
        assert batch.positives.tolist() == [0, 3, 6, 9, 12]
        rows = [row for number in batch.numbers for row in task.examples.pick(task.config, step, number).rows]
        for place, number in enumerate(batch.numbers):
            answers = set(task.examples.positives[number].tolist())
            expected = [row in answers and column != 3 * place for column, row in enumerate(rows)]
            assert batch.excluded[place].tolist() == expected


def test_the_processes_share_a_batch_out():
    whole = finetune(FinetuneConfig(6, negatives=1, distil=True, **GIVEN)).prepare(4)
    parts = [finetune(FinetuneConfig(6, negatives=1, distil=True, **GIVEN), rank=r, processes=3) for r in range(3)]
    parts = [part.prepare(4) for part in parts]
    assert [number for part in parts for number in part.numbers] == whole.numbers
    for name in ("positives", "excluded", "teacher"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    with pytest.raises(ValueError, match="6 queries cannot be shared out among 4 processes"):
        finetune(FinetuneConfig(6), processes=4)


def test_a_pick_is_a_function_of_its_arguments():
    config, known = FinetuneConfig(6, negatives=5), examples()
    first = [known.pick(config, step, number).rows.tolist() for step in range(5) for number in range(12)]
    again = [known.pick(config, step, number).rows.tolist() for step in range(5) for number in range(12)]
    assert first == again
    other = FinetuneConfig(6, negatives=5, seed=1)
    assert first != [known.pick(other, step, number).rows.tolist() for step in range(5) for number in range(12)]


def test_picked_are_a_positive_and_different_negatives():
    config, known = FinetuneConfig(6, negatives=3), examples()
    for number in range(12):
        picks = [known.pick(config, step, number).rows for step in range(60)]
        assert {int(rows[0]) for rows in picks} == set(known.positives[number].tolist())
        assert {int(row) for rows in picks for row in rows[1:]} == set(known.negatives[number].tolist())
        assert all(len(set(rows[1:])) == 3 for rows in picks)
        assert len({tuple(rows) for rows in picks}) > 20


def test_the_teachers_scores_line_up_with_their_passages():
    """A teacher whose score is the passage's number."""
    known = examples()
    scores = [[*known.positives[number], *known.negatives[number]] for number in range(12)]
    known = Examples(known.queries, known.passages, known.positives, known.negatives, Ragged.of(scores, np.float32))
    config = FinetuneConfig(6, negatives=4, distil=True)
    for step in range(10):
        for number in range(12):
            rows, teacher = known.pick(config, step, number)
            assert rows.tolist() == teacher.tolist()
    assert known.pick(FinetuneConfig(6, negatives=4), 0, 0).teacher.tolist() == []


def test_each_error_of_check():
    known = examples()
    parts = vars(known) | {"negatives": None, "teacher": None}
    parts = {name: parts[name] for name in ("queries", "passages", "positives", "negatives", "teacher")}
    bare = Examples(**parts)
    check(known, FinetuneConfig(12, negatives=5, distil=True))
    check(bare, FinetuneConfig(12))
    lonely = Examples(**(parts | {"positives": Ragged.of([[1], [], *[[2]] * 9, []])}))
    mined = Examples(**(parts | {"negatives": known.negatives}))
    fewer = Ragged.of([known.teacher[number][: None if number != 7 else -1] for number in range(12)], np.float32)
    for wrong, config, words in (
        (bare, FinetuneConfig(13), "a batch of 13 queries was asked for, and there are 12"),
        (lonely, FinetuneConfig(2), "2 training queries have no positive, the first is number 1"),
        (bare, FinetuneConfig(2, negatives=1), "1 negatives of each query were asked for, and none were mined"),
        (mined, FinetuneConfig(2, negatives=6), "6 negatives .* 12 of 12 queries have fewer, the least 5"),
        (mined, FinetuneConfig(2, negatives=2, distil=True), "no scores of a teacher"),
        (known, FinetuneConfig(2, distil=True), "distillation was asked for without negatives"),
        (
            Examples(**(parts | {"negatives": known.negatives, "teacher": fewer})),
            FinetuneConfig(2, negatives=2, distil=True),
            "for 1 of 12 queries the numbers differ, the first is number 7",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            check(wrong, config)
        with pytest.raises(ValueError, match=words):
            finetune(config, known=wrong)


# --- temperature and scale


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("chunk", [2, 256])
def test_auto_is_what_the_first_batches_say(case, chunk, accelerator):
    """The least cross-entropy of 25 scales around equal spreads by 9 temperatures below the sum's spread, by numpy.

    Of two batches of six, which are all 12 queries there are: 64 would be enough.
    """
    task = finetune(FinetuneConfig(6, chunk=chunk, **CASES[case]))
    with torch.no_grad():
        halves = [[part.numpy() for part in naive_scores(task, step)[:2]] for step in (0, 1)]
    batches = [task.prepare(step) for step in (0, 1)]

    def spread(scores):
        return np.mean([each.std(axis=1, ddof=1).mean() for each in scores])

    alike = spread([dense for dense, _ in halves]) / spread([lexical for _, lexical in halves])
    found = []
    for half_power in range(-12, 13):
        scale = alike * 2 ** (half_power / 2)
        sums = [dense + scale * lexical for dense, lexical in halves]
        for sharper in range(9):
            tau = spread(sums) / 2 ** (sharper / 2)
            losses = []
            for scores, batch in zip(sums, batches, strict=True):
                logits = np.where(batch.excluded, -np.inf, scores / tau).astype(np.float64)
                own = logits[np.arange(len(logits)), batch.positives]
                losses.append((np.log(np.exp(logits).sum(axis=1)) - own).mean())
            found.append((np.mean(losses), scale, tau))
    _, scale, temperature = min(found)
    step_of(task, accelerator)
    assert task.extra() == pytest.approx({"temperature": temperature, "lexical_scale": scale}, rel=1e-4)
    before = task.extra()
    step_of(task, accelerator, 1)
    assert task.extra() == before
    resumed = finetune(task.config)
    resumed.restore(before)
    step_of(resumed, accelerator, 1)
    assert resumed.extra() == before


def test_what_is_given_stays_and_one_half_needs_no_scale(accelerator):
    task = finetune(FinetuneConfig(6, temperature=3.0))
    step_of(task, accelerator)
    assert task.temperature == 3.0
    task = finetune(FinetuneConfig(6, lexical_scale=0.7))
    step_of(task, accelerator)
    assert task.lexical_scale == 0.7
    for halves in ({"dense": 0}, {"lexical": 0}):
        task = finetune(FinetuneConfig(6), **halves)
        step_of(task, accelerator)
        assert task.lexical_scale == 1.0
        assert task.temperature > 0


def test_scores_that_are_all_alike_are_an_error(accelerator):
    same = Ragged.of([[7, 8, 9]] * 4, np.uint16)
    known = Examples(random_tokens(4, 0), same, Ragged.of([[0], [1], [2], [3]]))
    with pytest.raises(ValueError, match="must tell passages apart"):
        step_of(finetune(FinetuneConfig(4), known=known), accelerator)
    with pytest.raises(ValueError, match=r"the scores spread by .* must tell passages apart"):
        step_of(finetune(FinetuneConfig(4, lexical_scale=1.0), known=known), accelerator)


# --- it learns


@pytest.mark.parametrize("chunk", [6, 64])
def test_sixteen_pairs_are_learnt_by_heart(chunk, tmp_path, accelerator):
    known = Examples(random_tokens(16, 0), random_tokens(16, 1), Ragged.of([[n] for n in range(16)]))
    task = FinetuneTask(biencoder(), known, FinetuneConfig(16, chunk=chunk), SPECIAL)
    losses = []
    config = LoopConfig(steps=40, learning_rate=3e-3)
    fit(task, config, tmp_path, accelerator, report=lambda step, tokens, found: losses.append(found["loss"]))
    assert losses[0] > 2  # ln 16 = 2.77 is chance
    assert losses[-1] < 0.1 * losses[0]


def collapsed(config):
    """An encoder that makes all texts nearly alike, with dropout: its words and places are nearly one."""
    task = finetune(config, dropout=True)
    with torch.no_grad():
        words = task.module.encoder.backbone.embeddings
        for table in (words.word_embeddings.weight, words.position_embeddings.weight):
            table.copy_(table[5] + 1e-4 * table)
    return task


def test_auto_is_estimated_as_training_sees_the_scores(accelerator):
    """Without dropout a nearly collapsed encoder's scores hardly spread: the temperature was far too small for them."""
    task = collapsed(FinetuneConfig(6))
    task.module.train()
    losses = step_of(task, accelerator)[0]
    still = collapsed(FinetuneConfig(6))
    still.module.eval()
    step_of(still, accelerator)
    assert task.temperature > 20 * still.temperature
    chance = math.log(6)
    assert losses["loss"] < 2 * chance
    wrong = collapsed(FinetuneConfig(6, temperature=still.temperature, lexical_scale=still.lexical_scale))
    wrong.module.train()
    assert step_of(wrong, accelerator)[0]["loss"] > 2 * chance


def test_a_side_that_fits_one_chunk_is_not_padded_to_its_longest():
    """Its graph is kept all the same: nothing is encoded twice."""
    lengths = [2, 3, 2, 4, 2, 3, 2, 60] * 8
    draw = np.random.default_rng(0)
    texts = Ragged.of([draw.integers(5, 90, length) for length in lengths], np.uint16)
    known = Examples(texts, texts, Ragged.of([[number] for number in range(64)]))
    for chunk, whole in ((256, True), (64, True), (63, False)):
        batch = FinetuneTask(biencoder(), known, FinetuneConfig(64, chunk=chunk, **GIVEN), SPECIAL).prepare(0)
        assert batch.whole == whole
        cells = sum(part.input_ids.numel() for part in batch.passages)
        assert cells == (sum(lengths) + 2 * 64 if whole else 62 * 63 + 4)
