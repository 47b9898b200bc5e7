"""A file's bytes -> what it holds, group of slices by group. A stranger's file is held against its own sizes first.

Every byte lies under a checksum, so damage is seen before a model is asked; the index at the end says where each group
lies, so one of them can be read alone, and a damaged one costs no other. Where the index itself is damaged or cut off,
the groups are gone through from the first.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from brainvq.codec.coder import decompress
from brainvq.codec.entropy import EntropyModel
from brainvq.codec.fields import AROUND, LOSSLESS, MAGIC, START, VERSION, Chunk, Fields, chunk_at
from brainvq.codec.header import DENSEST, MOST_CODES, MOST_PIXELS, MOST_SLICES, Header, Item, unpack_items
from brainvq.errors import InputError, counted

REMEDY = "Restore the file from a copy, or pack the images again."
SHOWN = 3  # faults in a message
SALVAGE = "Restore the file from a copy, or leave out what it has lost by --skip-broken."


@dataclass(frozen=True)
class Group:
    """Slices `first` to `first + count - 1` of a file, `runs` of neighbours, as `words`; in a lossless file what
    `pixels` tells besides."""

    first: int
    count: int
    runs: tuple[int, ...]
    words: bytes = field(repr=False)
    pixels: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Fault:
    """What is wrong with so many slices of a file; with none of them, where it has only lost its index."""

    first: int
    count: int
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
        self.version = data[len(MAGIC)] if len(data) > len(MAGIC) else 0
        if self.version not in (VERSION, LOSSLESS):
            known = f"{VERSION} and {LOSSLESS} are known here"
            raise InputError(f"{name}: is of version {self.version or 'none'}, and {known}. Update brainvq.")
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

    @property
    def lossless(self) -> bool:
        """Whether it gives back the very pixels."""
        return self.version == LOSSLESS

    def item_of(self, number: int) -> int:
        """The scan in which slice `number` lies."""
        return int(np.searchsorted(self.starts, number, side="right")) - 1

    def refuse_damage(self) -> None:
        """Raises InputError that tells the slices, unless all groups are sound."""
        if self.faults:
            raise InputError(f"{self.name}: {'; '.join(map(self.told, self.faults[:SHOWN]))}. {SALVAGE}")

    def lost(self, item: Item, fault: Fault) -> InputError:
        """What to say of a scan that lies in a damaged group."""
        return InputError(f"{self.name}: {item.name} is lost: {self.told(fault)}. {SALVAGE}")

    def told(self, fault: Fault) -> str:
        """In words, with the slices and the scans at their ends."""
        if not fault.count:
            return fault.reason
        first, last = fault.first, fault.first + fault.count - 1
        names = dict.fromkeys(self.items[self.item_of(number)].name for number in (first, last))
        slices = f"slice {first + 1}" if first == last else f"slices {first + 1} to {last + 1}"
        return f"the group of {slices} ({' to '.join(names)}) is damaged: {fault.reason}"

    def codes(self, group: Group, model: EntropyModel) -> NDArray[np.int64]:
        """(slices, N) of a group, in the order of `CodeSpec.flatten`.

        Raises:
            InputError: its words are not those of this model.
        """
        grids = self.header.spec.grids(self.items[self.item_of(group.first)].size)
        words = np.frombuffer(group.words, "<u4")
        used = int(np.flatnonzero(words)[-1]) + 1 if words.any() else 0  # what follows is padding
        return decompress(model, grids, words[:used], group.runs)

    def decoded(
        self, model: EntropyModel, which: Iterable[int] | None = None
    ) -> Iterator[tuple[Item, NDArray[np.int64] | Fault]]:
        """Each scan with its codes, (slices, N), or with what is wrong with a group that it lies in.

        Args:
            which: numbers of scans; None for all. No group is decoded but those in which they lie.

        Raises:
            InputError: there is no scan of such a number.
        """
        return self.each(lambda group: self.codes(group, model), which)

    def each(
        self, read: Callable[[Group], NDArray[np.int64]], which: Iterable[int] | None = None
    ) -> Iterator[tuple[Item, NDArray[np.int64] | Fault]]:
        """As `decoded`, with what `read` makes of a group in place of codes: (slices, ...), or an InputError."""
        every: list[Group | Fault] = [*self.groups, *(one for one in self.faults if one.count)]
        parts = sorted(every, key=lambda part: part.first)
        firsts, held = [part.first for part in parts], -1
        found: NDArray[np.int64] | Fault
        for number in self.numbers(which):
            start, stop = int(self.starts[number]), int(self.starts[number + 1])
            whole: list[NDArray[np.int64]] = []
            fault = None
            while start < stop:
                at = bisect_right(firsts, start) - 1
                if at != held:
                    held, found = at, _read_or_fault(parts[at], read)
                first, end = parts[at].first, min(stop, parts[at].first + parts[at].count)
                if isinstance(found, Fault):
                    fault = found
                else:
                    whole.append(found[start - first : end - first])
                start = end
            yield self.items[number], fault or np.concatenate(whole)

    def numbers(self, which: Iterable[int] | None) -> Sequence[int]:
        """Numbers of scans; those of all for None.

        Raises:
            InputError: there is no scan of such a number.
        """
        found = range(len(self.items)) if which is None else list(which)
        if odd := [number for number in found if not 0 <= number < len(self.items)]:
            raise InputError(
                f"{self.name}: holds {counted(len(self.items), 'scan')}, counted from 0; scan {odd[0]} is none of them."
            )
        return found

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
                if self._add(start, first, count) != start + length:
                    raise InputError("it is not as long as the index says")
            except InputError as error:
                if self.groups and self.groups[-1].first == first:
                    self.groups.pop()
                self.faults.append(Fault(first, count, str(error)))
            first, start = first + count, start + length

    def _index(self, start: int) -> list[tuple[int, int]]:
        """Slices of each group, and bytes with all that stands around, the first of which begins at `start`."""
        data = self.data
        if len(data) < start + AROUND + 4:
            raise InputError("the file ends early")
        (length,) = struct.unpack_from("<I", data, len(data) - 8)
        begin = len(data) - AROUND - length
        if length < 4 or begin < start:
            raise InputError("the file ends early")
        part = Fields(_expect(data, begin, b"INDX").payload[:-4])
        found = []
        while part.left:
            count, sizes = part.number(MOST_SLICES, 1), [part.number(len(data)) for _ in range(1 + self.lossless)]
            found.append((count, sum(AROUND + size for size in sizes)))
        if sum(count for count, _ in found) != self.slices:
            raise InputError("its index does not tell of all slices")
        if start + sum(size for _, size in found) != begin:
            raise InputError("its groups do not end where its index begins")
        return found

    def _walk(self, start: int, reason: str) -> None:
        first = 0
        try:
            while first < self.slices:
                start = self._add(start, first, None)
                first += self.groups[-1].count
        except InputError as error:
            self.faults.append(Fault(first, self.slices - first, str(error)))
        else:
            self.faults.append(Fault(0, 0, f"its index is damaged: {reason}"))

    def _add(self, start: int, first: int, count: int | None) -> int:
        """The group at `start`, which is expected to begin with slice `first` and, where that is known, to hold
        `count`; where it ends."""
        found = _expect(self.data, start, b"GRUP")
        part = Fields(found.payload)
        if part.number(MOST_SLICES) != first:
            raise InputError("it is not the group that stands here")
        told = part.number(MOST_SLICES, 1)
        if told != (count or told) or first + told > self.slices:
            raise InputError("it is not of as many slices as stand here")
        sizes = {self.items[one].size for one in range(self.item_of(first), self.item_of(first + told - 1) + 1)}
        size = next(iter(sizes))
        codes, pixels = told * sum(map(math.prod, self.header.spec.grids(size))), told * math.prod(size)
        if len(sizes) > 1 or (told > 1 and (codes > MOST_CODES or (self.lossless and pixels > MOST_PIXELS))):
            raise InputError("it holds slices of several sizes, or too many")
        if codes > DENSEST * part.left:
            raise InputError(f"its {counted(part.left, 'byte')} cannot hold {counted(codes, 'code')}")
        runs = self._runs(part, told)
        if part.left % 4:
            raise InputError("its words are not whole")
        missed = _expect(self.data, found.end, b"PIXL") if self.lossless else Chunk(b"", b"", found.end)
        self.groups.append(Group(first, told, runs, part.take(part.left), missed.payload))
        return missed.end

    def _runs(self, part: Fields, count: int) -> tuple[int, ...]:
        if not self.header.previous:
            return (1,) * count
        runs: list[int] = []
        left = count
        while left:
            runs.append(part.number(left, 1))
            left -= runs[-1]
        return tuple(runs)


def _read_or_fault(part: Group | Fault, read: Callable[[Group], NDArray[np.int64]]) -> NDArray[np.int64] | Fault:
    if isinstance(part, Fault):
        return part
    try:
        return read(part)
    except InputError as error:
        return Fault(part.first, part.count, str(error))


def _expect(data: bytes, start: int, kind: bytes) -> Chunk:
    found = chunk_at(data, start)
    if found.kind != kind:
        raise InputError(f"a chunk {found.kind!r} stands where {kind!r} is expected")
    return found
