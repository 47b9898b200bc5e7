"""The decoded cache: every image of a source, once, as one array on the disk.

Keyed by the fingerprint of the files, outside the data folder. It is built under a temporary name and renamed, so that
two processes may build it at once: the second to finish finds the name taken and throws its own away. 8-bit images are
stored as they are; if any image of a source is of another type, all are stored as the 65,536 levels of their own
window (`windows.window_of`), so that [-1, 1] is the same affine map for the whole array. Volumes are cut into slices as
the settings say (`volume_cache.py`), and `places` tells which slice of which volume each image is.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.data.scan import header_of
from brainvq.data.slicing import AS_IT_IS, Slicing
from brainvq.data.sources import Source
from brainvq.data.volume_cache import cut_all, plan
from brainvq.data.windows import LEVELS_8, LEVELS_16, fraction, window_of
from brainvq.errors import InputError

FORMAT = 1
BLOCK, BLOCKS = 1 << 20, 1024  # bytes checked: all of a file up to 1 GiB, a spread of 1 GiB beyond
STALE = 24 * 3600  # seconds after which an unfinished cache was left by a process that is gone
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Facts:
    """What a cache says of itself. `total` and `squares` are sums of the stored levels and their squares."""

    format: int
    shape: tuple[int, int, int]
    levels: int
    total: int
    squares: int
    checksum: int


def cache_folder() -> Path:
    """$BRAINVQ_CACHE, or ~/.cache/brainvq."""
    return Path(os.environ.get("BRAINVQ_CACHE") or "~/.cache/brainvq").expanduser()


def make_cache_folder() -> Path:
    """The cache folder, made where it is missing: what lies in it is its owner's alone, as the scans may be."""
    folder = cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def refuse_inside(data: Path) -> None:
    """Raises InputError where the cache would lie inside the data: it would be data too."""
    if cache_folder().resolve().is_relative_to(data.resolve()):
        raise InputError(
            f"the cache {cache_folder()} would lie inside the data {data}. Set BRAINVQ_CACHE to another folder."
        )


@dataclass(frozen=True, eq=False)
class Images:
    """`array` (N, H, W) uint8 or uint16, mapped from the disk. `places` (N, 4) of volumes: volume, slice, and where the
    tile begins (top, left; below zero it is padded); None where each image is a file."""

    array: NDArray[Any]
    facts: Facts
    places: NDArray[np.int32] | None


def open_images(source: Source, slicing: Slicing = AS_IT_IS, progress: Progress | None = None) -> Images:
    """From the cache, which is built, or rebuilt if damaged, where needed.

    `progress` is called with images (or volumes) done and in all.
    """
    refuse_inside(Path(source.root))
    folder = cache_folder() / "slices"
    cut = "-" + hashlib.sha256(repr(slicing).encode()).hexdigest()[:8] if source.volumes else ""
    target = folder / f"{source.fingerprint[:40]}{cut}-{FORMAT}"
    facts = _check(target)
    if facts is None or (source.volumes and _places(target, facts) is None):
        _discard(target)
        try:
            make_cache_folder()
            facts = _build(source, slicing, target, progress or (lambda done, total: None))
        except OSError as error:
            raise InputError(
                f"{folder}: the cache cannot be written ({error}). Free space, or set BRAINVQ_CACHE."
            ) from error
    # mode "c": writable in memory alone, which is what torch asks of an array that it shares
    places = _places(target, facts) if source.volumes else None
    return Images(np.load(target / "images.npy", mmap_mode="c", allow_pickle=False), facts, places)


def _build(source: Source, slicing: Slicing, target: Path, progress: Progress) -> Facts:
    if source.volumes:
        parts = cut_all(source, slicing, target.parent.parent / "volumes", progress)
        whole = plan(parts, slicing)
        facts = _store(target, whole.images(), len(whole.places), whole.size, whole.levels, places=whole.places)
        for part in parts:
            part.path.unlink(missing_ok=True)
        return facts
    size, levels = _common_header(source)
    return _store(target, _files(source, size, levels, progress), len(source), size, levels)


