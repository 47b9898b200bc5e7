"""What a data folder holds, and all that is wrong with it, before an hour is spent on it.

A reader refuses a folder at the first fault that it meets. Here every scan is read by itself (`data/look_cache.py`),
and what one has wrong hides nothing of the others. Which files are scans, whose, and of which split is found by the
rules of `data/`, so that what passes here is what `train` takes; it asks here first.

A problem is fatal where training would refuse the data, or where it would run and measure something false: one picture
in two splits. The rest are warnings. Files: `findings.py` what is said, `roll.py` whose scans these are, `faults.py`
what only shows side by side, `volumes.py` what only volumes can have wrong, `participants.py` the table of a BIDS data
set, `sheet.py` the contact sheet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

from brainvq.check.faults import Member, faults
from brainvq.check.findings import Findings, Problem, SplitFacts, from_error, in_mm, refuse_fatal, table
from brainvq.check.participants import read_participants
from brainvq.check.roll import NOBODY, call_roll, folder_of
from brainvq.check.sheet import contact_sheet, refuse_sheet
from brainvq.check.volumes import faces, volume_faults
from brainvq.data.cache import refuse_inside
from brainvq.data.entries import Entry
from brainvq.data.labels import label_maps
from brainvq.data.layouts import Layout, find_layout
from brainvq.data.look_cache import Seen, look_at_all
from brainvq.data.looks import Look
from brainvq.data.slicing import AS_IT_IS, Slicing
from brainvq.errors import InputError

__all__ = ["Findings", "Problem", "SplitFacts", "check", "contact_sheet", "refuse_fatal", "refuse_sheet", "table"]

Progress = Callable[[int, int], None]


def check(
    data: str,
    *,
    subject_pattern: str | None = None,
    suffix: str = "T1w",
    slicing: Slicing = AS_IT_IS,
    sharing: bool = False,
    progress: Progress | None = None,
) -> Findings:
    """Read every scan of `data` (a folder, or `cohort`) and say what is there and what is wrong.

    `suffix`: which images of a BIDS data set; `slicing`: how volumes would be cut; `sharing`: look for faces too.
    `progress` is called with scans done and in all; scans that were read before are not read again.

    Raises:
        InputError: the folder is missing, holds no images or two data sets, or the pattern is no pattern.
    """
    folder = folder_of(data)
    layout = find_layout(folder, suffix)
    refuse_inside(folder)
    paths = list(chain.from_iterable(layout.images.values()))
    scans = [Entry(path, layout.files.get(path, ())) for path in paths]
    found = look_at_all(scans, slicing, progress or (lambda done, total: None))
    looks = {path: seen for path, seen in found.items() if isinstance(seen, Look)}
    labels = label_maps(list(looks), layout.files, {path: look.labels for path, look in looks.items()})
    roll = call_roll(folder, layout, labels, subject_pattern)
    members = [
        Member(item.path.relative_to(folder).as_posix(), split, item.subject, looks.get(item.path))
        for split, items in roll.items.items()
        for item in items
    ]
    listed = read_participants(folder, paths)
    problems = (
        *_unreadable(layout, found, folder),
        *roll.problems,
        *faults(members),
        *(volume_faults(members, slicing) if layout.volumes else ()),
        *(faces(members) if sharing else ()),
        *(listed.problems if listed else ()),
    )
    mean, variance = _moments([m.look for m in members if m.split == "train" and m.look]) or (None, None)
    return Findings(
        data=Path(data).name or data,
        layout="one folder, split by subject" if "all" in layout.images else "split folders",
        volumes=layout.volumes,
        splits=tuple(_facts(split, [m for m in members if m.split == split]) for split in roll.items),
        label_maps_left_out=layout.labels + len(labels),
        label_maps=tuple(path.relative_to(folder).as_posix() for path in paths if path in labels),
        subject_pattern=roll.pattern,
        participants=listed.columns if listed else None,
        mean=mean,
        variance=variance,
        problems=tuple(sorted(problems, key=lambda problem: not problem.fatal)),
    )


def _unreadable(layout: Layout, found: dict[Path, Seen], folder: Path) -> Iterable[Problem]:
    for path, seen in found.items():
        if isinstance(seen, InputError):
            yield from_error("broken series" if path in layout.files else "unreadable", path, seen, folder)
    for path, error in layout.broken.items():
        yield from_error("unreadable", path, error, folder)
    for path, error in layout.captures.items():
        yield from_error("left out", path, error, folder, fatal=False)


def _facts(split: str, members: list[Member]) -> SplitFacts:
    looks = [member.look for member in members if member.look]
    spaces = [look.space for look in looks if look.space]
    slices = Counter(member.subject for member in members if member.subject != NOBODY)
    return SplitFacts(
        name=split,
        subjects=len(slices),
        images=len(members),
        slices=(min(slices.values(), default=0), max(slices.values(), default=0)),
        sizes=_count(look.size for look in looks),
        spacings=_count(in_mm(space.spacing) for space in spaces),
        orientations=_count(space.orientation for space in spaces),
        types=_count(look.dtype for look in looks),
        values=(min(look.low for look in looks), max(look.high for look in looks)) if looks else None,
    )


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _moments(looks: Sequence[Look]) -> tuple[float, float] | None:
    """Mean and variance of all pixels of pictures in [-1, 1], exact sums; None where there are none."""
    shown = [(look.shape, look.tone) for look in looks if look.tone]
    if not shown:
        return None
    most = max(tone.levels for _, tone in shown)
    count = sum(shape[0] * shape[1] for shape, _ in shown)
    total = sum(tone.total * (most // tone.levels) for _, tone in shown)
    squares = sum(tone.squares * (most // tone.levels) ** 2 for _, tone in shown)
    return (2 * total - count * most) / (count * most), 4 * (count * squares - total**2) / (count * most) ** 2
