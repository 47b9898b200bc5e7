"""Who an image shows, from its name, and splits that never divide a subject.

A slice whose name yields no subject is an error: a subject per file would put slices of one head on both sides without
a sign. Volumes of which no name has a known form are taken as a subject each, or where a folder holds a few alone as
the folder's, DICOM series of one examination or patient as one's, and `check` says so.
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from brainvq.data.layouts import SPLITS, Layout, natural
from brainvq.data.scan import SUFFIXES
from brainvq.errors import InputError, counted

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
    if pattern is None and layout.volumes and not have_form(list(names.values())):
        found = by_place(names, layout.owners)
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
            f"--subject-pattern '{regex.pattern}' matches none of {counted(len(names), 'file')}, such as "
            f"{names[missed[0]]}. Write one group around the part of the name that is the subject."
        )
    if missed:
        raise InputError(
            f"{missed[0]}: no subject in its name; --subject-pattern '{regex.pattern}' matches "
            f"{len(names) - len(missed)} of {counted(len(names), 'file')}. Change the pattern, or remove the others."
        )
    return found


def have_form(names: Sequence[str]) -> bool:
    """Whether these names are to tell their subjects: then all must, for the others are somebody's too. The last form
    is loose, and a name that happens to have it says nothing of the others, unless it finds somebody twice."""
    *forms, loose = SUBJECT_PATTERNS
    found = [match[1] for name in names if (match := re.search(loose, name))]
    strict = any(re.search(form, name) for name in names for form in forms)
    return strict or len(found) == len(names) or len(set(found)) < len(found)


def by_place(names: Mapping[Path, str], owners: Mapping[Path, frozenset[str]]) -> dict[Path, str]:
    """A subject for each volume of no known form of name: its folder where that holds at most `FEW` volumes (the
    sessions of one person, say) and others lie elsewhere, else its own name without suffix. Volumes that share an owner
    are of one subject, which is called as a folder that they have for themselves, or as the first of them."""
    folders = Counter(str(PurePosixPath(name).parent) for name in names.values())
    places = {}
    for path, name in names.items():
        folder = str(PurePosixPath(name).parent)
        few = folder != "." and len(folders) > 1 and folders[folder] <= FEW
        places[path] = folder if few else _without_suffix(name)
    inside = Counter(str(above) for name in names.values() for above in (name, *PurePosixPath(name).parents))
    found: dict[Path, str] = {}
    for together in _joined({path: {place, *owners.get(path, ())} for path, place in places.items()}):
        shared = os.path.commonpath([names[path] for path in together])
        joined = len({places[path] for path in together}) > 1
        own = joined and shared and inside[shared] == len(together)
        found |= dict.fromkeys(together, shared if own else places[together[0]])
    return found


def _joined(marks: Mapping[Path, set[str]]) -> list[list[Path]]:
    """Paths that share a mark, or are joined by others that do, in order."""
    leaders: dict[str, str] = {}

    def leader(mark: str) -> str:
        while (above := leaders.setdefault(mark, mark)) != mark:
            leaders[mark] = mark = leaders[above]
        return mark

    for own in marks.values():
        one, *others = own
        for other in others:
            leaders[leader(other)] = leader(one)
    groups: dict[str, list[Path]] = defaultdict(list)
    for path, own in marks.items():
        groups[leader(next(iter(own)))].append(path)
    return list(groups.values())


def _without_suffix(name: str) -> str:
    """Of a series the name is a folder's, which may be a number with dots."""
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def _default_pattern(names: Sequence[str]) -> re.Pattern[str]:
    patterns = [re.compile(pattern) for pattern in SUBJECT_PATTERNS]
    counts = [sum(1 for name in names if pattern.search(name)) for pattern in patterns]
    if not max(counts):
        raise InputError(
            f"no subject in the names of {counted(len(names), 'file')}, such as {names[0]}. Say where it is with "
            r"--subject-pattern 'REGEX', one group around the subject, such as 'scan_(\d+)_'."
        )
    return patterns[counts.index(max(counts))]


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--subject-pattern '{pattern}' is not a regular expression: {error}.") from error
    if regex.groups != 1 and "subject" not in regex.groupindex:
        raise InputError(
            f"--subject-pattern '{pattern}' has {counted(regex.groups, 'group')}; one is expected, around the subject "
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
                    f"{first.path} ({other}) and {item.path} ({split}) are of one subject; in both: "
                    f"{counted(len(shared), 'subject')}, {', '.join(shared[:5])}. Move each to one side, or correct "
                    "--subject-pattern."
                )


def _shared(left: Iterable[Item], right: Iterable[Item]) -> list[str]:
    return sorted({item.subject for item in left} & {item.subject for item in right}, key=natural)


def _rank(seed: int, subject: str) -> bytes:
    return hashlib.sha256(f"{seed}:{subject}".encode("utf-8", "surrogateescape")).digest()


def divide(items: list[Item], seed: int, data: str | Path, *, test: bool = True) -> dict[str, list[Item]]:
    """Items by split. Of the subjects a tenth (at least one) validates, a tenth (maybe none) tests, the rest trains.

    Where `test` is False, "test" is not among the keys.
    """
    subjects = {item.subject for item in items}
    if len(subjects) < 2:
        raise InputError(
            f"{data}: {counted(len(items), 'image')} of one subject, {next(iter(subjects))!r}; two at least are needed "
            "to train and to validate. Add subjects, or say whose they are with --subject-pattern."
        )
    ranked = sorted(subjects, key=lambda subject: _rank(seed, subject))
    tenth = round(len(ranked) / 10)
    validate = max(1, tenth)
    held = dict.fromkeys(ranked[:validate], "validate")
    if test:
        held |= dict.fromkeys(ranked[validate : validate + tenth], "test")
    parts: dict[str, list[Item]] = {split: [] for split in SPLITS if test or split != "test"}
    for item in items:
        parts[held.get(item.subject, "train")].append(item)
    return parts
