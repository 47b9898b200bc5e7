"""What is wrong with scans only beside others: types, copies, of pictures sizes and brightness; and empty scans.

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
from brainvq.check.roll import NOBODY
from brainvq.data.looks import Look, Tone

UNEVEN = 1.3


@dataclass(frozen=True)
class Member:
    """A scan in its place; `look` is None where it cannot be read. `file` is relative to the data folder."""

    file: str
    split: str
    subject: str
    look: Look | None


def faults(members: Sequence[Member]) -> Iterator[Problem]:
    """All of them; `members` in the order of splits and slices."""
    readable = [(member, member.look) for member in members if member.look]
    yield from _sizes([(member, look) for member, look in readable if look.tone])
    yield from _types(readable)
    yield from _constant(readable)
    yield from _copies(readable)
    yield from _brightness(readable)


Readable = Sequence[tuple[Member, Look]]


def _commonest(values: Iterable[str]) -> str:
    counts = Counter(values).most_common(1)
    return counts[0][0] if counts else ""


def _sizes(readable: Readable) -> Iterator[Problem]:
    """Of pictures; volumes are padded."""
    expected = _commonest(look.size for _, look in readable)
    remedy = "Crop, pad or resample the images to one size, or keep one size a folder."
    for member, look in readable:
        if look.size != expected:
            reason = f"{look.size} pixels (height x width); most images have {expected}"
            yield Problem("mixed sizes", member.file, reason, remedy, member.split != "test")


def _types(readable: Readable) -> Iterator[Problem]:
    """8-bit images keep their 256 levels, others are windowed one by one: mixed, they are scaled by two rules."""
    eight = Counter(look.dtype == "uint8" for _, look in readable)
    if len(eight) < 2:
        return
    odd = eight[True] <= eight[False]
    remedy = (
        "Convert them to one type with one scale: else 8-bit ones keep 0 to 255, each of the others gets a window of "
        "its own, and brightness and errors do not compare."
    )
    for member, look in readable:
        if (look.dtype == "uint8") == odd:
            others = f"most {'images' if look.tone else 'volumes'} are {'not ' if odd else ''}8 bit"
            reason = f"{look.dtype}; {others}, and scaled by another rule"
            yield Problem("mixed types", member.file, reason, remedy, False)


def _constant(readable: Readable) -> Iterator[Problem]:
    """Fatal where a model would be trained on nothing else."""
    nothing = all(look.constant for member, look in readable if member.split in ("train", "all"))
    for member, look in readable:
        if look.constant:
            reason = f"every {_element(look)} is {look.low:g}"
            remedy = "Remove it, if it is not an empty slice." if look.tone else "Remove it."
            yield Problem("constant", member.file, reason, remedy, nothing and member.split in ("train", "all"))


def _element(look: Look) -> str:
    return "pixel" if look.tone else "voxel"


def _copies(readable: Readable) -> Iterator[Problem]:
    first: dict[str, Member] = {}
    for member, look in readable:
        if look.constant:
            continue
        other = first.setdefault(look.digest, member)
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
        false = ": measures would be too good" if across else ""
        reason = f"the same {_element(look)}s as {other.file}, {whose}{false}"
        yield Problem("copy", member.file, reason, "Remove one of them.", across)


def _brightness(readable: Readable) -> Iterator[Problem]:
    """Of pictures, from slice to slice of a subject."""
    subjects: dict[tuple[str, str], list[tuple[Member, Tone]]] = defaultdict(list)
    for member, look in readable:
        if member.subject != NOBODY and look.tone and look.tone.brightness:
            subjects[member.split, member.subject].append((member, look.tone))
    for (_, subject), slices in subjects.items():
        largest = max(tone.head for _, tone in slices)
        told = [(tone.brightness, member.file) for member, tone in slices if tone.head >= largest / 2]
        (dark, file), (bright, other) = min(told), max(told)
        if bright > UNEVEN * dark:
            reason = f"subject {subject}: the head is {bright / dark:.2f} times as bright in {_name(other)}"
            yield Problem("brightness", file, reason, "Scale each subject as a whole, not slice by slice.", False)


def _name(file: str) -> str:
    return file.rpartition("/")[2]
