"""What is wrong with images only beside others: sizes, types, copies, brightness; and images without content.

Brightness is the mean of the grey values inside the head mask, as a model sees them. Where each slice was scaled to its
own brightest pixel, a capsule at the rim darkens a whole slice, or a run of them: in about one OASIS subject in twelve
the brightest slice has more than `UNEVEN` times the brightness of the darkest. The drop often takes two to four slices,
so neighbours alone would miss most. Slices with less than half of the subject's largest head, as at the vertex, are not
compared: there anatomy itself changes the mean.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from brainvq.check.findings import Problem
from brainvq.check.images import Image
from brainvq.check.roll import NOBODY

UNEVEN = 1.3


@dataclass(frozen=True)
class Member:
    """An image in its place; `image` is None where the file cannot be read. `file` is relative to the data folder."""

    file: str
    split: str
    subject: str
    image: Image | None


def faults(members: Sequence[Member]) -> Iterator[Problem]:
    """All of them; `members` in the order of splits and slices."""
    readable = [(member, member.image) for member in members if member.image]
    yield from _sizes(readable)
    yield from _types(readable)
    yield from _constant(readable)
    yield from _copies(readable)
    yield from _brightness(readable)


Readable = Sequence[tuple[Member, Image]]


def _commonest(values: Iterable[str]) -> str:
    counts = Counter(values).most_common(1)
    return counts[0][0] if counts else ""


def _sizes(readable: Readable) -> Iterator[Problem]:
    expected = _commonest(image.size for _, image in readable)
    remedy = "Crop, pad or resample the images to one size, or keep one size a folder."
    for member, image in readable:
        if image.size != expected:
            reason = f"{image.size} pixels; most images have {expected}"
            yield Problem("mixed sizes", member.file, reason, remedy, member.split != "test")


def _types(readable: Readable) -> Iterator[Problem]:
    """8-bit images keep their 256 levels, others are windowed one by one: mixed, they are scaled by two rules."""
    eight = Counter(image.dtype == "uint8" for _, image in readable)
    if len(eight) < 2:
        return
    odd = eight[True] <= eight[False]
    remedy = "Convert the images to one type with one scale."
    for member, image in readable:
        if (image.dtype == "uint8") == odd:
            reason = f"{image.dtype}; most images are {'not ' if odd else ''}8 bit, and scaled by another rule"
            yield Problem("mixed types", member.file, reason, remedy, False)


def _constant(readable: Readable) -> Iterator[Problem]:
    for member, image in readable:
        if image.low == image.high:
            reason = f"every pixel is {image.low:g}"
            yield Problem("constant", member.file, reason, "Remove it, if it is not an empty slice.", False)


def _copies(readable: Readable) -> Iterator[Problem]:
    first: dict[bytes, Member] = {}
    for member, image in readable:
        if image.low == image.high:
            continue
        other = first.setdefault(image.digest, member)
        if other is member:
            continue
        across = other.split != member.split
        whose = (
            f"of {other.split}"
            if across
            else "of this subject"
            if other.subject == member.subject
            else "of another subject"
        )
        reason = f"the same pixels as {other.file}, {whose}" + (": measures would be too good" if across else "")
        yield Problem("copy", member.file, reason, "Remove one of them.", across)


def _brightness(readable: Readable) -> Iterator[Problem]:
    subjects: dict[tuple[str, str], list[tuple[Member, Image]]] = defaultdict(list)
    for member, image in readable:
        if member.subject != NOBODY and image.brightness:
            subjects[member.split, member.subject].append((member, image))
    for (_, subject), slices in subjects.items():
        largest = max(image.head for _, image in slices)
        told = [(image.brightness, member.file) for member, image in slices if image.head >= largest / 2]
        (dark, file), (bright, other) = min(told), max(told)
        if bright > UNEVEN * dark:
            reason = f"subject {subject}: the head is {bright / dark:.2f} times as bright in {_name(other)}"
            yield Problem("brightness", file, reason, "Scale each subject as a whole, not slice by slice.", False)


def _name(file: str) -> str:
    return file.rpartition("/")[2]
