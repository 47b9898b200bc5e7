"""Which files a command reads, and what it names what it writes.

Nothing is overwritten silently, and two inputs of the same name keep the folders they came from.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from brainvq.errors import InputError


def gather(inputs: Sequence[Path], suffixes: tuple[str, ...]) -> list[tuple[Path, Path]]:
    """Every file of `inputs` (files and folders) with one of the suffixes, and a relative name for its output.

    A file in a folder keeps its place in the folder. Where two files would get the same name, all keep the folders
    below the nearest one that they share.

    Raises:
        InputError: an input is missing, or holds no such file.
    """
    found: list[tuple[Path, Path]] = []
    for given in inputs:
        if given.is_dir():
            below = sorted(path for path in given.rglob("*") if path.is_file() and _named(path, suffixes))
            below = [path for path in below if not path.name.startswith(".")]
            if not below:
                raise InputError(f"{given}: no file in it ends in {', '.join(suffixes)}.")
            found += [(path, path.relative_to(given)) for path in below]
        elif given.exists():
            found.append((given, Path(given.name)))
        else:
            raise InputError(f"{given}: there is no such file or folder.")
    found = list({path.resolve(): (path, name) for path, name in found}.values())
    if max(Counter(name for _, name in found).values()) == 1:
        return found
    shared = Path(os.path.commonpath([path.resolve().parent for path, _ in found]))
    return [(path, path.resolve().relative_to(shared)) for path, _ in found]


def outputs(names: Sequence[Path], out: Path, *, force: bool) -> list[Path]:
    """Paths below `out`, whose folders are made.

    Raises:
        InputError: `out` is a file, two outputs share a name, or one exists and `force` is not set.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out needs a folder.")
    paths = [out / name for name in names]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise InputError(f"two inputs would both be written to {twice[0]}. Give them in separate commands.")
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise InputError(f"{there[0]} exists ({len(there)} such files). Give another --out, or --force to replace.")
    for folder in {path.parent for path in paths}:
        folder.mkdir(parents=True, exist_ok=True)
    return paths


def _named(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)
