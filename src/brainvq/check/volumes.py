"""What only volumes can have wrong: geometry, brightness from slice to slice, values that are no MR, a face.

Volumes of several sizes and orientations are no fault: they are turned alike, and padded to one size. What is told:

- voxels so much longer in one direction that another plane is the one to cut in;
- slices so much smaller than the largest that half of an image, or more, is padding (`PADDED`);
- spacing that differs by more than a fifth from that of most (`SPACED`), unless all are resampled anyway, and spacing
  that no scanner has (`PLAUSIBLE`), which is rather written in other units;
- axes that are not at right angles, by a degree or more (`TILTED`): rounding in headers does far less;
- the brightness of the head changing by a fifth more from one slice to the next than around them (`JUMP`), as where
  slices were scaled one by one. Set on a handful of real volumes, heads and brains, all of which stay well below;
- a file that does not say which side is left; values below -500 (`DARK`), as those of air in CT; values that look like
  labels, of a series, which are not left out for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import log

import numpy as np

from brainvq.check.faults import Member
from brainvq.check.findings import Problem, in_mm
from brainvq.data.looks import Look, Space
from brainvq.data.planes import acquired_in
from brainvq.data.slicing import Slicing
from brainvq.data.volume_cache import slice_size
from brainvq.errors import InputError, counted

PADDED = 0.5
SPACED = 1.2
PLAUSIBLE = 0.01, 100.0  # mm
TILTED = 1.0
JUMP = 1.2
DARK = -500.0

Known = Sequence[tuple[Member, Look, Space]]
Sizes = dict[Member, tuple[int, int, int]]  # slices, height, width


def volume_faults(members: Sequence[Member], slicing: Slicing) -> Iterator[Problem]:
    """All of them but faces."""
    known = _known(members)
    yield from _sizes(known, slicing)
    if slicing.spacing is None:
        yield from _spacings(_plausible(known))
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
    """Volumes that cannot be cut so, or better in another plane, and slices that are mostly padding."""
    sizes: Sizes = {}
    for member, look, space in known:
        try:
            sizes[member] = slice_size(look.shape, space.matrix, slicing)
        except InputError as error:
            reason, _, remedy = str(error).rpartition(". ")
            yield Problem("too large", member.file, reason, remedy, member.split != "test")
            continue
        count, high, wide = sizes[member]
        if not slicing.indices(np.zeros((count, 1, 1), bool)):
            reason = f"data.slices={slicing.slices} leaves none of {counted(count, 'slice')}"
            yield Problem("no slices", member.file, reason, "Widen the range.", member.split != "test")
        better = acquired_in(space.matrix) if slicing.spacing is None else None
        if better and better != slicing.plane:
            reason = (
                f"thick {better} slices ({in_mm(space.spacing)} mm), to be cut into {slicing.plane} ones of {high} x "
                f"{wide} pixels (height x width)"
            )
            yield Problem("plane", member.file, reason, f"Set data.plane={better} for volumes such as this.", False)
            del sizes[member]  # its padding comes of that
    yield from _padding(known, slicing, sizes)


def _padding(known: Known, slicing: Slicing, sizes: Sizes) -> Iterator[Problem]:
    padded = _padded(sizes, slicing)
    if not padded:
        return
    cleared = _cleared(known, slicing)
    height, width = _size(sizes, slicing)
    for member in padded:
        _, high, wide = sizes[member]
        reason = (
            f"slices of {high} x {wide} pixels are padded to {height} x {width} (height x width): most of an image "
            "is black"
        )
        if slicing.size:
            remedy = f"Lower data.size, to [{high},{wide}] say: larger slices are cut into tiles."
        elif member in cleared:
            spacing = ",".join(f"{mm:g}" for mm in _usual(known))
            remedy = f"Set data.spacing=[{spacing}], to resample all alike, or keep this volume apart."
        else:
            remedy = "Keep this volume apart from the larger ones."
        yield Problem("padding", member.file, reason, remedy, False)


def _size(sizes: Sizes, slicing: Slicing) -> tuple[int, int]:
    """That all slices get."""
    return slicing.size or (max(high for _, high, _ in sizes.values()), max(wide for _, _, wide in sizes.values()))


def _padded(sizes: Sizes, slicing: Slicing) -> set[Member]:
    """Whose images are mostly black."""
    height, width = _size(sizes, slicing) if sizes else (1, 1)
    most = (1 - PADDED) * height * width
    return {member for member, (_, high, wide) in sizes.items() if min(high, height) * min(wide, width) <= most}


def _cleared(known: Known, slicing: Slicing) -> set[Member]:
    """Whose images would no more be black if all had the usual spacing."""
    if slicing.spacing is not None or not (known := _plausible(known)):
        return set()
    alike = replace(slicing, spacing=_usual(known))
    try:
        sizes = {member: slice_size(look.shape, space.matrix, alike) for member, look, space in known}
    except InputError:  # too large
        return set()
    return set(sizes) - _padded(sizes, alike)


def _plausible(known: Known) -> Known:
    return [each for each in known if not _is_odd(each[2])]


def _usual(known: Known) -> tuple[float, float, float]:
    """The commonest spacing."""
    return Counter(_rounded(space) for _, _, space in known).most_common(1)[0][0]


def _rounded(space: Space) -> tuple[float, float, float]:
    x, y, z = (round(mm, 2) for mm in space.spacing)
    return x, y, z


def _spacings(known: Known) -> Iterator[Problem]:
    if not known:
        return
    usual = _usual(known)
    remedy = f"Set data.spacing, such as [{', '.join(f'{mm:g}' for mm in usual)}], to resample all alike."
    for member, spacing in ((member, _rounded(space)) for member, _, space in known):
        if max(abs(log(mm / other)) for mm, other in zip(spacing, usual, strict=True)) > log(SPACED):
            reason = f"{in_mm(spacing)} mm; most volumes have {in_mm(usual)}"
            yield Problem("mixed spacings", member.file, reason, remedy, False)


def _is_odd(space: Space) -> bool:
    least, most = PLAUSIBLE
    return min(space.spacing) < least or max(space.spacing) > most


def _alone(look: Look, space: Space) -> Iterator[tuple[str, str, str]]:
    """Kind, reason and remedy of what one volume has wrong."""
    if _is_odd(space):
        reason = f"voxels of {in_mm(space.spacing)} mm: its units are probably wrong"
        yield "units", reason, "Write it with the size of its voxels in mm, or remove it."
    if look.labels.of_labels:
        yield "label map", "few values in large areas, as of a label map", "Remove it, if it is one."
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
