"""Codes from those around them, in a few passes: a small network in whole numbers, and no other.

What `priors/context.py` learns, evaluated in NumPy. All weights and activations are integers and every sum stays below
2^24 whatever the codes are, which is checked when a model is made: so a product of matrices is exact in float32, in
whatever order a library sums, and float32 is the fastest there is. From the logits on all is int64.

Sources: J. Balle et al., Integer Networks for Data Compression with Latent-Variable Models, 2019; D. He et al.,
Checkerboard Context Model for Efficient Learned Image Compression, 2021.
"""

from __future__ import annotations

import decimal
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from brainvq import lattice
from brainvq.codec.context_arrays import LARGEST_HIDDEN, check, of_level
from brainvq.codec.entropy import AT_ONCE, PRECISION, TOTAL, Arrays, EntropyModel, Grids

STEPS = 64
"""Of a logit, in a nat."""
DECIMAL = decimal.Context(40, decimal.ROUND_HALF_EVEN, Emin=-999999, Emax=999999, clamp=0, traps=[])
PLANS = 4
"""Grids whose passes are kept, and where their codes look."""
MOST_KEPT = 1 << 17
"""Codes of an image of which that is kept: 400 bytes each."""

Integers = NDArray[np.int64]
Numbers = NDArray[Any]
"""Whole numbers in the type that they are multiplied in."""


class Context(EntropyModel):
    """Args:
    arrays: as `priors.context.Context.entropy` gives them.
    numbers: the type to multiply in; float32, float64 and int64 give the same.
    """

    kind: ClassVar[str] = "context"

    def __init__(self, entries: Sequence[int], arrays: Arrays, numbers: type[Any] = np.float32) -> None:
        super().__init__(entries)
        check(self.entries, arrays)
        self.kept = dict(arrays)
        shifts = tuple(int(shift) for shift in arrays["shifts"])
        levels = [of_level(arrays, n) for n in range(len(self.entries))]
        self.levels = [_Level(level, shifts, numbers) for level in levels]
        self.takes_previous = any(len(level["before_offsets"]) for level in levels)
        self.plans: dict[tuple[tuple[int, ...], ...], list[_Pass]] = {}

    def passes(self, grids: Grids) -> Sequence[Integers]:
        return [each.numbers for each in self._plan(grids)]

    def tables(self, number: int, grids: Grids, known: Integers, previous: Integers) -> NDArray[np.uint32]:
        each = self._plan(grids)[number]
        level, around = self.levels[each.level], each.around
        if around is None:
            around = _look_around(each, level)
        above = known[:, each.above_part] if each.level else None
        return cumulated(level.logits(each.phase, around, known[:, each.part], previous[:, each.part], above))

    @property
    def numbers(self) -> int:
        return max(level.numbers for level in self.levels)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return dict(self.kept)

    @classmethod
    def from_arrays(cls, entries: Sequence[int], arrays: Arrays) -> Self:
        return cls(entries, arrays)

    def _plan(self, grids: Grids) -> list[_Pass]:
        key = tuple(tuple(int(n) for n in grid) for grid in grids)
        if key not in self.plans:
            while len(self.plans) >= PLANS:
                del self.plans[next(iter(self.plans))]
            self.plans[key] = _plan(key, self.levels)
        return self.plans[key]


@dataclass(frozen=True, eq=False)
class _Around:
    """Where codes find what they are told of: indices into the codes of their level, of the slice before, of the level
    before, (n, places) each, -1 for nowhere; and where they lie on the grid of training, (n,).
    """

    near: Integers
    before: Integers
    above: Integers
    position: Integers


@dataclass(frozen=True, eq=False)
class _Pass:
    """Some `codes` of one phase of a level, on its `grid`, beside the grid of the level before.

    `part`, `above_part`: the codes of these levels among all of the image. `around`: None where an image has so many
    codes that it is found anew each time.
    """

    level: int
    phase: int
    codes: Integers
    grid: tuple[int, ...]
    above_grid: tuple[int, ...]
    part: slice
    above_part: slice
    around: _Around | None = None

    @property
    def numbers(self) -> Integers:
        """Of the codes among all of the image."""
        return self.codes + int(self.part.start)


def _plan(grids: Sequence[tuple[int, ...]], levels: Sequence[_Level]) -> list[_Pass]:
    """All passes of such images; those of many codes in parts."""
    edges = np.cumsum([0, *(math.prod(grid) for grid in grids)]).tolist()
    parts = [slice(start, end) for start, end in itertools.pairwise(edges)]
    found = []
    for n, (level, grid) in enumerate(zip(levels, grids, strict=True)):
        above = max(n - 1, 0)
        for phase, codes in enumerate(lattice.split(grid, level.phases)):
            for part in np.split(codes, range(level.together, len(codes), level.together)) if len(codes) else []:
                each = _Pass(n, phase, part, grid, grids[above], parts[n], parts[above])
                found.append(replace(each, around=_look_around(each, level)) if edges[-1] <= MOST_KEPT else each)
    return found


