"""What a data folder holds, and all that is wrong with it, before an hour is spent on it.

Training refuses a folder at the first fault that it meets. Here every image is read by itself, in threads, a few at a
time, and what one file has wrong hides nothing of the others. Which files are images, whose, and of which split is
found by the rules of `data/`, so that what passes here is what `train` takes.

A problem is fatal where training would refuse the data, or where it would run and measure something false: one picture
in two splits. The rest are warnings. Files: `findings.py` what is said, `roll.py` whose images these are, `images.py`
one file at a time, `faults.py` what only shows side by side, `sheet.py` the contact sheet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from brainvq.check.faults import Member, faults
from brainvq.check.findings import Findings, Problem, SplitFacts, from_error, table
from brainvq.check.images import Image, Progress, moments, read_all
from brainvq.check.roll import NOBODY, call_roll, folder_of
from brainvq.check.sheet import contact_sheet
from brainvq.data.labels import label_maps
from brainvq.data.layouts import find_layout
from brainvq.errors import InputError

__all__ = ["Findings", "Problem", "SplitFacts", "check", "contact_sheet", "table"]


def check(data: str, *, subject_pattern: str | None = None, progress: Progress | None = None) -> Findings:
    """Read every image of `data` (a folder, or `cohort`) and say what is there and what is wrong.

    `progress` is called with images done and images in all.

    Raises:
        InputError: the folder is missing, holds no images or two data sets, or the pattern is no pattern.
    """
    folder = folder_of(data)
    layout = find_layout(folder)
    paths = [path for split in layout.images.values() for path in split]
    found = read_all(paths, progress or (lambda done, total: None))
    images = {path: image for path, image in found.items() if isinstance(image, Image)}
    labels = label_maps([path for path in paths if path in images], layout.files)
    roll = call_roll(folder, layout, labels, subject_pattern)
    members = [
        Member(item.path.relative_to(folder).as_posix(), split, item.subject, images.get(item.path))
        for split, items in roll.items.items()
        for item in items
    ]
    unreadable = [
        from_error("unreadable", path, error, folder) for path, error in found.items() if isinstance(error, InputError)
    ]
    problems = (*unreadable, *roll.problems, *faults(members))
    mean, variance = moments([m.image for m in members if m.split == "train" and m.image]) or (None, None)
    return Findings(
        data=Path(data).name or data,
        layout="one folder, split by subject" if "all" in layout.images else "split folders",
        splits=tuple(_facts(split, [m for m in members if m.split == split]) for split in roll.items),
        label_maps_left_out=layout.labels + len(labels),
        subject_pattern=roll.pattern,
        mean=mean,
        variance=variance,
        problems=tuple(sorted(problems, key=lambda problem: not problem.fatal)),
    )


def _facts(split: str, members: list[Member]) -> SplitFacts:
    images = [member.image for member in members if member.image]
    slices: dict[str, int] = {}
    for member in members:
        if member.subject != NOBODY:
            slices[member.subject] = slices.get(member.subject, 0) + 1
    return SplitFacts(
        name=split,
        subjects=len(slices),
        images=len(members),
        slices=(min(slices.values(), default=0), max(slices.values(), default=0)),
        sizes=_count(image.size for image in images),
        types=_count(image.dtype for image in images),
        values=(min(image.low for image in images), max(image.high for image in images)) if images else None,
    )


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())
