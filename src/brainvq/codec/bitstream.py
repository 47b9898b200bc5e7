"""A file's bytes -> what it holds, group of slices by group. A stranger's file is held against its own sizes first.

Every byte lies under a checksum, so damage is seen before a model is asked; the index at the end says where each group
lies, so one of them can be read alone, and a damaged one costs no other. Where the index itself is damaged or cut off,
the groups are gone through from the first.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from brainvq.codec.coder import decompress
from brainvq.codec.entropy import EntropyModel
from brainvq.codec.fields import AROUND, MAGIC, START, VERSION, Chunk, Fields, chunk_at
from brainvq.codec.header import DENSEST, MOST_CODES, MOST_SLICES, Header, Item, unpack_items
from brainvq.errors import InputError, counted

REMEDY = "Restore the file from a copy, or pack the images again."
SALVAGE = "Restore the file from a copy, or leave out what it has lost by --skip-broken."


@dataclass(frozen=True)
class Group:
    """Slices `first` to `first + count - 1` of a file, `runs` of neighbours, as `words`."""

    first: int
    count: int
    runs: tuple[int, ...]
    words: bytes = field(repr=False)


@dataclass(frozen=True)
class Fault:
    """What is wrong with slices `first` to `last` of a file."""

    first: int
    last: int
    reason: str


class Bitstream:
    """A file, parsed and checked but not decoded.

    Args:
        name: what errors call it.

    Raises:
        InputError: it is none, of another version, or has lost its header or its table of scans.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name
        if data[: len(MAGIC)] != MAGIC:
            raise InputError(f"{name}: does not begin as a .bvq file does. {REMEDY}")
        if data[len(MAGIC) : START] != bytes([VERSION]):
            given = data[len(MAGIC)] if len(data) > len(MAGIC) else "none"
            raise InputError(f"{name}: is of version {given}, and {VERSION} is known here. Update brainvq.")
        try:
            head = _expect(data, START, b"HEAD")
            self.header = Header.from_bytes(head.payload)
            table = _expect(data, head.end, b"SCAN")
            self.items: tuple[Item, ...] = unpack_items(table.payload, self.header.spec)
        except InputError as error:
            said = str(error).partition(". ")[0].removesuffix(".")
            raise InputError(f"{name}: its header is damaged: {said}. {REMEDY}") from error
        self.starts = np.cumsum([0, *(item.slices for item in self.items)])
        """The number of the first slice of each scan, and of all slices."""
        self.groups: list[Group] = []
        self.faults: list[Fault] = []
        self._find_groups(table.end)

    @property
    def slices(self) -> int:
        return int(self.starts[-1])

    def item_of(self, number: int) -> int:
        """The scan in which slice `number` lies."""
        return int(np.searchsorted(self.starts, number, side="right")) - 1

    def refuse_damage(self) -> None:
        """Raises InputError that tells the slices, unless all groups are sound."""
        if self.faults:
            raise InputError(f"{self.name}: {'; '.join(map(self.told, self.faults[:3]))}. {SALVAGE}")

    def told(self, fault: Fault) -> str:
        if fault.last < fault.first:
            return fault.reason
        last = "" if fault.first == fault.last else f" to {fault.last + 1}"
        names = dict.fromkeys(self.items[self.item_of(number)].name for number in (fault.first, fault.last))
        return f"the group of slices {fault.first + 1}{last} ({' to '.join(names)}) is damaged: {fault.reason}"

    def codes(self, group: Group, model: EntropyModel) -> NDArray[np.int64]:
        """(slices, N) of a group, in the order of `CodeSpec.flatten`.

        Raises:
            InputError: its words are not those of this model.
        """
        grids = self.header.spec.grids(self.items[self.item_of(group.first)].size)
        words = np.frombuffer(group.words, "<u4")
        words = words[: len(words) - int(np.argmax(words[::-1] != 0))] if words.any() else words[:0]  # padding
        try:
            return decompress(model, grids, words, group.runs)
        except InputError as error:
            fault = Fault(group.first, group.first + group.count - 1, str(error))
            raise InputError(f"{self.name}: {self.told(fault)}. {SALVAGE}") from error

    def _find_groups(self, start: int) -> None:
        """By the index; without one, one after the other as far as they are sound."""
        try:
            index = self._index(start)
        except InputError as error:
            self._walk(start, str(error))
            return
        first = 0
        for count, length in index:
            try:
                found = _expect(self.data, start, b"GRUP")
                if found.end != start + AROUND + length:
                    raise InputError("it is not as long as the index says")
                self._add(found, first, count)
            except InputError as error:
                self.faults.append(Fault(first, first + count - 1, str(error)))
            first, start = first + count, start + AROUND + length

    def _index(self, start: int) -> list[tuple[int, int]]:
        """Slices and bytes of each group, the first of which begins at `start`."""
        data = self.data
        if len(data) < start + AROUND + 4:
            raise InputError("the file ends early")
        (length,) = struct.unpack_from("<I", data, len(data) - 8)
        begin = len(data) - AROUND - length
        if length < 4 or begin < start:
            raise InputError("the file ends early, or its index is damaged")
        part = Fields(_expect(data, begin, b"INDX").payload[:-4])
        found = []
        while part.left:
            found.append((part.number(MOST_SLICES, 1), part.number(len(data))))
        if sum(count for count, _ in found) != self.slices:
            raise InputError("its index does not tell of all slices")
        if start + sum(AROUND + size for _, size in found) != begin:
            raise InputError("its groups do not end where its index begins")
        return found

    def _walk(self, start: int, reason: str) -> None:
        first = 0
        try:
            while first < self.slices:
                found = _expect(self.data, start, b"GRUP")
                self._add(found, first, None)
                first, start = first + self.groups[-1].count, found.end
        except InputError as error:
            self.faults.append(Fault(first, self.slices - 1, str(error)))
        else:
            self.faults.append(Fault(0, -1, reason))

    def _add(self, found: Chunk, first: int, count: int | None) -> None:
        """The group of a chunk, which is expected to begin with slice `first` and, where that is known, to hold
        `count`."""
        part = Fields(found.payload)
        if part.number(MOST_SLICES) != first:
            raise InputError("it is not the group that stands here")
        told = part.number(MOST_SLICES, 1)
        if told != (count or told) or first + told > self.slices:
            raise InputError("it is not of as many slices as stand here")
        sizes = {self.items[one].size for one in range(self.item_of(first), self.item_of(first + told - 1) + 1)}
        codes = told * sum(math.prod(grid) for grid in self.header.spec.grids(next(iter(sizes))))
        if len(sizes) > 1 or (told > 1 and codes > MOST_CODES):
            raise InputError("it holds slices of several sizes, or too many")
        if codes > DENSEST * part.left:
            raise InputError(f"its {counted(part.left, 'byte')} cannot hold {counted(codes, 'code')}")
        runs = self._runs(part, told)
        if part.left % 4:
            raise InputError("its words are not whole")
        self.groups.append(Group(first, told, runs, part.take(part.left)))

    def _runs(self, part: Fields, count: int) -> tuple[int, ...]:
        if not self.header.previous:
            return (1,) * count
        runs: list[int] = []
        left = count
        while left:
            runs.append(part.number(left, 1))
            left -= runs[-1]
        return tuple(runs)


def _expect(data: bytes, start: int, kind: bytes) -> Chunk:
    found = chunk_at(data, start)
    if found.kind != kind:
        raise InputError(f"a chunk {found.kind!r} stands where {kind!r} is expected")
    return found
