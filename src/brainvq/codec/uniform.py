"""All entries alike at every code: what there is without an entropy model, and the yardstick of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from brainvq.codec.entropy import TOTAL, Arrays, EntropyModel, Grids
from brainvq.errors import InputError


class Uniform(EntropyModel):
    """A pass for each level, whose codes share one table."""

    kind: ClassVar[str] = "uniform"

    def passes(self, grids: Grids) -> Sequence[NDArray[np.int64]]:
        ends = np.cumsum([math.prod(grid) for grid in grids])
        return np.split(np.arange(ends[-1]), ends[:-1])

    def tables(
        self, number: int, grids: Grids, known: NDArray[np.int64], previous: NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        entries = self.entries[number]
        return (np.arange(entries + 1) * TOTAL // entries).astype(np.uint32)[None, None]

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    @classmethod
    def from_arrays(cls, entries: Sequence[int], arrays: Arrays) -> Self:
        if arrays:
            raise InputError(f"a uniform entropy model has no arrays, and these hold {', '.join(sorted(arrays))}.")
        return cls(entries)
