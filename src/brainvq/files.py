"""Which files a command reads, and what it names what it writes.

Nothing is overwritten silently, two inputs of the same name keep the folders they came from, and a command that fails
leaves no part of its outputs behind.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from brainvq.data.folders import walk
from brainvq.errors import InputError, counted
from brainvq.writing import refuse_file


def gather(
    inputs: Sequence[Path],
    suffixes: tuple[str, ...],
    *,
    leave_out: Callable[[Path], bool] = lambda below: False,
    accept: Callable[[Path], bool] | None = None,
) -> list[tuple[Path, Path]]:
    """Every file of `inputs` (files and folders) with one of the suffixes, and a relative name for its output.

    In a folder `accept`, where given, decides in place of the suffixes, which an error still names.

    A file in a folder keeps its place in the folder, unless its name is hidden or `leave_out(path below the folder)`;
    a file given by name is taken as it is. Where two files would get the same name, all keep the folders below the
    nearest one that they share. A link to a file is a file of its own; folders are gone through as for training
    (`data/folders.py`).

    Raises:
        InputError: an input is missing, no file, or holds no such file, or something in a folder cannot be looked at.
    """
    found: list[tuple[Path, Path]] = []
    for given in inputs:
        if given.is_dir():
            found += _below(given, suffixes, leave_out, accept or (lambda path: path.name.lower().endswith(suffixes)))
        elif given.is_file():
            found.append((given, Path(given.name)))
        elif given.exists():
            raise InputError(f"{given}: a pipe, socket or device. Give a file or a folder.")
        else:
            raise InputError(f"{given}: there is no such file or folder.")
    once = {_absolute(path): (path, name) for path, name in found}
    if len({name for _, name in once.values()}) == len(once):
        return list(once.values())
    shared = os.path.commonpath([place.parent for place in once])
    return [(path, place.relative_to(shared)) for place, (path, _) in once.items()]


def outputs(names: Sequence[Path], out: Path, *, force: bool) -> list[Path]:
    """Paths below `out`; nothing is made yet.

    Raises:
        InputError: `out` is a file, two outputs share a name, or one exists and `force` is not set (or it is a folder).
    """
    refuse_file(out)
    paths = [out / name for name in names]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise InputError(f"two inputs would both be written to {twice[0]}. Give them in separate commands.")
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise InputError(f"{there[0]} exists ({len(there)} such files). Give another --out, or --force to replace.")
    folders = [path for path in there if path.is_dir()]
    if folders:
        raise InputError(f"{folders[0]} is a folder, and a file would take its place. Give another --out.")
    return paths


@contextmanager
def staged(paths: Sequence[Path], out: Path) -> Iterator[dict[Path, Path]]:
    """Where to write each of `paths` (below `out`) first: they take their names together when the block ends well, but
    for those that the block has taken out.

    The place is a hidden folder in `out`, so on the same disk; it is gone afterwards whatever happens, and so is `out`
    if it was made for nothing.

    Raises:
        InputError: `out` cannot be written to.
    """
    new, hidden = not out.exists(), out / f".{secrets.token_hex(8)}.tmp"
    targets = {path: hidden / path.relative_to(out) for path in paths}
    try:
        _make_folders(targets.values(), out)
        yield targets
        _make_folders(targets, out)
        for path, target in targets.items():
            target.replace(path)
    except InputError as error:  # of the folder that the user gave, not of the hidden one
        raise InputError(str(error).replace(str(hidden), str(out))) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        if new:
            with suppress(OSError):  # it holds the outputs
                out.rmdir()


def _make_folders(paths: Iterable[Path], out: Path) -> None:
    try:
        for folder in {path.parent for path in paths}:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror}: {error.filename}). Give another --out."
        ) from error


def _below(
    folder: Path, suffixes: tuple[str, ...], leave_out: Callable[[Path], bool], accept: Callable[[Path], bool]
) -> list[tuple[Path, Path]]:
    tree = walk(folder)
    for error in tree.all_broken().values():
        raise error
    names = [(path, path.relative_to(folder)) for path in sorted(tree.all_files()) if accept(path)]
    kept = [(path, name) for path, name in names if not leave_out(name)]
    if names and not kept:
        raise InputError(
            f"{folder}: holds {counted(len(names), 'label map')} by name, and no other images. Give the scans."
        )
    if not kept:
        raise InputError(f"{folder}: no file in it ends in {', '.join(suffixes)}.")
    return kept


def _absolute(path: Path) -> Path:
    """Without `..`, and with links as they are called."""
    return Path(os.path.abspath(path))  # noqa: PTH100
