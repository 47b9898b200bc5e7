"""What the files of `compress` are called, and where `decompress` writes what they hold.

Whatever the one accepts, the other can write: names that it could not are refused before anything is encoded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from brainvq.archive.codec import frames_of
from brainvq.codec.bitstream import Bitstream
from brainvq.codec.header import LARGEST_NAME, MOST_SCANS
from brainvq.data.entries import Entry
from brainvq.data.layouts import natural
from brainvq.data.scan import NIFTI, SUFFIXES
from brainvq.data.transforms import Frame
from brainvq.errors import InputError
from brainvq.inputs import lossless

SUFFIX = ".bvq"
LONGEST = 255
"""Bytes of a file's name without its folders."""
Named = list[tuple[Entry, Path]]


@dataclass(frozen=True)
class Part:
    """What becomes one file: its name, and where it lies on the disk by that name, both without the suffix."""

    name: Path
    place: Path
    members: Named


def packed_names(found: Named) -> dict[Path, Named]:
    """Names of the files to write, with what goes into each: a volume alone, the pictures of a folder together in
    natural order, in several files where they are too many for one; a single one keeps its own name. Where two would
    have the same name, all are called by their places below the nearest folder that they share.

    Raises:
        InputError: names that the files, or what is unpacked from them, could not have.
    """
    _refuse_unwritable(found)
    parts = [Part(name, _place(entry).with_name(name.name), [(entry, name)]) for entry, name in found if _volume(name)]
    folders: dict[Path, Named] = {}
    for entry, name in found:
        if not _volume(name):
            folders.setdefault(_place(entry).parent, []).append((entry, name))
    for folder, pictures in folders.items():
        parts += _of_folder(folder, pictures)
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        shared = os.path.commonpath([part.place.parent for part in parts])
        names = [part.place.relative_to(shared) for part in parts]
    files = {name.with_name(name.name + SUFFIX): part.members for name, part in zip(names, parts, strict=True)}
    if len(files) < len(parts):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(f"two files would be called {twice}{SUFFIX}. Give the inputs in separate commands.")
    for name in files:
        if not _fits(name):
            raise InputError(f"{name}: no file can have a name of more than {LONGEST} bytes. Rename what goes into it.")
    refuse_nested(files)
    return files


def unpacked_names(file: Bitstream) -> list[Path]:
    """Where each scan is written below the output's folder. Those of the same name, which a file made from Python may
    hold, are numbered from the second on: a.png, a-2.png.

    Raises:
        InputError: there is none, or a stranger's file says a place outside, or none.
    """
    if not file.items:
        raise InputError(f"{file.name}: holds no scan. Pack the images again.")
    wanted = [_unpacked(item.name, frame, file) for item, frame in zip(file.items, frames_of(file), strict=True)]
    found, taken, counts = [], set(wanted), Counter[Path]()
    for path in wanted:
        name = path
        counts[path] += 1
        if counts[path] > 1:
            while (name := _numbered(path, counts[path])) in taken:
                counts[path] += 1
            taken.add(name)
        if not _fits(name):
            raise _no_place(file, path.as_posix())
        found.append(name)
    return found


def refuse_nested(names: Iterable[Path]) -> None:
    """Raises InputError where one is a file and a folder of another."""
    files = dict.fromkeys(names)
    for name in files:
        for parent in name.parents:
            if parent in files:
                raise InputError(f"{parent} would be a file, and a folder with {name} in it. Give them separately.")


def _refuse_unwritable(found: Named) -> None:
    """Raises InputError unless all of them can be unpacked into one folder."""
    unpacked: dict[Path, Path] = {}
    for entry, name in found:
        path, given = lossless(name), name.as_posix()
        if not (_possible(given) and _fits(path) and len(os.fsencode(given)) <= LARGEST_NAME):
            raise InputError(f"{entry.path}: no file could be unpacked under the name {given!r}. Rename it.")
        if path in unpacked:
            raise InputError(
                f"{unpacked[path]} and {entry.path} would both be unpacked as {path}. Rename one, or give them in "
                "separate commands with an --out each."
            )
        unpacked[path] = entry.path
    refuse_nested(unpacked)


def _of_folder(folder: Path, pictures: Named) -> list[Part]:
    pictures = sorted(pictures, key=lambda one: natural(one[1].as_posix()))
    first = pictures[0][1]
    if len(pictures) == 1:
        return [Part(first, folder / first.name, pictures)]
    place = folder if folder.name else folder / "images"
    whole = first.parent if first.parent.name else Path(place.name)
    if len(pictures) <= MOST_SCANS:
        return [Part(whole, place, pictures)]
    shares = [pictures[start : start + MOST_SCANS] for start in range(0, len(pictures), MOST_SCANS)]
    return [
        Part(whole.with_name(f"{whole.name}-{n}"), place.with_name(f"{place.name}-{n}"), share)
        for n, share in enumerate(shares, start=1)
    ]


def _volume(name: Path) -> bool:
    return name.name.lower().endswith(NIFTI)


def _place(entry: Entry) -> Path:
    """Without `..`, and with links as they are called."""
    return Path(os.path.abspath(entry.path))  # noqa: PTH100


def _unpacked(name: str, frame: Frame, file: Bitstream) -> Path:
    """As what a scan of that name is written. A stranger's file may say anything."""
    if not _possible(name):
        raise _no_place(file, name)
    path = Path(name)
    if frame.affine is not None and not name.lower().endswith(SUFFIXES):
        return path.with_name(path.name + ".nii.gz")
    return lossless(path)


def _numbered(path: Path, number: int) -> Path:
    """a.nii.gz -> a-2.nii.gz."""
    suffixes = [one for one in SUFFIXES if path.name.lower().endswith(one)]
    stem = len(path.name) - max(map(len, suffixes), default=0)
    return path.with_name(f"{path.name[:stem]}-{number}{path.name[stem:]}")


def _no_place(file: Bitstream, name: str) -> InputError:
    return InputError(f"{file.name}: calls a scan {name!r}, which is no place below a folder. Read it from Python.")


def _fits(name: Path) -> bool:
    return len(os.fsencode(name.name)) <= LONGEST


def _possible(name: str) -> bool:
    """Whether every system can write that name below a folder."""
    foreign = PureWindowsPath(name).drive or "\\" in name or "\0" in name
    parts = name.split("/")
    return not foreign and not {"", ".", ".."} & set(parts) and max(len(os.fsencode(one)) for one in parts) <= LONGEST
