"""Who an image shows, from its name, and splits that never divide a subject.

A slice whose name yields no subject is an error: a subject per file would put slices of one head on both sides without
a sign. Volumes without a known form of name are taken as a subject each, or where a folder holds a few alone as the
folder's, and `check` says so.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from brainvq.data.layouts import SPLITS, Layout, natural
from brainvq.errors import InputError

# Tried in turn on the path relative to the data folder; the one that matches most files is used, and must match all.
SUBJECT_PATTERNS = (
    r"case_(\d+)_slice_",  # OASIS as keras_png_slices
    r"sub-([A-Za-z0-9]+)",  # BIDS
    r"(OAS\d_\d{4})",  # OASIS as distributed
    r"(\d{3}_S_\d{4})",  # ADNI
    r"(IXI\d{3})",
    r"(?i:subject|subj|patient|case)[_-]?([A-Za-z]*\d+)",
)
FEW = 4  # volumes of one person


@dataclass(frozen=True)
class Item:
    path: Path
    name: str  # relative to the data folder, posix
    subject: str
    files: tuple[Path, ...] = ()  # of a DICOM series


def with_subjects(layout: Layout, kept: dict[str, list[Path]], pattern: str | None) -> dict[str, list[Item]]:
    names = {path: path.relative_to(layout.root).as_posix() for paths in kept.values() for path in paths}
    if pattern is None and layout.volumes and not known_form(list(names.values())):
        found = by_place(names)
    else:
        found = _by_pattern(names, pattern)
    return {
        split: [Item(path, names[path], found[path], layout.files.get(path, ())) for path in paths]
        for split, paths in kept.items()
    }


def _by_pattern(names: dict[Path, str], pattern: str | None) -> dict[Path, str]:
    regex = _compile(pattern) if pattern is not None else _default_pattern(list(names.values()))
    group = "subject" if "subject" in regex.groupindex else 1
    found = {path: match[group] for path, name in names.items() if (match := regex.search(name))}
    missed = [path for path in names if not found.get(path)]
    if len(missed) == len(names):
        raise InputError(
            f"--subject-pattern {regex.pattern!r} matches none of {len(names)} files, such as {names[missed[0]]}. "
            "Write one group around the part of the name that is the subject."
        )
    if missed:
        raise InputError(
            f"{missed[0]}: no subject in its name; --subject-pattern {regex.pattern!r} matches "
            f"{len(names) - len(missed)} of {len(names)} files. Change the pattern, or remove the others."
        )
    return found


def known_form(names: Sequence[str]) -> str | None:
    """The known pattern that finds a subject in all of these names, if there is one."""
    return next((known for known in SUBJECT_PATTERNS if all(re.search(known, name) for name in names)), None)


def by_place(names: dict[Path, str]) -> dict[Path, str]:
    """A subject for each volume of no known form of name: its folder where that holds at most `FEW` volumes (the
    sessions of one person, say) and others lie elsewhere, else its own name without suffix."""
    folders = Counter(str(PurePosixPath(name).parent) for name in names.values())
    found = {}
    for path, name in names.items():
        folder = str(PurePosixPath(name).parent)
        few = folder != "." and len(folders) > 1 and folders[folder] <= FEW
        found[path] = (
            folder if few else name.removesuffix(".gz").removesuffix(PurePosixPath(name.removesuffix(".gz")).suffix)
        )
    return found


def _default_pattern(names: Sequence[str]) -> re.Pattern[str]:
    patterns = [re.compile(pattern) for pattern in SUBJECT_PATTERNS]
    counts = [sum(1 for name in names if pattern.search(name)) for pattern in patterns]
    if not max(counts):
        raise InputError(
            f"no subject in the names of {len(names)} files, such as {names[0]}. Say where it is with "
            r"--subject-pattern 'REGEX', one group around the subject, such as 'scan_(\d+)_'."
        )
    return patterns[counts.index(max(counts))]


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--subject-pattern {pattern!r} is not a regular expression: {error}.") from error
    if regex.groups != 1 and "subject" not in regex.groupindex:
        raise InputError(
            f"--subject-pattern {pattern!r} has {regex.groups} groups; one is expected, around the subject "
            "(others can be written (?:...), or the group named (?P<subject>...))."
        )
    return regex


def refuse_shared(items: dict[str, list[Item]]) -> None:
    owner: dict[str, tuple[str, Item]] = {}
    for split, members in items.items():
        for item in members:
            other, first = owner.setdefault(item.subject, (split, item))
            if other != split:
                shared = _shared(items[other], items[split])
                raise InputError(
                    f"{first.path} ({other}) and {item.path} ({split}) are of one subject; {len(shared)} subjects are "
                    f"in both: {', '.join(shared[:5])}. Move each to one side, or correct --subject-pattern."
                )


def _shared(left: Iterable[Item], right: Iterable[Item]) -> list[str]:
    return sorted({item.subject for item in left} & {item.subject for item in right}, key=natural)


def divide(items: list[Item], seed: int, data: str | Path, *, test: bool = True) -> dict[str, list[Item]]:
    """Items by split. Of the subjects a tenth (at least one) validates, a tenth (maybe none) tests, the rest trains.

    Where `test` is False, "test" is not among the keys.
    """
    subjects = {item.subject for item in items}
    if len(subjects) < 2:
        raise InputError(
            f"{data}: all {len(items)} images are of one subject, {next(iter(subjects))!r}; two at least are needed to "
            "train and to validate. Add subjects, or correct --subject-pattern."
        )
    ranked = sorted(subjects, key=lambda subject: hashlib.sha256(f"{seed}:{subject}".encode()).digest())
    tenth = round(len(ranked) / 10)
    validate = max(1, tenth)
    held = dict.fromkeys(ranked[:validate], "validate")
    if test:
        held |= dict.fromkeys(ranked[validate : validate + tenth], "test")
    parts: dict[str, list[Item]] = {split: [] for split in SPLITS if test or split != "test"}
    for item in items:
        parts[held.get(item.subject, "train")].append(item)
    return parts
