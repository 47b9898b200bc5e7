"""Label maps told by their pixels, for those that no name gives away.

A label map has few values and large areas of each; a nearly black slice may also have few values, but they are noise
that changes from pixel to pixel. One image is weak evidence, so images whose names differ only in numbers are judged
together, from a sample. A volume is strong evidence, of up to some hundred values, and may store them as real numbers.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.data.scan import PICTURES, read

MOST_VALUES = {2: 12, 3: 256}  # of a slice, of a volume
SAMPLED = {2: 12, 3: 2}  # images a group
INTERIOR = 0.5  # least share of the labelled pixels whose right and lower neighbours carry the same label


def label_maps(paths: Sequence[Path], files: Mapping[Path, tuple[Path, ...]] | None = None) -> set[Path]:
    """Those of `paths` that are label maps. Reads a sample of each group of alike names; series are none."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if path not in (files or {}):
            groups[re.sub(r"[0-9]+", "#", path.as_posix())].append(path)
    with ThreadPoolExecutor() as pool:
        verdicts = pool.map(_group_is_labels, groups.values())
        return {path for group, verdict in zip(groups.values(), verdicts, strict=True) if verdict for path in group}


def _group_is_labels(paths: list[Path]) -> bool:
    axes = 2 if paths[0].name.lower().endswith(PICTURES) else 3
    picks = np.unique(np.linspace(0, len(paths) - 1, SAMPLED[axes]).round().astype(int))
    values: set[float] = set()
    interior = labelled = 0
    for index in picks:
        voxels = read(paths[index]).voxels
        if voxels.dtype.kind == "f" and (axes == 2 or (voxels != np.rint(voxels)).any()):
            return False
        values.update(np.unique(voxels).tolist())
        if len(values) > MOST_VALUES[axes]:
            return False
        inside, count = _interior(voxels)
        interior, labelled = interior + inside, labelled + count
    return len(values) > 1 and labelled > 0 and interior >= INTERIOR * labelled


def _interior(voxels: NDArray[Any]) -> tuple[int, int]:
    """Pixels that are not background and equal their right and lower neighbour, and all that are not background; of a
    volume in each slice of the file."""
    centre = voxels[:-1, :-1]
    foreground = centre != voxels.min()
    same = (centre == voxels[:-1, 1:]) & (centre == voxels[1:, :-1])
    return int((foreground & same).sum()), int(foreground.sum())
