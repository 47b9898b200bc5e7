"""What on the disk is one scan: a file, the two files of a pair, or the files of a DICOM series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from brainvq.data.scan import DICOM, PICTURES, SUFFIXES
from brainvq.errors import InputError


@dataclass(frozen=True)
class Entry:
    """`path` is what the scan is called and what errors name; of a DICOM series its folder, or FOLDER/series-NNN where
    that holds several. `files`: of a series, by position."""

    path: Path
    files: tuple[Path, ...] = ()

    @property
    def volume(self) -> bool:
        return bool(self.files) or not self.path.name.lower().endswith(PICTURES)


def is_image(path: Path) -> bool:
    """By its suffix; a file of an unknown suffix, as scanners write them, by its first bytes."""
    if path.name.lower().endswith(SUFFIXES):
        return True
    from brainvq.data.dicom import is_dicom

    return is_dicom(path)


def entries(paths: Iterable[Path]) -> tuple[list[Entry], list[InputError]]:
    """The scans that these image files make, in the order of their first files, and why others make none."""
    found: dict[Path, Entry] = {}
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        name = path.name.lower()
        if name.endswith(".hdr") and (partner := _partner(path)):
            found.setdefault(partner, Entry(partner))
        elif name.endswith(DICOM) or not name.endswith(SUFFIXES):
            folders[path.parent].append(path)
        else:
            found.setdefault(path, Entry(path))
    broken: list[InputError] = []
    for folder, files in folders.items():
        series, refused = _series(folder, files)
        broken += refused
        found |= {entry.path: entry for entry in series}
    return list(found.values()), broken


def _partner(header: Path) -> Path | None:
    """The .img file of a .hdr, however its suffix is written."""
    return next((path for path in (header.with_suffix(".img"), header.with_suffix(".IMG")) if path.exists()), None)


def _series(folder: Path, files: list[Path]) -> tuple[list[Entry], list[InputError]]:
    from brainvq.data.dicom_series import find_series

    series, broken = find_series(files)
    if len(series) == 1:
        return [Entry(folder, series[0].files)], broken
    return [Entry(folder / each.label, each.files) for each in series], broken