def _look_around(each: _Pass, level: _Level) -> _Around:
    over = lattice.scaled(each.grid, each.codes, each.above_grid)
    return _Around(
        near=_places(each.grid, each.codes, level.near_offsets[each.phase]),
        before=_places(each.grid, each.codes, level.before_offsets),
        above=_places(each.above_grid, over, level.above_offsets),
        position=lattice.scaled(each.grid, each.codes, level.grid),
    )


def _places(grid: Sequence[int], codes: Integers, offsets: Integers) -> Integers:
    """Where the codes find what they are told of; -1 for nowhere."""
    found = lattice.places(grid, codes, offsets)
    return np.where(found == math.prod(grid), -1, found)


class _Level:
    """The network of one level. Its weights are whole numbers of the type that they are multiplied in."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], shifts: tuple[int, ...], numbers: type[Any]) -> None:
        def take(name: str) -> Numbers:
            return arrays[name].astype(numbers)

        self.first_shift, self.layer_shift, self.logit_shift, table_shift = shifts
        self.phases = arrays["phases"].astype(np.int64)
        self.grid = [int(n) for n in arrays["grid"]]
        offsets = (arrays[f"{name}_offsets"].astype(np.int64) for name in ("near", "before", "above"))
        self.near_offsets, self.before_offsets, self.above_offsets = offsets
        self.embedding, self.above_embedding = take("embedding"), take("above_embedding")
        self.near = take("near").swapaxes(1, 2).copy()  # (phases, numbers, width)
        self.before, self.above = take("before").T.copy(), take("above").T.copy()
        self.bias = take("bias") + (1 << self.first_shift - 1)  # the half that rounds to the nearest
        self.place = take("position") @ take("place").T
        self.layers = take("layers").swapaxes(1, 2).copy()
        self.layer_bias = take("layer_bias") + (1 << self.layer_shift - 1)
        self.head = take("head").T.copy()
        self.table = take("table") * (1 << table_shift) + take("head_bias")
        told = self.near.shape[1] + len(self.before) + len(self.above)
        self.numbers: int = max(self.table.shape[1] + 1, told, self.near.shape[2])
        """Of a code, at a time: its table, what it is told, or a hidden layer."""
        self.together = max(1, AT_ONCE // self.numbers)
        """Codes of a pass, so that what it takes in memory is bounded."""
        self.no_before = np.tile(self.embedding[-1], len(self.before_offsets)) @ self.before

    def logits(
        self, phase: int, around: _Around, own: Integers, previous: Integers, above: Integers | None
    ) -> Integers:
        """(B, codes of the pass, entries) in steps of a nat, from known codes (B, N) of each sort, -1 where unknown."""
        x = _seen(own, around.near, self.embedding) @ self.near[phase]
        x += (self.place[around.position] + self.bias[phase])[None]
        if len(self.before_offsets):
            nothing = bool((previous < 0).all())
            x += self.no_before if nothing else _seen(previous, around.before, self.embedding) @ self.before
        if above is not None:
            x += _seen(above, around.above, self.above_embedding) @ self.above
        h = np.clip(_shifted(x, self.first_shift), 0, LARGEST_HIDDEN)
        for weight, bias in zip(self.layers, self.layer_bias, strict=True):
            x = h @ weight + h * (1 << self.layer_shift) + bias
            h = np.clip(_shifted(x, self.layer_shift), 0, LARGEST_HIDDEN)
        return _shifted(h @ self.head + self.table[around.position], self.logit_shift).astype(np.int64)


def _seen(codes: Integers, places: Integers, embedding: Numbers) -> Numbers:
    """The numbers of what stands at `places` (n, places) of the codes (B, N), (B, n, numbers); row -1 for nothing."""
    padded = np.concatenate([codes, np.full((len(codes), 1), -1)], axis=1)
    found: Numbers = embedding[padded[:, places]]
    return found.reshape(*found.shape[:2], -1)


def _shifted(x: Numbers, bits: int) -> Numbers:
    """Whole numbers through 2^bits, rounded down: exact in any type that holds them."""
    found: Numbers = x >> bits if x.dtype.kind == "i" else np.floor(x * x.dtype.type(2.0**-bits))
    return found


def cumulated(logits: Integers) -> NDArray[np.uint32]:
    """Logits (..., entries) in steps of a nat as cumulative frequencies (..., entries + 1), each at least 1 wide."""
    powers = exponentials()
    below = np.minimum(logits.max(axis=-1, keepdims=True) - logits, len(powers) - 1)
    mass = powers[below].cumsum(axis=-1)
    entries = logits.shape[-1]
    found = np.zeros((*logits.shape[:-1], entries + 1), dtype=np.uint32)
    found[..., 1:] = mass * (TOTAL - entries) // mass[..., -1:] + np.arange(1, entries + 1)
    return found


@functools.cache
def exponentials() -> Integers:
    """2^24 exp(-i / STEPS) to the nearest whole number, down to 0: decimal arithmetic is the same everywhere, in a
    context of its own."""
    with decimal.localcontext(DECIMAL):
        count = math.ceil(STEPS * (PRECISION + 2) * math.log(2))
        exact = [TOTAL * (decimal.Decimal(-i) / STEPS).exp() for i in range(count)]
        return np.array([int(each.to_integral_value()) for each in exact], dtype=np.int64)
