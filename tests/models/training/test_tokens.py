"""Tokenised texts on disk, and which of them a step sees."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.models.training import tokens
from harness.models.training.tokens import Ragged
from tests.support import tiny

TEXTS = ["red apples grow on trees", "", "sea", "water runs to the sea zz"]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def lists(found):
    return [row.tolist() for row in found]


def test_what_is_written_is_read_again(tokenizer, tmp_path):
    """`zz` is two pieces, so the lengths are 5, 0, 1 and 7."""
    heard = []
    written = tokens.write(tmp_path / "store", tokenizer, iter(TEXTS), 100, done=heard.append)
    assert written.left_out == 0
    assert lists(written.tokens) == [ids_of(tokenizer, text) for text in TEXTS]
    assert written.tokens.lengths.tolist() == [5, 0, 1, 7]
    assert len(written.tokens) == 4
    assert written.tokens.flat.dtype == np.uint16
    assert isinstance(written.tokens.flat, np.memmap)
    again = tokens.read(tmp_path / "store")
    assert lists(again.tokens) == lists(written.tokens)
    assert heard == [4]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_long_text_is_cut_or_goes_on(tokenizer, tmp_path):
    """Lengths 5, 0, 1, 7 at most 3 each: cut to 3, 0, 1, 3; or split into 3+2, 0, 1, 3+3+1."""
    whole = [ids_of(tokenizer, text) for text in TEXTS]
    cut = tokens.write(tmp_path / "cut", tokenizer, TEXTS, 3)
    assert lists(cut.tokens) == [row[:3] for row in whole]
    split = tokens.write(tmp_path / "split", tokenizer, TEXTS, 3, split=True)
    assert split.tokens.lengths.tolist() == [3, 2, 0, 1, 3, 3, 1]
    assert split.tokens.flat.tolist() == [token for row in whole for token in row]


def test_short_pieces_are_left_out_and_counted(tokenizer, tmp_path):
    """Of 3, 2, 0, 1, 3, 3, 1 pieces of fewer than two tokens are three."""
    found = tokens.write(tmp_path / "store", tokenizer, TEXTS, 3, shortest=2, split=True)
    assert (found.tokens.lengths.tolist(), found.left_out) == ([3, 2, 3, 3], 3)
    assert tokens.read(tmp_path / "store").left_out == 3


def test_a_store_is_found_again_and_what_was_broken_off_is_not(tokenizer, tmp_path):
    def broken():
        yield "red"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        tokens.write(tmp_path / "store", tokenizer, broken(), 9)
    assert not (tmp_path / "store").exists()
    first = tokens.write(tmp_path / "store", tokenizer, TEXTS[:1], 9)
    second = tokens.write(tmp_path / "store", tokenizer, broken(), 9)  # not read again
    assert lists(first.tokens) == lists(second.tokens)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_large_vocabulary_takes_32_bits(tokenizer, tmp_path):
    class Large:
        def __init__(self, size):
            self.size = size

        def __len__(self):
            return self.size

        def __call__(self, texts, **settings):
            return {"input_ids": [[self.size - 1, 0] for _ in texts]}

    for size, kind in ((65_535, np.uint16), (70_000, np.uint32)):
        found = tokens.write(tmp_path / str(size), Large(size), ["a", "b"], 9).tokens
        assert found.flat.dtype == kind
        assert lists(found) == [[size - 1, 0]] * 2


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_an_empty_corpus(texts, tokenizer, tmp_path):
    found = tokens.write(tmp_path / "store", tokenizer, texts, 9, shortest=1)
    assert (len(found.tokens), found.left_out) == (0, len(texts))
    assert found.tokens.lengths.tolist() == []


def test_more_texts_than_are_tokenised_at_once(tokenizer, tmp_path):
    texts = [tiny.WORDS[n % len(tiny.WORDS)] for n in range(2_500)]
    heard = []
    found = tokens.write(tmp_path / "store", tokenizer, texts, 9, done=heard.append).tokens
    assert heard == [1000, 1000, 500]
    assert found.lengths.tolist() == [1] * 2500
    assert lists(found) == [ids_of(tokenizer, text) for text in texts]


def test_ragged_rows():
    rows = Ragged.of([[1, 2], [], [3]])
    assert lists(rows) == [[1, 2], [], [3]]
    assert (len(rows), rows.lengths.tolist(), rows.flat.dtype) == (3, [2, 0, 1], np.int64)
    assert (len(Ragged.of([])), Ragged.of([], np.float32).flat.dtype) == (0, np.float32)


@pytest.mark.parametrize(("batch", "count"), [(4, 12), (1, 5), (5, 5)])
def test_each_epoch_sees_every_item_once(batch, count):
    steps = count // batch
    epochs = [
        np.concatenate([tokens.chosen(7, epoch * steps + step, batch, count) for step in range(steps)])
        for epoch in range(3)
    ]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_rest_of_an_epoch_waits_for_the_next():
    """10 items in batches of 4: two steps an epoch, no item twice in it."""
    for epoch in range(5):
        seen = np.concatenate([tokens.chosen(0, 2 * epoch + step, 4, 10) for step in range(2)])
        assert len(set(seen)) == 8
    assert {int(item) for step in range(40) for item in tokens.chosen(0, step, 4, 10)} == set(range(10))


def test_a_choice_is_a_function_of_its_arguments():
    first = [tokens.chosen(3, step, 4, 20).tolist() for step in range(12)]
    backwards = [tokens.chosen(3, step, 4, 20).tolist() for step in reversed(range(12))]
    assert first == backwards[::-1]
    assert first != [tokens.chosen(4, step, 4, 20).tolist() for step in range(12)]
    with pytest.raises(ValueError, match="a batch of 21 was asked for, and there are 20 items"):
        tokens.chosen(3, 0, 21, 20)


def ragged(lengths):
    return Ragged.of([0] * length for length in lengths)


def test_texts_of_near_length_share_a_micro_batch():
    """Eight texts, two steps of four in micro-batches of two: lengths 8 7 | 6 5 | 4 3 | 2 1, two pairs a step."""
    texts = ragged([3, 8, 1, 6, 2, 7, 4, 5])
    found = [texts.lengths[tokens.chosen_by_length(1, step, 4, 2, 2, texts)].reshape(2, 2).tolist() for step in (0, 1)]
    assert sorted(pair for step in found for pair in step) == [[2, 1], [4, 3], [6, 5], [8, 7]]
    assert all(step == sorted(step, reverse=True) for step in found)  # longest first: memory runs out at once or never


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(0, 9),
)
def test_grouped_by_length_each_epoch_sees_what_it_would_see_otherwise(lengths, micro_batch, pieces, group, seed):
    texts, batch = ragged(lengths), micro_batch * pieces
    assume(batch <= len(texts))
    steps = len(texts) // batch
    for epoch in (0, 1):
        mine = range(epoch * steps, (epoch + 1) * steps)
        plain = [tokens.chosen(seed, step, batch, len(texts)) for step in mine]
        grouped = [tokens.chosen_by_length(seed, step, batch, micro_batch, group, texts) for step in reversed(mine)]
        grouped.reverse()
        for first in range(0, steps, group):  # the same texts in each group of steps
            some = slice(first, first + group)
            assert sorted(np.concatenate(plain[some])) == sorted(np.concatenate(grouped[some]))
            rows = np.concatenate(grouped[some]).reshape(-1, micro_batch)
            spans = sorted((texts.lengths[row].max(), texts.lengths[row].min()) for row in rows)
            assert all(low[0] <= high[1] for low, high in pairwise(spans))  # no two micro-batches overlap


def test_too_few_texts_for_a_batch():
    for choose in (
        lambda: tokens.chosen(0, 0, 4, 3),
        lambda: tokens.chosen_by_length(0, 0, 4, 2, 3, ragged([1, 2, 3])),
    ):
        with pytest.raises(ValueError, match="a batch of 4 was asked for, and there are 3 items"):
            choose()
