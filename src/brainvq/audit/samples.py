"""The images that are to be audited: a folder that `brainvq sample` wrote, or any folder of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.data.columns import SLICE
from brainvq.data.scan import PICTURES, read
from brainvq.data.windows import fraction, window_of
from brainvq.errors import InputError

MOST = 20_000  # images in memory at once


@dataclass(frozen=True, eq=False)
class Samples:
    """`images` (n, H, W) uint8 with their file names; `about`: what samples.json says, None without one; `heads`: one
    an image, which of them belong together."""

    images: NDArray[np.uint8]
    names: list[str]
    about: Mapping[str, Any] | None
    heads: list[str]


def read_samples(folder: Path) -> Samples:
    """All images of `folder`, in the order of their names.

    Raises:
        InputError: no folder, no images, images of mixed sizes, or one that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Give one that `brainvq sample` wrote, or a folder of images.")
    about = _about(folder)
    paths = _listed(folder, about) if about else _pictures(folder)
    if not paths:
        raise InputError(f"{folder}: holds no images ({', '.join(PICTURES)}) to audit.")
    if len(paths) > MOST:
        raise InputError(f"{folder}: holds {len(paths):,} images; at most {MOST:,} are audited at once.")
    found = [_eight_bit(path) for path in paths]
    for image, path in zip(found, paths, strict=True):
        if image.shape != found[0].shape:
            raise InputError(
                f"{path} is {_size(image)} pixels, and {paths[0]} is {_size(found[0])}. Give images of one size."
            )
    return Samples(np.stack(found), [path.name for path in paths], about, _heads(about, len(paths)))


def _about(folder: Path) -> dict[str, Any] | None:
    path = folder / "samples.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_bytes())
        if isinstance(values["tokenizer"]["weights_sha256"], str) and isinstance(values["files"]["images"], list):
            return dict(values)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise InputError(f"{path} is damaged. Draw the samples again with `brainvq sample ... --force`.")


def _listed(folder: Path, about: Mapping[str, Any]) -> list[Path]:
    """Only what samples.json lists is whole."""
    paths = [folder / "images" / Path(str(name)).name for name in about["files"]["images"]]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"{missing[0]} is missing ({len(missing)} such files). Draw the samples again with --force.")
    return paths


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in PICTURES)


def _eight_bit(path: Path) -> NDArray[np.uint8]:
    """(H, W); of any other depth by its window, for brightness does not count."""
    voxels = read(path).voxels
    if voxels.dtype == np.uint8:
        return np.asarray(voxels, np.uint8)
    return np.rint(fraction(voxels, window_of(voxels)) * 255).astype(np.uint8)


def _heads(about: Mapping[str, Any] | None, count: int) -> list[str]:
    """Samples are draws of their own, but the slices of a head belong together: each begins with the same slice."""
    told = about.get("told") if about is not None and about.get("heads") else None
    if not isinstance(told, list) or len(told) != count:
        return [str(n) for n in range(count)]
    starts = np.cumsum([one.get(SLICE) == told[0].get(SLICE) for one in told])
    return [str(start) for start in starts]


def _size(image: NDArray[Any]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
