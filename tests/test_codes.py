"""The laws of the waist: what a CodeSpec allows, how it flattens, and what it says when something does not fit."""

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from brainvq.codes import CodeSpec
from brainvq.errors import InputError

quick = settings(deadline=None, max_examples=25)


@st.composite
def specs(draw: st.DrawFn) -> tuple[CodeSpec, tuple[int, ...]]:
    """A spec of one to three levels on two or three axes, and an image size that fits it."""
    axes, levels = draw(st.integers(2, 3)), draw(st.integers(1, 3))
    strides = draw(st.lists(st.tuples(*[st.sampled_from([1, 2, 3, 4])] * axes), min_size=levels, max_size=levels))
    entries = draw(st.lists(st.integers(1, 2000), min_size=levels, max_size=levels))
    spec = CodeSpec(tuple(entries), tuple(strides))
    return spec, tuple(n * draw(st.integers(1, 2)) for n in spec.multiple)


def some_codes(spec: CodeSpec, size: tuple[int, ...], batch: int = 2) -> tuple[Tensor, ...]:
    grids = zip(spec.grids(size), spec.entries, strict=True)
    return tuple(torch.randint(entries, (batch, *grid)) for grid, entries in grids)


@quick
@given(specs(), st.integers(0, 3))
def test_unflatten_is_the_inverse_of_flatten(drawn: tuple[CodeSpec, tuple[int, ...]], batch: int) -> None:
    spec, size = drawn
    codes = some_codes(spec, size, batch)
    flat = spec.flatten(codes)
    assert flat.shape == (batch, sum(math.prod(grid) for grid in spec.grids(size)))
    back = spec.unflatten(flat, size)
    assert all(torch.equal(one, other) for one, other in zip(codes, back, strict=True))
    assert torch.equal(spec.flatten(back), flat)
    spec.check(back, size)


@quick
@given(specs())
def test_strides_times_grids_is_the_size_and_multiple_is_the_smallest(drawn: tuple[CodeSpec, tuple[int, ...]]) -> None:
    spec, size = drawn
    for grid, stride in zip(spec.grids(size), spec.strides, strict=True):
        assert tuple(n * s for n, s in zip(grid, stride, strict=True)) == size
    for axis, n in enumerate(spec.multiple):
        assert [m for m in range(1, n + 1) if all(m % stride[axis] == 0 for stride in spec.strides)] == [n]


@quick
@given(st.integers(1, 2**60))
def test_bits_is_the_shortest_fixed_length(entries: int) -> None:
    length = CodeSpec((entries,), ((1, 1),)).bits((1, 1))
    assert 2**length >= entries
    assert length == 1 or 2 ** (length - 1) < entries


def test_bits_of_system_a() -> None:
    assert CodeSpec((128,), ((8, 8),)).bits((256, 256)) == 7168
    assert CodeSpec((512, 64), ((8, 8), (4, 4))).bits((16, 16)) == 4 * 9 + 16 * 6


def test_coarse_levels_come_first_in_row_major_order() -> None:
    spec = CodeSpec((4, 9), ((2, 2), (1, 1)))
    flat = spec.flatten((torch.tensor([[[3]]]), torch.tensor([[[5, 6], [7, 8]]])))
    assert flat.tolist() == [[3, 5, 6, 7, 8]]


@quick
@given(specs())
def test_json_round_trip(drawn: tuple[CodeSpec, tuple[int, ...]]) -> None:
    assert CodeSpec.from_json(json.loads(json.dumps(drawn[0].to_json()))) == drawn[0]


@pytest.mark.parametrize(
    ("entries", "strides"),
    [
        *(([], []), ([16], []), ([16, 8], [[4, 4]]), ([16, 16], [[4, 4], [4]])),
        *(([0], [[4, 4]]), ([-3], [[4, 4]]), ([16], [[0, 4]]), ([16], [[-4, 4]])),
        *(([16.0], [[4, 4]]), ([True], [[4, 4]]), (["16"], [[4, 4]]), ([16], [["4", 4]])),
    ],
)
def test_a_stored_spec_that_is_none_is_refused(entries: list[Any], strides: list[list[Any]]) -> None:
    with pytest.raises(InputError, match="no spec of codes"):
        CodeSpec.from_json({"entries": entries, "strides": strides})


SPEC = CodeSpec((16, 4), ((8, 8), (4, 4)))


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ((torch.zeros(1, 2, 2).long(),), ["1 levels", "has 2"]),
        ((torch.zeros(1, 2, 2).long(), torch.zeros(1, 4, 5).long()), ["codes[1]", "(4, 5)", "(4, 4)"]),
        ((torch.zeros(1, 2, 2).long(), torch.full((1, 4, 4), 4)), ["codes[1]", "4..4", "0..3"]),
        ((torch.full((1, 2, 2), -1), torch.zeros(1, 4, 4).long()), ["codes[0]", "-1..-1", "0..15"]),
        ((torch.zeros(1, 4).long(), torch.zeros(1, 4, 4).long()), ["codes[0]", "(1, 4)", "2 axes"]),
        ((torch.zeros(1, 2, 2).long(), torch.zeros(2, 4, 4).long()), ["codes[1]", "(2, 4, 4)", "(1, *grid)"]),
        ((torch.zeros(1, 2, 2), torch.zeros(1, 4, 4).long()), ["codes[0]", "float32", "int64"]),
        ((torch.zeros(()).long(), torch.zeros(1, 4, 4).long()), ["codes[0]", "shape ()", "2 axes"]),
    ],
)
def test_codes_that_do_not_fit_are_refused_naming_both_sides(codes: tuple[Tensor, ...], said: list[str]) -> None:
    for size in (None, (16, 16)):
        with pytest.raises(InputError) as refused:
            SPEC.check(codes, size)
        assert all(part in str(refused.value) for part in said), str(refused.value)


def test_codes_of_another_image_are_refused() -> None:
    with pytest.raises(InputError, match=r"codes\[0\] has grid \(2, 2\); expected \(3, 2\)"):
        SPEC.check(some_codes(SPEC, (16, 16)), (24, 16))
    with pytest.raises(InputError, match="got 21 codes an image; an image of 16 x 16 pixels has 20"):
        SPEC.unflatten(torch.zeros(1, 21).long(), (16, 16))


@pytest.mark.parametrize("size", [(12, 16), (0, 8), (8,), (8, 8, 8), (4, 4)])
def test_a_size_that_does_not_fit_is_refused_naming_both_sides(size: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as refused:
        SPEC.grids(size)
    assert " x ".join(map(str, size)) in str(refused.value)
    assert "8 x 8" in str(refused.value)
