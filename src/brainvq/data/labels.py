"""Label maps told by their pixels, for those that no name gives away.

A label map has few values and large areas of each; a nearly black slice may also have few values, but they are noise
that changes from pixel to pixel. One image is weak evidence, so images whose names differ only in numbers are judged
together, from a sample. A volume is strong evidence, of up to some hundred values, and may store them as real numbers.
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

MOST_VALUES = {2: 12, 3: 256}  # of a slice, of a volume
SAMPLED = {2: 12, 3: 2}  # images a group
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
    values = np.unique(voxels)
    return Evidence(tuple(values.tolist()) if len(values) <= most else None, *_interior(voxels))


def label_maps(
    paths: Sequence[Path],
    files: Mapping[Path, tuple[Path, ...]] | None = None,
    known: Mapping[Path, Evidence] | None = None,
) -> set[Path]:
    """Those of `paths` that are label maps; series are none. Reads a sample of each group of alike names, but for those
    of which the evidence is `known`."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if path not in (files or {}):
            groups[re.sub(r"[0-9]+", "#", path.as_posix())].append(path)
    with ThreadPoolExecutor() as pool:
        verdicts = pool.map(lambda group: _group_is_labels(group, known or {}), groups.values())
        return {path for group, verdict in zip(groups.values(), verdicts, strict=True) if verdict for path in group}


def _group_is_labels(paths: list[Path], known: Mapping[Path, Evidence]) -> bool:
    axes = 2 if paths[0].name.lower().endswith(PICTURES) else 3
    picks = np.unique(np.linspace(0, len(paths) - 1, SAMPLED[axes]).round().astype(int))
    values: set[float] = set()
    interior = labelled = 0
    for path in (paths[index] for index in picks):
        seen = known.get(path) or evidence(read(path).voxels)
        if seen.values is None:
            return False
        values.update(seen.values)
        if len(values) > MOST_VALUES[axes]:
            return False
        interior, labelled = interior + seen.interior, labelled + seen.labelled
    return Evidence(tuple(values), interior, labelled).of_labels


def _interior(voxels: NDArray[Any]) -> tuple[int, int]:
    """Pixels that are not background and equal their right and lower neighbour, and all that are not background; of a
    volume in each slice of the file."""
    centre = voxels[:-1, :-1]
    foreground = centre != voxels.min()
    same = (centre == voxels[:-1, 1:]) & (centre == voxels[1:, :-1])
    return int((foreground & same).sum()), int(foreground.sum())
