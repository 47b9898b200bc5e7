"""What on the disk is one scan: a file, the two files of a pair, or the files of a DICOM series."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from brainvq.data.scan import DICOM, PICTURES, SUFFIXES, no_image
from brainvq.errors import InputError

FOREIGN = re.compile(r"\.[A-Za-z]\w*")  # a suffix; what follows the last dot of a number in DICOM's manner is none


@dataclass(frozen=True)
class Entry:
    """`path` is what the scan is called and what errors name; of a DICOM series the folder that its files share, or
    FOLDER/series-NNN where several share it. `files`: of a series, by position; `owners`: of a series, as of `File`."""

    path: Path
    files: tuple[Path, ...] = ()
    owners: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def volume(self) -> bool:
        return bool(self.files) or not self.path.name.lower().endswith(PICTURES)


@dataclass(frozen=True)
class Entries:
    """`broken`: why files make no scan; `captures`: of series that are left out, as of `dicom_series.Study`."""

    scans: tuple[Entry, ...]
    broken: dict[Path, InputError]
    captures: dict[Path, InputError]


def is_image(path: Path) -> bool:
    """By its suffix; a file of an unknown suffix, as scanners write them, by its first bytes."""
    if path.name.lower().endswith(SUFFIXES):
        return True
    from brainvq.data.dicom import is_dicom

    return is_dicom(path)


def entries(paths: Iterable[Path]) -> Entries:
    """The scans that these image files make: files first, then DICOM series, wherever their slices lie."""
    found: dict[Path, Entry] = {}
    slices: list[Path] = []
    broken: dict[Path, InputError] = {}
    for path in map(image_of, paths):
        name = path.name.lower()
        if name.endswith(DICOM) or not name.endswith(SUFFIXES):
            if FOREIGN.fullmatch(path.suffix) and not is_image(path):
                broken[path] = no_image(path)
            else:
                slices.append(path)
        else:
            found.setdefault(path, Entry(path))
    if not slices:
        return Entries(tuple(found.values()), broken, {})
    from brainvq.data.dicom_series import find_series

    study = find_series(slices)
    shared = Counter(series.folder for series in study.series)
    for series in study.series:
        path = series.folder if shared[series.folder] == 1 else series.folder / series.label
        found[path] = Entry(path, series.files, series.owners)
    return Entries(tuple(found.values()), broken | study.broken, study.captures)


def image_of(path: Path) -> Path:
    """What a scan goes by: of a .hdr the .img file beside it, however that suffix is written; else the file itself."""
    beside = (path.with_suffix(".img"), path.with_suffix(".IMG")) if path.name.lower().endswith(".hdr") else ()
    return next((partner for partner in beside if partner.exists()), path)


def none_found(where: object, found: Iterable[Entries]) -> InputError:
    """Why there are no scans in `where`: the first file that makes none, or that nothing there is to be a scan."""
    reasons = [error for each in found for error in (*each.broken.values(), *each.captures.values())]
    nothing = InputError(
        f"{where}: its DICOM files are no volumes, but localisers, reports and the like. Give the folder of a series."
    )
    return next(iter(reasons), nothing)