def _store(
    target: Path,
    images: Iterable[NDArray[Any]],
    count: int,
    size: tuple[int, int],
    levels: int,
    places: NDArray[np.int32] | None = None,
) -> Facts:
    """`count` images as one array at `target`, which comes to be when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    building = target.parent / f"building-{secrets.token_hex(8)}"
    building.mkdir()
    try:
        total, squares = _write_images(images, building / "images.npy", count, size, levels)
        if places is not None:
            np.save(building / "places.npy", places)
        facts = Facts(FORMAT, (count, *size), levels, total, squares, _checksum(building / "images.npy"))
        (building / "facts.json").write_text(json.dumps(asdict(facts)))
        _publish(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return facts


def _common_header(source: Source) -> tuple[tuple[int, int], int]:
    """The one size of all images, and the levels that hold them all."""
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(lambda item: header_of(item.path), source.items))
    first = headers[0].shape
    for item, header in zip(source.items, headers, strict=True):
        if header.shape != first:
            raise InputError(
                f"pictures of mixed sizes: {source.items[0].path} is {_size(first)}, {item.path} is "
                f"{_size(header.shape)}. "
                "Crop, pad or resample them to one size, or keep one size a folder."
            )
    height, width = first
    return (height, width), LEVELS_8 if all(header.dtype == "uint8" for header in headers) else LEVELS_16


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in reversed(shape)) + " pixels"


def _write_images(
    images: Iterable[NDArray[Any]], path: Path, count: int, size: tuple[int, int], levels: int
) -> tuple[int, int]:
    dtype = np.dtype(np.uint8 if levels == LEVELS_8 else np.uint16)
    histogram = np.zeros(levels + 1, dtype=np.int64)
    with path.open("wb") as file:  # written, not mapped: a full disk is an error here, and a crash there
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count, *size)}
        np.lib.format.write_array_header_2_0(file, header)
        for image in images:
            file.write(image.astype(dtype, copy=False).tobytes())
            histogram += np.bincount(image.ravel(), minlength=levels + 1)
        file.flush()
        os.fsync(file.fileno())
    counts = [int(count) for count in histogram]
    return sum(v * n for v, n in enumerate(counts)), sum(v * v * n for v, n in enumerate(counts))


def _files(source: Source, size: tuple[int, int], levels: int, progress: Progress) -> Iterator[NDArray[Any]]:
    """A slice of each file."""
    for done, image in enumerate(_decoded(source, levels), start=1):
        if image.shape != size:
            raise InputError(f"{source.items[done - 1].path}: changed while it was read. Try again.")
        yield image
        progress(done, len(source))


def _decoded(source: Source, levels: int, ahead: int = 256) -> Iterator[NDArray[Any]]:
    """Images as levels, decoded by threads (Pillow lets others run meanwhile), at most `ahead` held."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(source), ahead):
            indices = range(start, min(start + ahead, len(source)))
            yield from pool.map(lambda index: to_levels(source[index].voxels, levels), indices)


def to_levels(voxels: NDArray[Any], levels: int) -> NDArray[Any]:
    """Integers 0..levels: 8-bit values themselves, or the position in the scan's window."""
    if levels == LEVELS_8:
        return voxels
    return np.rint(fraction(voxels, window_of(voxels)) * levels).astype(np.uint16)


def _publish(building: Path, target: Path) -> None:
    """Rename; where another process was first, and its cache is sound, ours is dropped."""
    try:
        building.rename(target)
    except OSError:
        if _check(target) is None:
            raise


def _discard(target: Path) -> None:
    """Take a damaged cache out of the way. Renamed first: another process may be doing the same, or have it mapped."""
    damaged = target.parent / f"building-{secrets.token_hex(8)}"
    with suppress(OSError):
        target.rename(damaged)
    shutil.rmtree(damaged, ignore_errors=True)


def _check(target: Path) -> Facts | None:
    """The facts of a sound cache; None where there is none, or it is cut short or altered."""
    images = target / "images.npy"
    try:
        values = json.loads((target / "facts.json").read_text())
        facts = Facts(**{**values, "shape": tuple(values["shape"])})
        array = np.load(images, mmap_mode="r", allow_pickle=False)
        sound = facts.format == FORMAT and array.shape == facts.shape and _checksum(images) == facts.checksum
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return facts if sound else None


def _places(target: Path, facts: Facts) -> NDArray[np.int32] | None:
    """Which slice of which volume each image is; None where that is damaged."""
    try:
        places = np.load(target / "places.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return places if places.shape == (facts.shape[0], 4) and places.dtype == np.int32 else None


def _checksum(path: Path) -> int:
    """CRC-32 of the size and of evenly spread blocks, the header's always among them."""
    size = path.stat().st_size
    count = -(-size // BLOCK)
    value = zlib.crc32(str(size).encode())
    with path.open("rb") as file:
        for block in range(count) if count <= BLOCKS else (n * count // BLOCKS for n in range(BLOCKS)):
            file.seek(block * BLOCK)
            value = zlib.crc32(file.read(BLOCK), value)
    return value


def _sweep(folder: Path) -> None:
    for old in folder.glob("building-*"):
        if time.time() - old.stat().st_mtime > STALE:
            shutil.rmtree(old, ignore_errors=True)
