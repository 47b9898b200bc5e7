"""Scans as codes, one after the other -> the bytes of a file. See docs/format.md."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainvq.codec.coder import compress
from brainvq.codec.entropy import EntropyModel
from brainvq.codec.fields import AROUND, LOSSLESS, MAGIC, VERSION, chunk, number, numbers
from brainvq.codec.header import (
    DENSEST,
    LARGEST_FILE,
    MOST_CODES,
    MOST_PIXELS,
    Header,
    Item,
    name_bytes,
    pack_items,
    refuse_many,
)
from brainvq.codec.lossless.coder import SPAN, pack
from brainvq.errors import InputError

GROUP = 32
"""Slices that share a chunk, so that one damaged byte costs no more; each group costs some 20 bytes."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """The very pixels of a scan, (slices, *S), and what its codes are decoded to, before rounding."""

    values: NDArray[np.int64]
    predicted: NDArray[np.float64]


class Writer:
    """Args:
    group: slices that share a chunk at most.
    lossless: whether scans are given with their pixels.
    """

    def __init__(self, header: Header, model: EntropyModel, *, group: int = GROUP, lossless: bool = False) -> None:
        self.header, self.model, self.most, self.lossless = header, model, group, lossless
        self.items: list[Item] = []
        self.groups: list[tuple[int, list[bytes]]] = []
        self.waiting: list[NDArray[np.int64]] = []
        self.pixels: list[Pixels] = []
        self.runs: list[int] = []
        """Of neighbouring slices that wait."""
        self.slices = self.done = self.bytes = 0

    def add(self, item: Item, codes: NDArray[np.int64], pixels: Pixels | None = None, *, follows: bool = False) -> None:
        """`codes`: (slices, N) of a scan, in the order of `CodeSpec.flatten`. `follows`: its first slice is the next
        after the last one of the scan before.

        Raises:
            InputError: the codes are too many for a file, the scans become too many, or the name is none.
        """
        refuse_many(len(self.items) + 1, self.slices + item.slices)
        for name in (item.name, item.subject or ""):
            name_bytes(name)
        length = sum(math.prod(grid) for grid in self.header.spec.grids(item.size))
        assert codes.shape == (item.slices, length), "codes of this scan"
        if length > MOST_CODES:
            raise InputError(
                f"{item.name}: an image of {item.size} pixels has {length:,} codes, and a file takes {MOST_CODES:,} an "
                "image. Give smaller images."
            )
        assert (pixels is not None) == self.lossless, "pixels of every scan, or of none"
        alike = bool(self.items) and self.items[-1].size == item.size
        if pixels is not None and self.pixels:
            alike &= pixels.values.shape[1:] == self.pixels[-1].values.shape[1:]
        if not alike:
            self._close()
        self.items.append(item)
        self.slices += item.slices
        for i, one in enumerate(codes):
            many = len(self.waiting) + 1
            mine = None if pixels is None else Pixels(pixels.values[i : i + 1], pixels.predicted[i : i + 1])
            if many > self.most or many * length > MOST_CODES or (mine is not None and self._too_much(mine, item)):
                self._close()
            if self.waiting and (i or follows):
                self.runs[-1] += 1
            else:
                self.runs.append(1)
            self.waiting.append(one)
            if mine is not None:
                self.pixels.append(mine)

    def _too_much(self, pixels: Pixels, item: Item) -> bool:
        """Whether a group with this slice of `item` too would have too many pixels, or too wide a range of them."""
        each = [*self.pixels, pixels]
        span = max(int(one.values.max()) for one in each) - min(int(one.values.min()) for one in each)
        return len(each) * math.prod(item.size) > MOST_PIXELS or span >= SPAN

    def finish(self) -> bytes:
        """The whole file.

        Raises:
            InputError: its scans are too many, or their codes.
        """
        self._close()
        sizes = numbers(n for count, payloads in self.groups for n in (count, *map(len, payloads)))
        index = sizes + struct.pack("<I", len(sizes) + 4)
        data = b"".join(
            [
                MAGIC + bytes([LOSSLESS if self.lossless else VERSION]),
                chunk(b"HEAD", self.header.to_bytes()),
                chunk(b"SCAN", pack_items(self.items)),
                *(chunk(*one) for _, each in self.groups for one in zip((b"GRUP", b"PIXL"), each, strict=False)),
                chunk(b"INDX", index),
            ]
        )
        _refuse_large(len(data))
        return data

    def _close(self) -> None:
        """The slices that wait become a group."""
        if not self.waiting:
            return
        codes, grids = np.stack(self.waiting), self.header.spec.grids(self.items[-1].size)
        runs = self.runs if self.header.previous else [1] * len(codes)
        words = compress(self.model, grids, codes, runs).astype("<u4").tobytes()
        words += bytes(max(0, -(-codes.size // (4 * DENSEST)) * 4 - len(words)))
        told: Sequence[int] = runs if self.header.previous else ()
        payloads = [number(self.done) + numbers([len(codes), *told]) + words]
        if self.lossless:
            values, predicted = ([getattr(one, name) for one in self.pixels] for name in ("values", "predicted"))
            payloads.append(pack(np.concatenate(values), np.concatenate(predicted), self.runs))
        self.groups.append((len(codes), payloads))
        self.done += len(codes)
        self.bytes += sum(AROUND + len(payload) for payload in payloads)
        self.waiting, self.pixels, self.runs = [], [], []
        _refuse_large(self.bytes)


def _refuse_large(size: int) -> None:
    if size > LARGEST_FILE:
        raise InputError(f"a file of these scans has more than {LARGEST_FILE:,} bytes. Make several of fewer scans.")
