"""Batches by length: which texts go together, and how they are padded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.models.training.batching import by_length, pad


def test_longest_first_in_batches_of_few_padded_tokens():
    """Of 12 tokens: one text of 7, then three of width 4, then the rest; equal lengths keep their order."""
    assert list(by_length([3, 7, 4, 1, 4], 12)) == [[1], [2, 4, 0], [3]]


def test_a_text_longer_than_a_batch_goes_alone():
    assert list(by_length([5, 1], 2)) == [[0], [1]]


def test_at_most_so_many_texts():
    assert list(by_length([1, 1, 1, 1, 1], 100, texts=2)) == [[0, 1], [2, 3], [4]]
    assert list(by_length([1, 9, 9, 2], texts=3)) == [[1, 2, 3], [0]]


def test_texts_that_are_cut_count_as_cut():
    """Padded, the two are 4 wide: 8 tokens hold both."""
    assert list(by_length([9, 6], 8, longest=4)) == [[0, 1]]
    assert list(by_length([9, 6], 8)) == [[0], [1]]


@given(st.lists(st.integers(0, 40)), st.integers(1, 60), st.integers(1, 5))
def test_every_text_once_within_the_limits(lengths, tokens, texts):
    batches = list(by_length(lengths, tokens, texts))
    assert sorted(place for places in batches for place in places) == list(range(len(lengths)))
    widths = [lengths[places[0]] for places in batches]
    assert widths == sorted(widths, reverse=True)
    for places, width in zip(batches, widths, strict=True):
        assert width == max(lengths[place] for place in places)
        assert len(places) == 1 or (len(places) <= texts and len(places) * width <= tokens)


def test_padding_by_hand():
    ids, mask = pad([[7, 8, 9], np.array([5], dtype=np.uint16), []], 4)
    assert ids.tolist() == [[7, 8, 9], [5, 4, 4], [4, 4, 4]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_nothing_to_pad():
    assert list(by_length([], 8)) == []
    with pytest.raises(ValueError, match="empty"):
        pad([], 0)
