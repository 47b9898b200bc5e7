"""What only volumes can have wrong: geometry, brightness from slice to slice, values that are no MR, a face.

Volumes of several sizes and orientations are no fault: they are turned alike, and padded to one size. What is told:

- slices so much smaller than the largest that half of an image, or more, is padding (`PADDED`);
- spacing that differs by more than a fifth from that of most (`SPACED`), unless all are resampled anyway;
- axes that are not at right angles, by a degree or more (`TILTED`): rounding in headers does far less;
- the brightness of the head changing by a fifth more from one slice to the next than around them (`JUMP`), as where
  slices were scaled one by one. Set on a handful of real volumes, heads and brains, all of which stay well below;
- a file that does not say which side is left; values below -500 (`DARK`), as those of air in CT.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import log

import numpy as np

from brainvq.check.faults import Member
from brainvq.check.findings import Problem
from brainvq.data.looks import Look, Space
from brainvq.data.slicing import Slicing
from brainvq.data.volume_cache import slice_size

PADDED = 0.5
SPACED = 1.2
TILTED = 1.0
JUMP = 1.2
DARK = -500.0

Known = Sequence[tuple[Member, Look, Space]]


def volume_faults(members: Sequence[Member], slicing: Slicing) -> Iterator[Problem]:
    """All of them but faces."""
    known = _known(members)
    yield from _sizes(known, slicing)
    if slicing.spacing is None:
        yield from _spacings(known)
    for member, look, space in known:
        for kind, reason, remedy in _alone(look, space):
            yield Problem(kind, member.file, reason, remedy, False)


def faces(members: Sequence[Member]) -> Iterator[Problem]:
    """Volumes that cannot be given away as they are."""
    for member, _, space in _known(members):
        if space.face:
            remedy = "Remove it (mri_deface, pydeface), or extract the brain, before you share this."
            yield Problem("face", member.file, "the face seems to be there", remedy, False)


def _known(members: Sequence[Member]) -> Known:
    return [(member, member.look, member.look.space) for member in members if member.look and member.look.space]


def _sizes(known: Known, slicing: Slicing) -> Iterator[Problem]:
    """Slices that are mostly padding, and volumes of which no slice is left."""
    sizes = [slice_size(look.shape, space.matrix, slicing) for _, look, space in known]
    height, width = slicing.size or (max((size[1] for size in sizes), default=1), max((s[2] for s in sizes), default=1))
    for (member, _, _), (count, high, wide) in zip(known, sizes, strict=True):
        if not slicing.indices(np.zeros((count, 1, 1), bool)):
            reason = f"data.slices={slicing.slices} leaves none of {count} slices"
            yield Problem("no slices", member.file, reason, "Widen the range.", member.split != "test")
        if min(high, height) * min(wide, width) <= (1 - PADDED) * height * width:
            reason = f"slices of {wide} x {high} pixels are padded to {width} x {height}: most of an image is black"
            yield Problem("padding", member.file, reason, "Keep it apart, or set data.size or data.spacing.", False)


def _spacings(known: Known) -> Iterator[Problem]:
    if not known:
        return
    rounded = [tuple(round(mm, 2) for mm in space.spacing) for _, _, space in known]
    usual = Counter(rounded).most_common(1)[0][0]
    remedy = f"Set data.spacing, such as [{', '.join(f'{mm:g}' for mm in usual)}], to resample all alike."
    for (member, _, _), spacing in zip(known, rounded, strict=True):
        if max(abs(log(mm / other)) for mm, other in zip(spacing, usual, strict=True)) > log(SPACED):
            reason = f"{_times(spacing)} mm; most volumes have {_times(usual)}"
            yield Problem("mixed spacings", member.file, reason, remedy, False)


def _alone(look: Look, space: Space) -> Iterator[tuple[str, str, str]]:
    """Kind, reason and remedy of what one volume has wrong."""
    if space.tilt >= TILTED:
        reason = f"its axes are {space.tilt:.1f} degrees off right angles (a tilted gantry?): slices are askew"
        yield "tilt", reason, "Resample it to right angles with another tool, or mind it."
    if not space.sides_known:
        reason = f"{'Analyze says' if space.storage.format == 'analyze' else 'qform and sform are 0: it says'} not "
        yield "sides", f"{reason}which side is left", "Make sure where it comes from, and write it as NIfTI."
    if look.low < DARK:
        yield "not MR", f"values from {look.low:g}, as in CT", "Give MR images: these train another contrast."
    jump = space.jump
    if jump and jump.ratio > JUMP:
        where = f"between the {jump.plane} slices {jump.index} and {jump.index + 1}"
        reason = f"the brightness of the head changes by a factor of {jump.ratio:.2f} {where}"
        yield "brightness", reason, "Scale the volume as a whole, not slice by slice."


def _times(spacing: Sequence[float]) -> str:
    return " x ".join(f"{mm:g}" for mm in spacing)
