"""What lies in a folder and below it, whatever links lead there: each real folder once.

Links are followed, hidden files passed over, and of a BIDS data set the folders beside its raw data are left out. What
cannot be opened is kept by name beside the rest. Inside a split folder all counts anew: what `train/` links to may lie
beside it too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from brainvq.errors import InputError

DEEPEST = 64  # folders below one another: far beyond any data set, and below what recursion bears
SPLIT_FOLDER = re.compile(
    r"(?:keras_png_slices_)?(train|val|test)(?:ing|id|idate|idation)?(?:_(?:images|imgs|set|data))?", re.IGNORECASE
)
IGNORED = ("thumbs.db", "desktop.ini", "__macosx")
BIDS_ROOT = "dataset_description.json"
BIDS_BESIDE = ("derivatives", "sourcedata", "rawdata", "code", "stimuli", "phenotype")  # folders of a BIDS data set


@dataclass
class Folder:
    """`files`: those that can be opened, and links that lead nowhere, which are reported when they are read; `special`:
    how many pipes, sockets and devices, which could keep a reader waiting for ever; `broken`: why entries cannot be
    looked at; `bids`: whether it belongs to a BIDS data set."""

    path: Path
    bids: bool
    files: list[Path] = field(default_factory=list)
    special: int = 0
    broken: dict[Path, InputError] = field(default_factory=dict)
    folders: list[Folder] = field(default_factory=list)

    def every(self) -> Iterator[Folder]:
        """This one and all below it."""
        yield self
        for folder in self.folders:
            yield from folder.every()

    def all_files(self) -> list[Path]:
        return [file for folder in self.every() for file in folder.files]

    def all_broken(self) -> dict[Path, InputError]:
        return {path: error for folder in self.every() for path, error in folder.broken.items()}


def split_name(folder: str) -> str | None:
    """train, validate or test if the folder's name says so."""
    match = SPLIT_FOLDER.fullmatch(folder)
    return {"train": "train", "val": "validate", "test": "test"}[match[1].lower()] if match else None


def shared_folder(files: Sequence[Path]) -> Path:
    """The nearest folder above all `files`; in full where some paths are and others are not."""
    folders = {file.parent for file in files}
    if len({folder.is_absolute() for folder in folders}) > 1:
        folders = {folder.absolute() for folder in folders}
    return Path(os.path.commonpath(folders))


@dataclass(frozen=True)
class _Way:
    """How a folder was come to. `above`: itself and the folders above, `seen`: all that were visited, by real path."""

    above: tuple[str, ...]
    seen: set[str]
    bids: bool
    split: bool


def walk(path: Path) -> Folder:
    """Raises InputError where `path` itself cannot be read."""
    try:
        return _walk(path, _Way((), set(), bids=False, split=False))
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be read ({error.strerror}). Check its permissions.") from error


def _walk(path: Path, way: _Way) -> Folder:
    real = os.path.realpath(path)
    way.seen.add(real)
    found = sorted(os.scandir(path), key=lambda entry: entry.name)
    found = [entry for entry in found if not entry.name.startswith(".") and entry.name.lower() not in IGNORED]
    bids = way.bids or any(entry.name == BIDS_ROOT for entry in found)
    folder, way = Folder(path, bids), replace(way, above=(*way.above, real), bids=bids)
    for entry in found:
        try:
            _take(entry, folder, way)
        except OSError as error:
            remedy = "Check its permissions, or remove it."
            folder.broken[Path(entry.path)] = InputError(f"{entry.path}: cannot be read ({error.strerror}). {remedy}")
    return folder


def _take(entry: os.DirEntry[str], folder: Folder, way: _Way) -> None:
    """Raises OSError where the entry cannot be looked at."""
    if entry.is_dir():
        if len(way.above) > DEEPEST:
            raise OSError(0, f"more than {DEEPEST} folders below one another")
        if not way.split and split_name(entry.name):
            way = replace(way, seen=set(way.above), split=True)
        if os.path.realpath(entry.path) not in way.seen and not (way.bids and entry.name in BIDS_BESIDE):
            folder.folders.append(_walk(Path(entry.path), way))
    elif entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists()):
        folder.files.append(Path(entry.path))
    else:
        folder.special += 1
