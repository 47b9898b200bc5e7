"""Which files make a series: the slices of one volume, told apart by what their headers say, not by their names.

A series in the sense of DICOM may lie in several folders, and may hold several stacks of slices (echoes, magnitude and
phase, a copy in another folder); where its slices do not lie at different places they are parted by these. Time points
are not: such a series stays whole, and reading it says so. Localisers, pictures of a screen, and objects that are no
images (reports, plans, presentation states, segmentations), are left out. Labels are numbers: descriptions and
identifiers may name a patient.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from brainvq.data.dicom_geometry import depths, places
from brainvq.data.dicom_guard import NotAnImage, Refused
from brainvq.data.dicom_header import NOWHERE, File, is_dicom, parse
from brainvq.data.folders import shared_folder
from brainvq.data.scan import DICOM
from brainvq.errors import InputError

LISTED = 8  # series that an error names
FACING = 0.1  # of direction cosines: less is rounding


@dataclass(frozen=True)
class Series:
    """`folder` is shared by all `files`, which are in order of position; `label` is "series-003", one of its kind
    there. `owners`: as of `File`."""

    folder: Path
    label: str
    files: tuple[Path, ...]
    owners: frozenset[str] = field(repr=False)


@dataclass(frozen=True)
class Study:
    """`broken`: files whose header cannot be made out. Which series they are missing from, nobody can tell: do not
    trust those of their folder. `captures`: of series of pictures without geometry the first file, and why it is left
    out."""

    series: tuple[Series, ...]
    broken: dict[Path, InputError]
    captures: dict[Path, InputError]


def only_series(path: Path) -> tuple[Path, ...]:
    """The files of the one series that a folder holds (not the folders within); a file stands for itself."""
    if not path.is_dir():
        return (path,)
    inside = sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
    study = find_series([file for file in inside if file.suffix.lower() in DICOM or is_dicom(file)])
    found = study.series
    if study.broken or not found:
        nothing = InputError(f"{path}: holds no DICOM series of slices. Give the folder that its files lie in.")
        raise next(chain(study.broken.values(), study.captures.values()), nothing)
    if len(found) > 1:
        listed = ", ".join(f"{one.label} of {len(one.files)}" for one in found[:LISTED])
        more = ", ..." if len(found) > LISTED else ""
        raise InputError(
            f"{path}: holds {len(found)} DICOM series: {listed}{more} files. Give a folder with the files of one."
        )
    return found[0].files


def find_series(files: Sequence[Path]) -> Study:
    """The series in `files`, of one folder or many."""
    parsed: list[File] = []
    broken: dict[Path, InputError] = {}
    for path in sorted(files):
        try:
            parsed.append(parse(path))
        except NotAnImage:
            continue
        except Refused as refusal:
            broken[path] = InputError(f"{path}: {refusal}")
    stacks: list[list[File]] = []
    captures: dict[Path, InputError] = {}
    for group in _parted([file for file in parsed if not file.localiser], _series):
        if all(file.capture for file in group):
            captures[group[0].path] = InputError(f"{group[0].path}: {NOWHERE}")
        else:
            stacks += _stacks(group)
    return Study(tuple(_labelled(stacks)), broken, captures)


def _series(file: File) -> Hashable:
    """A multi-frame file is a series of its own; one number with two owners is an export gone wrong."""
    return (file.series, file.owners, *([file.path] if len(file.frames) > 1 else []))


def _stacks(files: list[File]) -> list[list[File]]:
    """Slices of one series, parted by one difference after the other until each part makes one stack."""
    parts = [files]
    for part_by in (_sizes, _directions, _kinds, _folders):
        parts = [piece for part in parts for piece in ([part] if _is_stack(part) else part_by(part))]
    return parts


def _sizes(files: list[File]) -> list[list[File]]:
    return _parted(files, lambda file: (file.pixels.rows, file.pixels.columns) if file.pixels else ())


def _directions(files: list[File]) -> list[list[File]]:
    """Each as the first of its part, by more than rounding; what cannot be read has none."""
    parts: list[list[File]] = []
    for file in files:
        for part in parts:
            if _angle([part[0], file]) < FACING and bool(part[0].frames) == bool(file.frames):
                part.append(file)
                break
        else:
            parts.append([file])
    return parts


def _kinds(files: list[File]) -> list[list[File]]:
    return _parted(files, lambda file: file.stack)


def _folders(files: list[File]) -> list[list[File]]:
    return _parted(files, lambda file: file.path.parent)


def _parted(files: Iterable[File], key: Callable[[File], Hashable]) -> list[list[File]]:
    parts: dict[Hashable, list[File]] = defaultdict(list)
    for file in files:
        parts[key(file)].append(file)
    return list(parts.values())


def _angle(files: Iterable[File]) -> float:
    """Between slices, about: the largest difference of a direction cosine."""
    facing = [frame.orientation for file in files for frame in file.frames]
    return float(np.ptp(facing, axis=0).max()) if facing else 0.0


def _is_stack(files: list[File]) -> bool:
    """Whether slices that can be read are of one size and lie one behind the other."""
    readable = [file for file in files if file.pixels]
    frames = [frame for file in readable for frame in file.frames]
    sizes = {(file.pixels.rows, file.pixels.columns) for file in readable if file.pixels}
    return not frames or (len(sizes) == 1 and _angle(readable) < FACING and places(frames) == len(frames))


def _labelled(stacks: list[list[File]]) -> Iterator[Series]:
    """A series that has no number gets its place among those of its folder."""
    running, used = Counter[Path](), Counter[tuple[Path, str]]()
    for files in stacks:
        folder = shared_folder([file.path for file in files])
        running[folder] += 1
        number = files[0].number
        label = f"series-{running[folder] if number is None else number:03d}"
        used[folder, label] += 1
        if used[folder, label] > 1:
            label += f"-{used[folder, label]}"
        yield Series(folder, label, _in_order(files), frozenset(chain.from_iterable(file.owners for file in files)))


def _in_order(files: list[File]) -> tuple[Path, ...]:
    if not all(file.frames for file in files):
        return tuple(file.path for file in files)
    order = np.argsort(depths([file.frames[0] for file in files]), kind="stable")
    return tuple(files[n].path for n in order)
