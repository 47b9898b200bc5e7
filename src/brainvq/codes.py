"""The waist of the hourglass: grids of integers, and the spec that says which grids are legal.

Everything above (data, networks, tokenizers) knows images; everything below (priors, codec) knows only what stands
here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from brainvq.errors import InputError

Codes = tuple[Tensor, ...]
"""Levels from coarse to fine, each a LongTensor (B, *grid). Plain VQ has one level."""


@dataclass(frozen=True)
class CodeSpec:
    """Which codes a tokenizer makes.

    Args:
        entries: codebook entries of each level.
        strides: image pixels per code, per level and axis.
    """

    entries: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        assert len(self.entries) == len(self.strides) > 0, "one stride per level"

    @property
    def axes(self) -> int:
        """Spatial axes of an image: 2 or 3."""
        return len(self.strides[0])

    @property
    def multiple(self) -> tuple[int, ...]:
        """An image's size must be a multiple of this, per axis."""
        return tuple(math.lcm(*(stride[axis] for stride in self.strides)) for axis in range(self.axes))

    def grids(self, size: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Grid of each level for an image of `size` pixels.

        Raises:
            InputError: the size is not a multiple of the strides.
        """
        if len(size) != self.axes or any(n < m or n % m for n, m in zip(size, self.multiple, strict=True)):
            raise InputError(
                f"an image of {_shape(size)} pixels does not fit: this tokenizer takes multiples of "
                f"{_shape(self.multiple)}. Pad the image first (brainvq.load(...).encode does so)."
            )
        return tuple(tuple(n // s for n, s in zip(size, stride, strict=True)) for stride in self.strides)

    def bits(self, size: Sequence[int]) -> int:
        """Bits of one image of `size` pixels when every code has a fixed length."""
        lengths = [max(1, (n - 1).bit_length()) for n in self.entries]
        return sum(math.prod(grid) * bits for grid, bits in zip(self.grids(size), lengths, strict=True))

    def check(self, codes: Codes, size: Sequence[int] | None = None) -> None:
        """Refuse codes that this spec could not have made.

        Raises:
            InputError: levels, types, grids, or entries out of range; both sides are named.
        """
        if len(codes) != len(self.entries):
            raise InputError(f"got {len(codes)} levels of codes; this tokenizer has {len(self.entries)}.")
        for level, code in enumerate(codes):
            if code.dtype != torch.int64 or code.ndim != 1 + self.axes or len(code) != len(codes[0]):
                raise InputError(
                    f"codes[{level}] is {code.dtype} of shape {tuple(code.shape)}; expected torch.int64 of shape "
                    f"({len(codes[0]) if codes[0].ndim else 'B'}, *grid), with {self.axes} axes in the grid."
                )
        size = tuple(n * s for n, s in zip(codes[0].shape[1:], self.strides[0], strict=True)) if size is None else size
        for level, (grid, entries, code) in enumerate(zip(self.grids(size), self.entries, codes, strict=True)):
            if tuple(code.shape[1:]) != grid:
                raise InputError(f"codes[{level}] has grid {tuple(code.shape[1:])}; expected {grid}.")
            if code.numel() and not (int(code.min()) >= 0 and int(code.max()) < entries):
                raise InputError(
                    f"codes[{level}] holds entries {int(code.min())}..{int(code.max())}; "
                    f"this codebook has 0..{entries - 1}. Encode again with this tokenizer."
                )

    def flatten(self, codes: Codes) -> Tensor:
        """(B, total number of codes), coarse level first, each level in row-major order."""
        return torch.cat([code.flatten(1) for code in codes], dim=1)

    def unflatten(self, flat: Tensor, size: Sequence[int]) -> Codes:
        """The inverse of `flatten` for images of `size` pixels.

        Raises:
            InputError: the number of codes is not that of such an image.
        """
        grids = self.grids(size)
        lengths = [math.prod(grid) for grid in grids]
        if flat.shape[1] != sum(lengths):
            raise InputError(
                f"got {flat.shape[1]} codes an image; an image of {_shape(size)} pixels has {sum(lengths)}."
            )
        parts = torch.split(flat, lengths, dim=1)
        return tuple(part.reshape(-1, *grid) for part, grid in zip(parts, grids, strict=True))

    def to_json(self) -> dict[str, Any]:
        return {"entries": list(self.entries), "strides": [list(stride) for stride in self.strides]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CodeSpec:
        """What `to_json` gave.

        Raises:
            InputError: not one stride for each level, or numbers that are no counts.
            KeyError, TypeError: no spec at all.
        """
        entries, strides = tuple(data["entries"]), tuple(tuple(stride) for stride in data["strides"])
        numbers = [*entries, *(n for stride in strides for n in stride)]
        fits = 0 < len(entries) == len(strides) and len({len(stride) for stride in strides}) == 1
        if not fits or not all(type(n) is int and n > 0 for n in numbers):
            raise InputError(
                f"entries {list(entries)} with strides {[list(stride) for stride in strides]} are no spec of codes; "
                "expected for each level a number of entries and as many strides as an image has axes, all at least 1."
            )
        return cls(entries, strides)


def _shape(size: Sequence[int]) -> str:
    return " x ".join(str(n) for n in size)
