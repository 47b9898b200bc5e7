"""Scans as codes, one after the other -> the bytes of a file. See docs/format.md."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brainvq.codec.coder import compress
from brainvq.codec.entropy import EntropyModel
from brainvq.codec.fields import AROUND, MAGIC, VERSION, chunk, number, numbers
from brainvq.codec.header import (
    DENSEST,
    LARGEST_FILE,
    MOST_CODES,
    Header,
    Item,
    name_bytes,
    pack_items,
    refuse_many,
)
from brainvq.errors import InputError

GROUP = 32
"""Slices that share a chunk, so that one damaged byte costs no more; each group costs some 20 bytes."""


class Writer:
    """Args:
    group: slices that share a chunk at most.
    """

    def __init__(self, header: Header, model: EntropyModel, *, group: int = GROUP) -> None:
        self.header, self.model, self.most = header, model, group
        self.items: list[Item] = []
        self.groups: list[tuple[int, bytes]] = []
        self.waiting: list[NDArray[np.int64]] = []
        self.runs: list[int] = []
        self.slices = self.done = self.bytes = 0

    def add(self, item: Item, codes: NDArray[np.int64], *, follows: bool = False) -> None:
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
        alike = bool(self.items) and self.items[-1].size == item.size
        if not alike:
            self._close()
        self.items.append(item)
        self.slices += item.slices
        for i, one in enumerate(codes):
            full = len(self.waiting) == self.most or (len(self.waiting) + 1) * length > MOST_CODES
            if full:
                self._close()
            if self.header.previous and self.waiting and (i or follows):
                self.runs[-1] += 1
            else:
                self.runs.append(1)
            self.waiting.append(one)

    def finish(self) -> bytes:
        """The whole file.

        Raises:
            InputError: its scans are too many, or their codes.
        """
        self._close()
        sizes = numbers(n for count, payload in self.groups for n in (count, len(payload)))
        index = sizes + struct.pack("<I", len(sizes) + 4)
        data = b"".join(
            [
                MAGIC + bytes([VERSION]),
                chunk(b"HEAD", self.header.to_bytes()),
                chunk(b"SCAN", pack_items(self.items)),
                *(chunk(b"GRUP", payload) for _, payload in self.groups),
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
        words = compress(self.model, grids, codes, self.runs).astype("<u4").tobytes()
        words += bytes(max(0, -(-codes.size // (4 * DENSEST)) * 4 - len(words)))
        runs: Sequence[int] = self.runs if self.header.previous else ()
        payload = number(self.done) + numbers([len(codes), *runs]) + words
        self.groups.append((len(codes), payload))
        self.done += len(codes)
        self.bytes += AROUND + len(payload)
        self.waiting, self.runs = [], []
        _refuse_large(self.bytes)


def _refuse_large(size: int) -> None:
    if size > LARGEST_FILE:
        raise InputError(f"a file of these scans has more than {LARGEST_FILE:,} bytes. Make several of fewer scans.")
