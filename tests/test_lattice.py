"""Phases and neighbours: every code in one phase, coarse before fine, and what is near is where it is said to be."""

import itertools
import math

import numpy as np
import pytest

from brainvq import lattice

GRIDS = [(8, 8), (5, 7), (1, 3), (9, 1), (4, 6, 5)]


def test_phases_run_from_coarse_to_fine() -> None:
    phases = lattice.pattern(4, 2)
    assert sorted(phases.ravel().tolist()) == list(range(16))
    every_other = phases[::2, ::2]
    assert sorted(every_other.ravel().tolist()) == [0, 1, 2, 3]
    assert phases[0, 0] == 0
    assert phases[2, 2] == 1
    board = np.add.outer(np.arange(4), np.arange(4)) % 2 == 0
    assert sorted(phases[board].tolist()) == list(range(8)), "first all fields of one colour"


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("period", [2, 3, 4])
def test_every_code_is_in_one_phase(grid: tuple[int, ...], period: int) -> None:
    passes = lattice.split(grid, lattice.pattern(period, len(grid)))
    assert len(passes) == period ** len(grid)
    assert sorted(np.concatenate(passes).tolist()) == list(range(math.prod(grid)))
    for codes in passes:
        at = np.stack(np.unravel_index(codes, grid), axis=1)
        assert len(np.unique(at % period, axis=0)) <= 1


@pytest.mark.parametrize("grid", GRIDS)
def test_what_is_near_is_of_earlier_phases(grid: tuple[int, ...]) -> None:
    phases, total = lattice.pattern(2, len(grid)), math.prod(grid)
    passes = lattice.split(grid, phases)
    phase_of = np.empty(total + 1, dtype=int)
    for phase, codes in enumerate(passes):
        phase_of[codes] = phase
    phase_of[total] = -1
    for phase, codes in enumerate(passes):
        offsets = lattice.earlier(phases, phase, 12)
        found = lattice.places(grid, codes, offsets)
        assert found.shape == (len(codes), 12)
        padded = (offsets == 0).all(1)
        assert (phase_of[found[:, ~padded]] < phase).all()
        assert (found[:, padded] == codes[:, None]).all()
        assert padded.all() == (phase == 0)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 3, 9, 25])
def test_nearest_come_first(axes: int, count: int) -> None:
    offsets = lattice.around(count, axes)
    far = (offsets**2).sum(1)
    assert offsets.shape == (count, axes)
    assert (np.diff(far) >= 0).all()
    others = [sum(n * n for n in each) for each in itertools.product(range(-26, 27), repeat=axes)] if axes < 3 else []
    assert not others or far.tolist() == sorted(others)[:count]
    assert count == 0 or not offsets[0].any()


def test_places_are_those_of_the_picture() -> None:
    found = lattice.places((2, 3), np.array([0, 5]), np.array([[0, 0], [0, 1], [1, 0], [-1, -1]]))
    assert found.tolist() == [[0, 1, 3, 6], [5, 6, 6, 1]]


def test_the_middle_of_a_code_lies_in_that_of_the_other_grid() -> None:
    assert lattice.scaled((4, 4), np.arange(16), (4, 4)).tolist() == list(range(16))
    assert lattice.scaled((2, 4), np.arange(8), (1, 2)).tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert lattice.scaled((1, 2), np.arange(2), (2, 6)).tolist() == [7, 10]
    assert lattice.scaled((1, 1), np.arange(1), (3, 3)).tolist() == [4]
