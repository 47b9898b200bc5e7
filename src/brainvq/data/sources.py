"""A folder as a sequence of scans in a stable order, split so that no subject is on both sides.

Slices of one subject are strongly alike, so everything that counts, splits or bootstraps does so by subject, and a
name that yields no subject is an error: a subject per file would leak without a sign.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from brainvq.data.labels import label_maps
from brainvq.data.layouts import SPLITS, Layout, find_layout, natural
from brainvq.data.scan import Scan, read
from brainvq.errors import InputError

Split = Literal["train", "validate", "test"]
# Tried in turn on the path relative to the data folder; the first that matches every file is used.
SUBJECT_PATTERNS = (
    r"case_(\d+)_slice_",  # OASIS as keras_png_slices
    r"sub-([A-Za-z0-9]+)",  # BIDS
    r"(OAS\d_\d{4})",  # OASIS as distributed
    r"(\d{3}_S_\d{4})",  # ADNI
    r"(IXI\d{3})",
    r"(?i:subject|subj|patient|case)[_-]?([A-Za-z]*\d+)",
)


@dataclass(frozen=True)
class Item:
    path: Path
    name: str  # relative to the data folder, posix
    subject: str


@dataclass(frozen=True)
class Source:
    """Scans of one split in natural order. `source[i]` reads a file, every time."""

    root: str
    split: Split | None
    items: tuple[Item, ...]
    labels_left_out: int

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Scan:
        item = self.items[index]
        return read(item.path, name=item.name, subject=item.subject)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Each subject once, in natural order."""
        return tuple(sorted({item.subject for item in self.items}, key=natural))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the name, size and content of every file, in order: any change to the data changes it."""
        with ThreadPoolExecutor() as pool:
            digests = pool.map(_digest, self.items)
            return hashlib.sha256(b"".join(digests)).hexdigest()

    def mask(self, index: int) -> NDArray[Any] | None:
        """Tissue mask (H, W) of a scan where one lies with the data (`keras_png_slices_seg_*`), else None."""
        path = self.items[index].path
        folder = path.parent.name.replace("keras_png_slices_", "keras_png_slices_seg_")
        mask = path.parent.with_name(folder) / re.sub("^case_", "seg_", path.name)
        return read(mask).voxels if mask != path and mask.exists() else None


def open_source(data: str | Path, *, split: Split | None, subject_pattern: str | None = None, seed: int = 0) -> Source:
    """One split of `data`, or all its images where `split` is None; see `open_splits`."""
    if split is not None and split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; it is one of {', '.join(SPLITS)}.")
    sources = open_splits(data, subject_pattern=subject_pattern, seed=seed)
    if split is not None and split in sources:
        return sources[split]
    first = next(iter(sources.values()))
    if split is None:
        items = tuple(item for source in sources.values() for item in source.items)
        items = tuple(sorted(items, key=lambda item: natural(item.name)))
        return Source(first.root, None, items, first.labels_left_out)
    raise InputError(
        f"{data}: has no {split} images, only {', '.join(sources)}. Use one of these splits, or add a folder."
    )


def open_splits(data: str | Path, *, subject_pattern: str | None = None, seed: int = 0) -> dict[Split, Source]:
    """The splits of a folder (or of `cohort`, the embedded synthetic data), those that have images.

    Split folders are taken as they are; where train has no validate beside it, a tenth of its subjects is held out. A
    flat folder is split 80/10/10. Both by a hash of seed and subject, so that the same folder is always split alike.
    `subject_pattern`: a regular expression searched in the path relative to the folder, with one group: the subject.
    Raises InputError for anything in the folder that would make a split or its images wrong.
    """
    layout = find_layout(_folder(data))
    labels = label_maps([path for paths in layout.images.values() for path in paths])
    kept = {split: [path for path in paths if path not in labels] for split, paths in layout.images.items()}
    if not any(kept.values()):
        raise InputError(f"{data}: all {len(labels)} images are label maps (few values, large areas). Give the scans.")
    items = _with_subjects(layout, kept, subject_pattern)
    _refuse_shared_subjects(items)
    if "all" in items:
        items = _divide(items["all"], seed, data)
    elif "train" in items and "validate" not in items:
        train = _divide(items["train"], seed, data, test=False)
        items = {"train": train["train"], "validate": train["validate"], "test": items.get("test", [])}
    left_out = layout.labels + len(labels)
    return {s: Source(str(layout.root), s, tuple(items[s]), left_out) for s in _SPLITS if items.get(s)}


_SPLITS: tuple[Split, ...] = ("train", "validate", "test")


def _folder(data: str | Path) -> Path:
    if data == "cohort":
        from brainvq.data.cohort import cached_cohort  # writes files on its first call

        return cached_cohort()
    return Path(data).expanduser()


def _digest(item: Item) -> bytes:
    try:
        content = item.path.read_bytes()
    except OSError as error:
        raise InputError(f"{item.path}: cannot be read ({error.strerror}).") from error
    head = f"{item.name}\0{len(content)}\0".encode("utf-8", "surrogateescape")
    return hashlib.sha256(head + hashlib.sha256(content).digest()).digest()


def _with_subjects(layout: Layout, kept: dict[str, list[Path]], pattern: str | None) -> dict[str, list[Item]]:
    names = {path: path.relative_to(layout.root).as_posix() for paths in kept.values() for path in paths}
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
    return {split: [Item(path, names[path], found[path]) for path in paths] for split, paths in kept.items()}


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


def _refuse_shared_subjects(items: dict[str, list[Item]]) -> None:
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


def _divide(items: list[Item], seed: int, data: str | Path, *, test: bool = True) -> dict[str, list[Item]]:
    """A tenth of the subjects, at least one, to validate; a tenth, maybe none, to test; the others to train."""
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
    parts: dict[str, list[Item]] = {split: [] for split in SPLITS}
    for item in items:
        parts[held.get(item.subject, "train")].append(item)
    return parts
