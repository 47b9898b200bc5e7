"""The codes of an image as one row of positions, coarse level first, and what lies around each of them in the image.

Levels may have grids of different sizes over the same image, or equal ones (residual codes), and any number of axes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from brainvq.codes import Codes, CodeSpec


def coordinates(spec: CodeSpec, size: Sequence[int]) -> Tensor:
    """Centre of each code (N, axes), in the smallest stride of each axis."""
    smallest = [min(stride[axis] for stride in spec.strides) for axis in range(spec.axes)]
    found = []
    for grid, strides in zip(spec.grids(size), spec.strides, strict=True):
        sides = [
            (torch.arange(n) + 0.5) * (stride / unit) for n, stride, unit in zip(grid, strides, smallest, strict=True)
        ]
        found.append(torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1).flatten(0, -2))
    return torch.cat(found)


def earlier_around(spec: CodeSpec, size: Sequence[int]) -> Tensor:
    """For each position those around it that come before it, (N, places); N where there is none.

    The one just before it first, wherever that lies, so that nothing before a position stays unknown to it.
    """
    around = _around(spec, size, [step for step in _steps(spec.axes) if step < (0,) * spec.axes])
    before = torch.arange(len(around)) - 1
    before[0] = len(around)
    return torch.cat([before[:, None], around[:, :-2], around[:, -1:]], dim=1)  # but for the one at its left, now twice


def all_around(spec: CodeSpec, size: Sequence[int]) -> Tensor:
    """For each position itself and those around it, (N, places); N where there is none."""
    return _around(spec, size, _steps(spec.axes))


def _steps(axes: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 0, 1), repeat=axes))


def _around(spec: CodeSpec, size: Sequence[int], steps: Sequence[tuple[int, ...]]) -> Tensor:
    """In its own level at `steps`, and the code of the level before at the same place."""
    grids = spec.grids(size)
    total, start = sum(math.prod(grid) for grid in grids), 0
    found: list[Tensor] = []
    above: Tensor | None = None
    for grid in grids:
        flat = torch.arange(start, start + math.prod(grid)).view(grid)
        beyond = F.pad(flat, (1, 1) * len(grid), value=total)
        places = [
            beyond[tuple(slice(1 + d, 1 + d + n) for d, n in zip(step, grid, strict=True))].flatten() for step in steps
        ]
        if above is None:
            over = torch.full((flat.numel(),), total)
        else:
            picks = [torch.arange(n) * m // n for n, m in zip(grid, above.shape, strict=True)]
            over = above[torch.meshgrid(*picks, indexing="ij")].flatten()
        found.append(torch.stack([*places, over], dim=1))
        above, start = flat, start + flat.numel()
    return torch.cat(found)


ALONE, OWN, SHARED = 0.5, 0.2, 0.45
"""Deviations of what a position is shown at first: of entries alone; of their own part, and by what is common."""


class Surroundings(nn.Module):
    """Codes as vectors: what stands at each of the places around a position, each place with its own vectors, summed.

    A vector is that of the entry itself; and, where it has `features`, a linear function of what it has in common with
    others (`likeness.py`).

    Args:
        places: indices of positions (N, places), N for none.
        features: how many the entries have.
    """

    places: Tensor
    shift: Tensor

    def __init__(self, spec: CodeSpec, places: Tensor, width: int, features: int) -> None:
        super().__init__()
        self.entries, around = sum(spec.entries), places.shape[1]
        self.rows = self.entries + 2  # of a place: the entries of all levels, none, hidden
        own = OWN if features else ALONE
        self.weight = nn.Parameter(torch.randn(around * self.rows, width) * own / around**0.5)
        self.shared: nn.Parameter | None = None
        if features:
            self.shared = nn.Parameter(torch.randn(around, features, width) * SHARED / (around * features) ** 0.5)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("shift", torch.arange(places.shape[1]) * self.rows, persistent=False)
        starts = list(itertools.accumulate(spec.entries, initial=0))[:-1]
        self.starts: Sequence[int] = starts

    @property
    def none(self) -> int:
        return self.entries

    @property
    def hidden(self) -> int:
        return self.entries + 1

    def ids(self, codes: Codes) -> Tensor:
        """Each level (B, *grid) -> (B, N + 1): numbers of entries that differ between levels, and none at the end.

        A code of -1 is none.
        """
        flat = [torch.where(code < 0, self.none, code + start) for code, start in zip(codes, self.starts, strict=True)]
        return F.pad(torch.cat([code.flatten(1) for code in flat], dim=1), (0, 1), value=self.none)

    def table(self, features: Tensor) -> Tensor:
        """Of all entries (entries, features) -> the vectors of each place in turn, (places rows, width)."""
        if self.shared is None:
            return self.weight
        shared = F.pad(features @ self.shared, (0, 0, 0, self.rows - self.entries))
        return self.weight + shared.flatten(0, 1)

    def forward(self, ids: Tensor, table: Tensor) -> Tensor:
        """(B, N + 1), and the vectors of each place, as `table` gives them -> (B, N, width)."""
        rows = ids[:, self.places] + self.shift
        summed = F.embedding_bag(rows.flatten(0, 1), table, mode="sum")
        return summed.view(*rows.shape[:2], -1)
