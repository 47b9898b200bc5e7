"""Volumes decoded for training: each cut into slices once, by several processes, then all brought to one size.

What has been cut is kept in the cache until the whole is there, at most a week, so that reading a thousand volumes goes
on where it was cut off, or where `look_cache.py` has read them before; a volume whose files or settings change is cut
anew. No process holds more than one volume.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from brainvq.data.planes import as_slices
from brainvq.data.replies import Reply
from brainvq.data.scan import Scan, header_of, read
from brainvq.data.slicing import Slicing, cut, resampled_shape, tile, tiles
from brainvq.data.sources import Source
from brainvq.data.subjects import Item
from brainvq.data.windows import LEVELS_8, LEVELS_16
from brainvq.data.workers import Workers
from brainvq.errors import InputError

FORMAT = 1
MEMORY, SECONDS = 6 << 30, 600.0  # that one volume may take
KEPT = 7 * 24 * 3600  # seconds that a part waits for the others
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Part:
    """One volume's slices in the cache: (n, H, W) at `path`, which slices they are, 8 bit or more."""

    path: Path
    shape: tuple[int, int, int]
    indices: range
    eight: bool


def with_size(slicing: Slicing, sources: Iterable[Source]) -> Slicing:
    """Its size, where it has none: that of the largest slice of all `sources`, by their headers, so that the splits of
    a data set are of one size."""
    items = [item for source in sources if source.volumes for item in source.items]
    if slicing.size is not None or not items:
        return slicing
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(lambda item: _slice_size(item, slicing), items))
    return replace(slicing, size=(max(height for height, _ in sizes), max(width for _, width in sizes)))


def _slice_size(item: Item, slicing: Slicing) -> tuple[int, int]:
    header = header_of(item.path, files=item.files)
    assert header.affine is not None
    return slice_size(header.shape, header.affine, slicing)[1:]


def slice_size(shape: tuple[int, ...], affine: NDArray[np.float64], slicing: Slicing) -> tuple[int, int, int]:
    """(slices, H, W) of a volume (X, Y, Z) before any is left out, padded or tiled."""
    sides = resampled_shape(shape, affine, slicing.spacing) if slicing.spacing else shape
    slices, height, width = as_slices(np.broadcast_to(np.uint8(0), sides), affine, slicing.plane).shape
    return slices, height, width


def cut_all(source: Source, slicing: Slicing, folder: Path, progress: Progress) -> list[Part]:
    """The parts of all volumes below `folder`, those that are missing made.

    Raises:
        InputError: of the first volume that cannot be read or cut; those before it are kept.
    """
    sweep(folder)
    targets = [part_path(item.path, item.files, slicing, folder) for item in source.items]
    missing = [(item, target) for item, target in zip(source.items, targets, strict=True) if not target.exists()]
    done = len(targets) - len(missing)
    with Workers(os.cpu_count() or 1, MEMORY, SECONDS) as workers:
        requests = (request_for(item.path, item.files, item.name, slicing, target) for item, target in missing)
        for reply in workers.map("brainvq.data.volume_cache:cut_task", requests):
            if isinstance(reply, InputError):
                raise reply
            done += 1
            progress(done, len(targets))
    return [_part(target) for target in targets]


def sweep(folder: Path) -> None:
    """Make `folder`, and remove parts of it that nobody came for."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        with suppress(FileNotFoundError):  # another process sweeps too
            if time.time() - old.stat().st_mtime > KEPT:
                old.unlink()


def stamps(path: Path, files: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Where the files of a scan lie, their sizes and times: reading them whole is what is to be spared.

    Raises:
        InputError: one is not there.
    """
    pair = [path, *(header for header in (path.with_suffix(".hdr"), path.with_suffix(".HDR")) if header.exists())]
    found = []
    for file in files or (pair if path.suffix.lower() == ".img" else [path]):
        try:
            stat = file.stat()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}). Replace it or remove it.") from error
        found.append((str(file.absolute()), stat.st_size, stat.st_mtime_ns))
    return found


def part_path(path: Path, files: Sequence[Path], slicing: Slicing, folder: Path) -> Path:
    """Where a volume's slices are kept; their common size plays no part in them."""
    told = [FORMAT, stamps(path, files), asdict(replace(slicing, size=None))]
    return folder / f"{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:40]}.npz"


def request_for(path: Path, files: Sequence[Path], name: str, slicing: Slicing, target: Path) -> dict[str, Any]:
    """What `cut_task` is to be asked."""
    listed = [str(file) for file in files]
    return {"path": str(path), "files": listed, "name": name, "slicing": asdict(slicing), "to": str(target)}


def cut_task(request: dict[str, Any]) -> Reply:
    """In a worker: one volume, read, cut and stored; nothing goes back."""
    store_part(read_asked(request), request)
    return Reply()


def read_asked(request: dict[str, Any]) -> Scan:
    """The volume of a request."""
    return read(request["path"], files=[Path(file) for file in request["files"]], name=request["name"])


def store_part(scan: Scan, request: dict[str, Any]) -> None:
    """Raises InputError where no slice is left, or the cache cannot be written."""
    found = cut(scan, TypeAdapter(Slicing).validate_python(request["slicing"]))
    taken = [found.indices.start, found.indices.stop, found.indices.step]
    target = Path(request["to"])
    temporary = target.with_name(f"building-{secrets.token_hex(8)}")
    try:
        with temporary.open("wb") as file:
            np.savez(file, levels=found.levels, indices=np.array(taken))
        temporary.replace(target)
    except OSError as error:
        raise InputError(
            f"{target.parent}: the cache cannot be written ({error}). Free space, or set BRAINVQ_CACHE."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _part(path: Path) -> Part:
    with np.load(path, allow_pickle=False) as archive:
        start, stop, step = (int(n) for n in archive["indices"])
        levels = archive["levels"]
        return Part(path, levels.shape, range(start, stop, step), bool(levels.dtype == np.uint8))


@dataclass(frozen=True, eq=False)
class Plan:
    """How parts become images of one `size`. `places` (N, 4): volume, slice, and where the tile begins (top, left)."""

    parts: list[Part]
    size: tuple[int, int]
    levels: int
    places: NDArray[np.int32]

    def images(self) -> Iterator[NDArray[Any]]:
        """All images in order, 0..levels."""
        for part in self.parts:
            with np.load(part.path, allow_pickle=False) as archive:
                levels = archive["levels"]
            widen = 257 if part.eight and self.levels == LEVELS_16 else 1
            for one in levels:
                for top, left in _corners(part, self.size):
                    yield tile(one, top, left, self.size).astype(np.uint16 if widen > 1 else one.dtype) * widen


def plan(parts: list[Part], slicing: Slicing) -> Plan:
    """One size for all: the one asked for, or that of the largest slice."""
    height, width = slicing.size or (max(part.shape[1] for part in parts), max(part.shape[2] for part in parts))
    places = [
        (volume, index, top, left)
        for volume, part in enumerate(parts)
        for index in part.indices
        for top, left in _corners(part, (height, width))
    ]
    levels = LEVELS_8 if all(part.eight for part in parts) else LEVELS_16
    return Plan(parts, (height, width), levels, np.array(places, np.int32).reshape(-1, 4))


def _corners(part: Part, size: tuple[int, int]) -> list[tuple[int, int]]:
    _, height, width = part.shape
    return [(top, left) for top in tiles(height, size[0]) for left in tiles(width, size[1])]
