"""Small `.bvq` files, made by integer formulas: the same on every machine, and those of `tests/golden/`.

python -m benchmarks.fuzz.bvq_seeds tests/golden      writes the golden files anew, for a new version of the format only
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.codec.bitstream import Bitstream, Group
from brainvq.codec.entropy import EntropyModel
from brainvq.codec.header import Header, Item
from brainvq.codec.lossless.coder import unpack
from brainvq.codec.position import Position, frequencies
from brainvq.codec.uniform import Uniform
from brainvq.codec.writer import Pixels, Writer
from brainvq.codes import CodeSpec
from brainvq.data.frame_bytes import frame_to_bytes
from brainvq.data.transforms import Frame


class Neighbours(EntropyModel):
    """Even codes first, then odd ones on the even ones beside them; all on the slice before. One number of a pass may
    depend on any of those, so a decoder that mixes them up decodes something else."""

    kind = "neighbours"
    takes_previous = True

    def passes(self, grids: Any) -> Sequence[NDArray[np.int64]]:
        found, first = [], 0
        for grid in grids:
            codes = np.arange(first, first + math.prod(grid))
            found += [codes[::2], codes[1::2]]
            first += len(codes)
        return found

    def tables(self, number: int, grids: Any, known: Any, previous: Any) -> NDArray[np.uint32]:
        codes = self.passes(grids)[number]
        entries = self.entries[number // 2]
        assert (known[:, codes] == -1).all(), "codes that are not decoded yet are not known"
        beside = known[:, codes - 1] + (known.sum(1) + 2 * known.shape[1])[:, None]
        shift = 3 * beside + 5 * previous[:, codes] + codes
        return frequencies((np.arange(entries) * 7 + shift[..., None]) % 23**2 % 23 + 1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"rule": np.array([3, 5, 7, 23], np.int16)}

    @classmethod
    def from_arrays(cls, entries: Any, arrays: Any) -> Neighbours:
        return cls(entries)


@dataclass(frozen=True)
class Example:
    model: EntropyModel
    spec: CodeSpec
    items: tuple[Item, ...]
    codes: tuple[NDArray[np.int64], ...]
    group: int
    lossless: bool = False

    def writer(self) -> Writer:
        tokenizer = bytes(range(16)).hex()
        header = Header(tokenizer, self.model.sha256[:32], self.model.kind, "toy", self.spec, self.model.takes_previous)
        return Writer(header, self.model, group=self.group, lossless=self.lossless)

    def to_bytes(self) -> bytes:
        writer = self.writer()
        for item, codes in zip(self.items, self.codes, strict=True):
            writer.add(item, codes, self.pixels(item, codes), follows=item.slices == 1)
        return writer.finish()

    def pixels(self, item: Item, codes: NDArray[np.int64]) -> Pixels | None:
        """What a lossless file holds of a scan."""
        if not self.lossless:
            return None
        predicted = self.predicted(item, codes)
        missed = np.arange(predicted.size).reshape(predicted.shape) ** 2 % 7 - 3
        return Pixels(np.floor(predicted).astype(np.int64) + missed, predicted)

    def predicted(self, item: Item, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """(slices, *size): what stands for the tokenizer's decoder. Each code is a brightness of its pixels; every
        other is a half."""
        (grid,), (stride,) = self.spec.grids(item.size), self.spec.strides
        found = codes.reshape(-1, *grid).astype(np.float64) * 10.5
        for axis, many in enumerate(stride, start=1):
            found = found.repeat(many, axis)
        return found

    def values(self, file: Bitstream, group: Group) -> NDArray[np.int64]:
        """The pixels of a group of such a file."""
        return unpack(group.pixels, self.shown(file, group))

    def shown(self, file: Bitstream, group: Group) -> NDArray[np.float64]:
        """`predicted` of a group."""
        return self.predicted(file.items[file.item_of(group.first)], file.codes(group, self.model))


def example_of(
    model: EntropyModel, spec: CodeSpec, sizes: Sequence[tuple[int, ...]], group: int, *, lossless: bool = False
) -> Example:
    """A scan of each size (slices, *image), as its frame has it."""
    items, codes = [], []
    for number, (slices, *size) in enumerate(sizes):
        affine = np.diag([1.0, 2.0, 3.0, 1.0]).tolist()
        picture = Frame(tuple(size), ((0, 0),) * len(size), (0.0, 255.0), "uint8", None)
        volume = Frame((*size, slices), ((0, 0), (0, 0)), (0.0, 900.0), "int16", affine, None, "axial")
        frame = picture if slices == 1 else volume
        name = f"case_1_slice_{number}.png" if slices == 1 else f"head_{number}.nii.gz"
        items.append(Item(name, None if number % 2 else "1", slices, tuple(size), frame_to_bytes(frame)))
        each = [
            np.arange(math.prod(grid)) * (number + 3)
            + np.arange(slices)[:, None] // 2
            + np.arange(math.prod(grid)) ** 2
            for grid in spec.grids(size)
        ]
        codes.append(np.concatenate([part % n for part, n in zip(each, spec.entries, strict=True)], axis=1))
    return Example(model, spec, tuple(items), tuple(codes), group, lossless)


@cache
def examples() -> dict[str, Example]:
    one = CodeSpec((5,), ((4, 4),))
    two = CodeSpec((7, 3), ((8, 8), (4, 4)))
    weights = (np.arange(6 * 5) ** 2 % 11 * 100 + 1).astype(np.uint16).reshape(3, 2, 5)
    pictures = [(1, 16, 8)] * 5
    return {
        "uniform": example_of(Uniform(one.entries), one, [*pictures, (7, 8, 12)], 4),
        "position": example_of(Position(one.entries, [weights]), one, [(1, 12, 16), *pictures], 3),
        "previous": example_of(Neighbours(two.entries), two, [*pictures, (7, 16, 24), (3, 16, 24)], 4),
        "lossless": example_of(Uniform(one.entries), one, [*pictures, (2, 8, 12)], 3, lossless=True),
    }


if __name__ == "__main__":
    for name, example in examples().items():
        (Path(sys.argv[1]) / f"{name}.bvq").write_bytes(example.to_bytes())
