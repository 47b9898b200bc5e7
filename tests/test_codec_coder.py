"""The coder over constriction against integers alone: the same words, the same codes, refusals and nothing else."""

from typing import Any

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.fuzz.bvq_seeds import Neighbours
from brainvq.codec import coder, reference
from brainvq.codec.entropy import TOTAL, EntropyModel
from brainvq.codec.position import Position
from brainvq.codec.uniform import Uniform
from brainvq.errors import InputError

GRIDS = ((3, 4), (6, 8))
MODELS = {
    "uniform": Uniform((9, 300)),
    "position": Position((9, 4), [np.arange(1, 109, dtype=np.uint16).reshape(3, 4, 9), np.ones((1, 1, 4), np.uint16)]),
    "one entry": Uniform((1, 3)),
    "neighbours": Neighbours((9, 2)),
}


class Fixed(EntropyModel):
    """The table that is given, at each code."""

    kind = "fixed"

    def __init__(self, table: list[int]) -> None:
        super().__init__([len(table) - 1])
        self.table = np.array(table, np.uint32)

    def passes(self, grids: Any) -> list[NDArray[np.int64]]:
        return [np.arange(np.prod(grids[0]))]

    def tables(self, number: int, grids: Any, known: Any, previous: Any) -> NDArray[np.uint32]:
        return np.broadcast_to(self.table, (*known.shape, len(self.table)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    @classmethod
    def from_arrays(cls, entries: Any, arrays: Any) -> "Fixed":
        raise NotImplementedError


def by_integers(table: list[int], codes: list[int]) -> list[int]:
    """Encoding as Duda and Bamler tell it, in Python's integers."""
    state, words = 0, []
    for code in reversed(codes):
        low, frequency = table[code], table[code + 1] - table[code]
        if state >> 40 >= frequency:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // frequency << 24) + low + state % frequency
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return words


@st.composite
def tables(draw: st.DrawFn) -> list[int]:
    inner = draw(st.sets(st.one_of(st.integers(1, TOTAL - 1), st.integers(1, 4), st.integers(TOTAL - 4, TOTAL - 1))))
    return [0, *sorted(inner), TOTAL] if inner else [0, 7, TOTAL]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), table=tables())
def test_words_are_those_of_integer_arithmetic(data: st.DataObject, table: list[int]) -> None:
    codes = data.draw(st.lists(st.integers(0, len(table) - 2), min_size=1, max_size=60))
    model, grids = Fixed(table), ((len(codes),),)
    words = coder.compress(model, grids, np.array([codes]), [1])
    assert words.tolist() == by_integers(table, codes)
    assert coder.decompress(model, grids, words, [1]).tolist() == [codes]
    (back,) = reference._group(words.astype("<u4").tobytes(), [1], grids, model)
    assert back.tolist() == codes


def test_the_probabilities_given_to_the_library_are_exact() -> None:
    """Its own way from floating point to a table, for which `coder.py` relies on what is told there."""
    table = np.array([0, 1, 2, TOTAL - 7, TOTAL - 1, TOTAL])
    model = constriction.stream.model.Categorical(np.diff(table) - 1.0, perfect=False)
    for code, (low, frequency) in enumerate(zip(table[:-1], np.diff(table), strict=True)):
        for start in (1 << 50, (1 << 50) + 12345):
            words = np.array([start & 0xFFFFFFFF, start >> 32], np.uint32)
            stack = constriction.stream.stack.AnsCoder(words)
            stack.encode_reverse(code, model)
            found = 0
            for word in reversed(stack.get_compressed()):
                found = found << 32 | int(word)
            if start >> 40 < frequency:
                assert found == (start // frequency << 24) + low + start % frequency


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("runs", [[1], [5], [2, 1, 3], [1, 1, 1]])
def test_a_group_comes_back_whatever_its_runs(name: str, runs: list[int]) -> None:
    model, length = MODELS[name], 12 + 48
    rng = np.random.default_rng(0)
    levels = [rng.integers(0, entries, (sum(runs), n)) for entries, n in zip(model.entries, (12, 48), strict=True)]
    codes = np.concatenate(levels, axis=1)
    words = coder.compress(model, GRIDS, codes, runs)
    assert np.array_equal(coder.decompress(model, GRIDS, words, runs), codes)
    assert np.array_equal(reference._group(words.astype("<u4").tobytes(), runs, GRIDS, model), codes)
    assert codes.shape == (sum(runs), length)


def test_batches_of_any_size_give_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(1).integers(0, 2, (6, 60))
    for model in (MODELS["neighbours"], MODELS["position"]):
        whole = coder.compress(model, GRIDS, codes, [1] * 6)
        with monkeypatch.context() as patch:
            patch.setattr(coder, "AT_ONCE", 1)
            assert np.array_equal(coder.compress(model, GRIDS, codes, [1] * 6), whole)
            assert np.array_equal(coder.decompress(model, GRIDS, whole, [1] * 6), codes)


def test_the_size_is_what_the_tables_promise() -> None:
    model = Fixed([0, TOTAL // 16, TOTAL // 2, TOTAL])
    codes = np.random.default_rng(2).choice(3, (4, 5000), p=[1 / 16, 7 / 16, 1 / 2])
    promised = -np.log2(np.array([1 / 16, 7 / 16, 1 / 2]))[codes].sum()
    words = coder.compress(model, ((50, 100),), codes, [1] * 4)
    assert promised <= 32 * len(words) <= promised + 64


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=12))
def test_any_words_are_codes_or_refused(words: list[int]) -> None:
    try:
        found = coder.decompress(MODELS["uniform"], GRIDS, np.array(words, np.uint32), [1])
    except InputError:
        return
    assert coder.compress(MODELS["uniform"], GRIDS, found, [1]).tolist() == words


def test_a_table_that_is_none_is_our_own_mistake() -> None:
    for table in ([0, 5, 5, TOTAL], [1, 5, TOTAL], [0, 5, TOTAL - 1]):
        with pytest.raises(AssertionError):
            coder.compress(Fixed(table), ((2,),), np.array([[0, 1]]), [1])
