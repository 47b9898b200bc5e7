"""Label maps told by their pixels, for those that no name gives away.

A label map has few values and large areas of each; a nearly black slice may also have few values, but they are noise
that changes from pixel to pixel. One image is weak evidence, so images whose names differ only in numbers are judged
together, from a sample. A volume is strong evidence and judged by itself; it may store its labels as real numbers, up
to some dozens of them: FreeSurfer's aseg has about 45. Atlases of more are known by their names alone, for an 8-bit
scan that was made larger by repeating voxels has large areas too.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.data.scan import PICTURES, read
from brainvq.errors import InputError

MOST_VALUES = {2: 12, 3: 64}  # of a slice, of a volume
SAMPLED = 12  # slices a group
INTERIOR = 0.5  # least share of the labelled pixels whose right and lower neighbours carry the same label


@dataclass(frozen=True)
class Evidence:
    """Of one image. `values`: all that it holds, None where they are too many, or real numbers, for labels; `labelled`:
    pixels that are not background, `interior`: those of them that equal their right and lower neighbour."""

    values: tuple[float, ...] | None
    interior: int
    labelled: int

    @property
    def of_labels(self) -> bool:
        """Whether this image, by itself, looks like a label map."""
        values = self.values or ()
        return len(values) > 1 and self.labelled > 0 and self.interior >= INTERIOR * self.labelled


def evidence(voxels: NDArray[Any]) -> Evidence:
    """What a slice or a volume says of itself."""
    most, real = MOST_VALUES[voxels.ndim], voxels.dtype.kind == "f"
    some = voxels[(slice(None, None, 4),) * voxels.ndim]  # enough to tell most scans, without sorting all of them
    if (real and voxels.ndim == 2) or len(np.unique(some)) > most or (real and (voxels != np.rint(voxels)).any()):
        return Evidence(None, 0, 0)
    values, counts = np.unique(voxels, return_counts=True)
    background = values[counts.argmax()]
    return Evidence(tuple(values.tolist()) if len(values) <= most else None, *_interior(voxels, background))


def label_maps(
    paths: Sequence[Path],
    files: Mapping[Path, tuple[Path, ...]] | None = None,
    known: Mapping[Path, Evidence] | None = None,
) -> set[Path]:
    """Those of `paths` that are label maps; series are none, nor what cannot be read. Reads every volume, and a sample
    of each group of slices of alike names, but for those of which the evidence is `known`."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if path not in (files or {}):
            groups[re.sub(r"[0-9]+", "#", path.as_posix())].append(path)
    asked = [path for group in groups.values() for path in _sample(group)]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda path: (known or {}).get(path) or _evidence_of(path), asked)
        seen = dict(zip(asked, found, strict=True))
    return {path for group in groups.values() for path in _labels_among(group, seen)}


def _is_slice(path: Path) -> bool:
    return path.name.lower().endswith(PICTURES)


def _sample(paths: list[Path]) -> list[Path]:
    """Of a group."""
    if not _is_slice(paths[0]):
        return paths
    return [paths[n] for n in np.unique(np.linspace(0, len(paths) - 1, SAMPLED).round().astype(int))]


def _evidence_of(path: Path) -> Evidence:
    try:
        return evidence(read(path).voxels)
    except InputError:  # whoever reads it for its own sake tells
        return Evidence(None, 0, 0)


def _labels_among(paths: list[Path], seen: Mapping[Path, Evidence]) -> list[Path]:
    """Those of a group that are label maps: of slices all or none; a volume of one value goes with the others."""
    if _is_slice(paths[0]):
        return paths if _together([seen[path] for path in _sample(paths)]).of_labels else []
    found = [path for path in paths if seen[path].of_labels]
    return [path for path in paths if seen[path].of_labels or (found and len(seen[path].values or ()) == 1)]


def _together(sample: list[Evidence]) -> Evidence:
    """As if these were one image."""
    values = {value for one in sample for value in one.values or ()}
    if len(values) > MOST_VALUES[2] or any(one.values is None for one in sample):
        return Evidence(None, 0, 0)
    return Evidence(tuple(values), sum(one.interior for one in sample), sum(one.labelled for one in sample))


def _interior(voxels: NDArray[Any], background: Any) -> tuple[int, int]:
    """Pixels that are not background and equal their right and lower neighbour, and all that are not background; of a
    volume in each slice of the file."""
    centre = voxels[:-1, :-1]
    foreground = centre != background
    same = (centre == voxels[:-1, 1:]) & (centre == voxels[1:, :-1])
    return int((foreground & same).sum()), int(foreground.sum())
