"""Which files make a series: the slices of one volume, told apart by what their headers say, not by their names.

A series in the sense of DICOM may hold several stacks of slices (echoes, magnitude and phase, a copy in another
folder); where its slices do not lie at different places they are parted by these. Time points are not: such a
series stays whole, and reading it says so. Localisers, and objects that are no images (reports, plans, presentation
states, segmentations), are left out. Labels are numbers: descriptions and identifiers may name a patient.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainvq.data.dicom_geometry import depths, places
from brainvq.data.dicom_guard import NotAnImage, Refused
from brainvq.data.dicom_header import File, is_dicom, parse
from brainvq.data.scan import DICOM
from brainvq.errors import InputError

LISTED = 8  # series that an error names


@dataclass(frozen=True)
class Series:
    """`folder` holds all `files`, which are in order of position; `label` is "series-003", one of its kind there."""

    folder: Path
    label: str
    files: tuple[Path, ...]


def only_series(path: Path) -> tuple[Path, ...]:
    """The files of the one series that a folder holds (not the folders within); a file stands for itself."""
    if not path.is_dir():
        return (path,)
    inside = sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
    found, errors = find_series([file for file in inside if file.suffix.lower() in DICOM or is_dicom(file)])
    if errors:
        raise errors[0]
    if not found:
        raise InputError(f"{path}: holds no DICOM series of slices. Give the folder that its files lie in.")
    if len(found) > 1:
        listed = ", ".join(f"{one.label} of {len(one.files)}" for one in found[:LISTED])
        more = ", ..." if len(found) > LISTED else ""
        raise InputError(
            f"{path}: holds {len(found)} DICOM series: {listed}{more} files. Give a folder with the files of one."
        )
    return found[0].files


def find_series(files: Sequence[Path]) -> tuple[list[Series], list[InputError]]:
    """The series in `files`, of one folder or many, and an error for each file whose header cannot be made out.

    Which series such a file is missing from, nobody can tell: do not trust those of its folder.
    """
    parsed, errors = [], []
    for path in sorted(files):
        try:
            parsed.append(parse(path))
        except NotAnImage:
            continue
        except Refused as refusal:
            errors.append(InputError(f"{path}: {refusal}"))
    stacks: list[list[File]] = []
    for group in _parted([file for file in parsed if not file.localiser], _series):
        stacks += [group] if _is_stack(group) else _parted(group, _stack)
    return _labelled(stacks), errors


def _series(file: File) -> Hashable:
    """A multi-frame file is a series of its own."""
    return (file.series, file.path) if len(file.frames) > 1 else (file.series,)


def _stack(file: File) -> Hashable:
    """What parts the slices of one series where they do not make one stack."""
    size = (file.pixels.rows, file.pixels.columns) if file.pixels else ()
    facing = tuple(round(one, 1) for one in file.frames[0].orientation) if file.frames else ()
    return (file.path.parent, size, facing, file.stack)


def _parted(files: Iterable[File], key: Callable[[File], Hashable]) -> list[list[File]]:
    parts: dict[Hashable, list[File]] = defaultdict(list)
    for file in files:
        parts[key(file)].append(file)
    return list(parts.values())


def _is_stack(files: list[File]) -> bool:
    """Whether slices that can be read are of one size and lie one behind the other."""
    readable = [file for file in files if file.pixels]
    frames = [frame for file in readable for frame in file.frames]
    sizes = {(file.pixels.rows, file.pixels.columns) for file in readable if file.pixels}
    angles = np.ptp([frame.orientation for frame in frames], axis=0).max() if frames else 0.0
    return not frames or (len(sizes) == 1 and angles < 0.1 and places(frames) == len(frames))


def _labelled(stacks: list[list[File]]) -> list[Series]:
    series, used = [], Counter[tuple[Path, str]]()
    for running, files in enumerate(stacks, start=1):
        folder = Path(os.path.commonpath([file.path.parent for file in files]))
        number = files[0].number
        label = f"series-{running if number is None else number:03d}"
        used[folder, label] += 1
        if used[folder, label] > 1:
            label += f"-{used[folder, label]}"
        series.append(Series(folder, label, _in_order(files)))
    return series


def _in_order(files: list[File]) -> tuple[Path, ...]:
    if not all(file.frames for file in files):
        return tuple(file.path for file in files)
    order = np.argsort(depths([file.frames[0] for file in files]), kind="stable")
    return tuple(files[n].path for n in order)
