"""Whose scans these are and of which split, by the rules of `data/`; what those refuse becomes a problem instead."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brainvq.check.findings import Problem, from_error
from brainvq.data.layouts import LABEL_FOLDER, SPLITS, Layout, natural, split_name
from brainvq.data.subjects import SUBJECT_PATTERNS, Item, divide, have_form, with_subjects
from brainvq.errors import InputError, counted

NOBODY = ""  # the subject of a file whose name yields none
Items = dict[str, list[Item]]


@dataclass(frozen=True)
class Roll:
    """Items by split ("all" where no split can be made), the pattern that finds their subjects (None: none does), and
    what stood in the way."""

    items: Items
    pattern: str | None
    problems: tuple[Problem, ...]


def folder_of(data: str) -> Path:
    """The path of `data`; for `cohort` that of the embedded data set, which is made on first use."""
    if data == "cohort":
        from brainvq.data.cohort import cached_cohort

        return cached_cohort()
    return Path(data).expanduser()


def call_roll(folder: Path, layout: Layout, labels: set[Path], pattern: str | None) -> Roll:
    """Every scan of the layout but the label maps.

    Raises:
        InputError: `pattern` is not a regular expression with one group.
    """
    kept = {split: [path for path in paths if path not in labels] for split, paths in layout.images.items()}
    kept = {split: paths for split, paths in kept.items() if paths}
    if not kept:
        reason = f"nothing but {counted(len(labels), 'label map')} (few values, large areas)"
        return Roll({}, pattern, (Problem("label map", ".", reason, "Give the scans.", True),))
    names = {path: path.relative_to(layout.root).as_posix() for paths in kept.values() for path in paths}
    guessed = pattern is None and layout.volumes and not have_form(list(names.values()))
    if guessed:
        items = with_subjects(layout, kept, None)
        problems = [_guessed(items, by_owner=bool(layout.owners))]
    else:
        items, found, missed = _with_subjects(layout, kept, names, pattern)
        problems = [_no_subject(folder, missed, len(names), found, pattern)] if missed else []
        pattern = found
    problems += _in_two_splits(folder, items)
    if guessed or pattern is not None:
        try:
            items = _divided(items, folder)
        except InputError as error:
            problems.append(from_error("one subject", folder, error, folder))
    problems += _empty_splits(folder, layout, items)
    return Roll({split: items[split] for split in (*SPLITS, "all") if items.get(split)}, pattern, tuple(problems))


def _with_subjects(
    layout: Layout, kept: dict[str, list[Path]], names: dict[Path, str], pattern: str | None
) -> tuple[Items, str | None, list[Path]]:
    """Items, the pattern that found most subjects (None where none found any), and the files that it missed."""
    if pattern is not None and not _usable(pattern):
        with_subjects(layout, kept, pattern)  # refuses it, and says why
    hits = {each: _hits(each, names) for each in ((pattern,) if pattern is not None else SUBJECT_PATTERNS)}
    best = max(hits, key=lambda each: len(hits[each]))
    known = {split: [path for path in paths if path in hits[best]] for split, paths in kept.items()}
    found = with_subjects(layout, known, best) if hits[best] else {}
    by_path = {item.path: item for items in found.values() for item in items}

    def item(path: Path) -> Item:
        return by_path.get(path) or Item(path, names[path], NOBODY, layout.files.get(path, ()))

    items = {split: [item(path) for path in paths] for split, paths in kept.items()}
    return items, best if hits[best] else None, [path for path in names if path not in by_path]


def _usable(pattern: str) -> bool:
    try:
        regex = re.compile(pattern)
    except re.error:
        return False
    return regex.groups == 1 or "subject" in regex.groupindex


def _hits(pattern: str, names: dict[Path, str]) -> set[Path]:
    regex = re.compile(pattern)
    group = "subject" if "subject" in regex.groupindex else 1
    return {path for path, name in names.items() if (match := regex.search(name)) and match[group]}


def _guessed(items: Items, *, by_owner: bool) -> Problem:
    """Volumes without a known form of name are taken as a subject each, or a folder of a few as one."""
    rule = ", DICOM series of one examination or patient number for one" if by_owner else ""
    members = [item for own in items.values() for item in own]
    count = len({item.subject for item in members})
    taken = f"{counted(len(members), 'volume')} taken for {counted(count, 'subject')}{rule}"
    reason = f"no form of name that is known: {taken}"
    remedy = (
        f"Their names would be such as {members[0].subject!r}. If somebody has several volumes, say who with "
        r"--subject-pattern 'REGEX', one group around the subject, such as 'scan_(\d+)_'."
    )
    return Problem("subjects guessed", ".", reason, remedy, False)


def _no_subject(folder: Path, missed: list[Path], count: int, found: str | None, given: str | None) -> Problem:
    searched = f"; the others have one at {found}" if found else f"; {given} matches none" if given else ""
    return Problem(
        "no subject",
        missed[0].relative_to(folder).as_posix(),
        f"no subject in the names of {len(missed):,} of {counted(count, 'file')}, this the first{searched}",
        r"Say where it is with --subject-pattern 'REGEX', one group around it, such as 'scan_(\d+)_'.",
        True,
    )


def _divided(items: Items, folder: Path) -> Items:
    if "all" in items:
        return divide(items["all"], 0, folder)
    if "train" in items and "validate" not in items:
        return {**items, **divide(items["train"], 0, folder, test=False)}
    return items


def _in_two_splits(folder: Path, items: Items) -> Iterator[Problem]:
    where: dict[str, dict[str, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for split, members in items.items():
        for item in members:
            where[item.subject][split].append(item)
    where.pop(NOBODY, None)
    for subject in sorted(where, key=natural):
        if len(splits := where[subject]) > 1:
            first = list(splits.values())[-1][0]
            yield Problem(
                "in two splits",
                first.path.relative_to(folder).as_posix(),
                f"subject {subject} is in " + " and ".join(f"{split} ({len(own)})" for split, own in splits.items()),
                "Move all its images to one side, or correct --subject-pattern.",
                True,
            )


def _empty_splits(folder: Path, layout: Layout, items: Items) -> Iterator[Problem]:
    """Split folders without an image, and splits that training needs and nothing gives."""
    missing = set() if "all" in items else {"train", "validate"} - set(items)
    filled = {parent for paths in layout.images.values() for path in paths for parent in path.parents}
    for path in _split_folders(folder):
        split = split_name(path.name) or ""
        if path not in filled:
            held = "; a tenth of the train subjects is held out" if split == "validate" and "train" in items else ""
            reason, remedy = f"a folder without images{held}", f"Put {split} images there, or remove the folder."
            yield Problem("empty split", path.relative_to(folder).as_posix(), reason, remedy, split in missing)
            missing.discard(split)
    for split in sorted(missing):
        remedy = f"Add a folder {split}/, or give one folder of all images: it is split by subject."
        yield Problem("empty split", ".", f"there are no {split} images", remedy, True)


def _split_folders(folder: Path) -> Iterator[Path]:
    for above, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not LABEL_FOLDER.match(name))
        yield from (Path(above, name) for name in folders if split_name(name))
