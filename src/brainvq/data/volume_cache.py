"""Volumes decoded for training: each cut into slices once, by several processes, then all brought to one size.

What has been cut is kept in the cache until the whole is there, so that reading a thousand volumes goes on where it was
cut off; a volume whose files or settings change is cut anew. No process holds more than one volume.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from brainvq.data.planes import as_slices
from brainvq.data.replies import Reply
from brainvq.data.scan import header_of, read
from brainvq.data.slicing import Slicing, cut, resampled_shape, tile, tiles
from brainvq.data.sources import Source
from brainvq.data.subjects import Item
from brainvq.data.windows import LEVELS_8, LEVELS_16
from brainvq.data.workers import Workers
from brainvq.errors import InputError

FORMAT = 1
MEMORY, SECONDS = 6 << 30, 600.0  # that one volume may take
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
    shape = resampled_shape(header.shape, header.affine, slicing.spacing) if slicing.spacing else header.shape
    _, height, width = as_slices(np.broadcast_to(np.uint8(0), shape), header.affine, slicing.plane).shape
    return height, width


def cut_all(source: Source, slicing: Slicing, folder: Path, progress: Progress) -> list[Part]:
    """The parts of all volumes below `folder`, those that are missing made.

    Raises:
        InputError: of the first volume that cannot be read or cut; those before it are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / f"{_key(item, slicing)}.npz" for item in source.items]
    missing = [(item, target) for item, target in zip(source.items, targets, strict=True) if not target.exists()]
    done = len(targets) - len(missing)
    with Workers(os.cpu_count() or 1, MEMORY, SECONDS) as workers:
        requests = ({**_request(item, slicing), "to": str(target)} for item, target in missing)
        for reply in workers.map("brainvq.data.volume_cache:cut_task", requests):
            if isinstance(reply, InputError):
                raise reply
            done += 1
            progress(done, len(targets))
    return [_part(target) for target in targets]


def _request(item: Item, slicing: Slicing) -> dict[str, Any]:
    files = [str(path) for path in item.files]
    return {"path": str(item.path), "files": files, "name": item.name, "slicing": asdict(slicing)}


def _key(item: Item, slicing: Slicing) -> str:
    """Of where the files lie, their sizes and times: reading them whole is what is to be spared."""
    stats = [
        (str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in item.files or (item.path,)
    ]
    return hashlib.sha256(json.dumps([FORMAT, stats, asdict(slicing)]).encode()).hexdigest()[:40]


def cut_task(request: dict[str, Any]) -> Reply:
    """In a worker: one volume, read, cut and stored; nothing but its name goes back."""
    slicing = TypeAdapter(Slicing).validate_python(request["slicing"])
    files, target = [Path(path) for path in request["files"]], Path(request["to"])
    found = cut(read(request["path"], files=files, name=request["name"]), slicing)
    taken = [found.indices.start, found.indices.stop, found.indices.step]
    temporary = target.with_name(f"building-{secrets.token_hex(8)}")
    try:
        with temporary.open("wb") as file:
            np.savez(file, levels=found.levels, indices=np.array(taken))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return Reply()


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
