"""What one code does: a single code of an image is changed, the codes are decoded again, and the images compared.

Each is changed to the nearest used entry and to the farthest one, at places spread over the heads. How far the change
reaches is told by its mean over rings around the middle of the patch beneath the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainvq.codes import CodeSpec
from brainvq.report.codebook import BATCH, Coded, Level, grey, in_head
from brainvq.tokenizers.base import Tokenizer

SWAPS, LEAST = 32, 8  # over all levels together, and for each
REACHED = 0.95  # of the change
GOLDEN = 0.6180339887  # steps of this share spread over any length


@dataclass(frozen=True)
class Place:
    """One code of a level: of which of the coded images, at which row and column of its grid."""

    image: int
    row: int
    column: int


@dataclass(frozen=True, eq=False)
class Reach:
    """The change by one kind of swap, in grey levels, over all swaps of a level.

    `rings` (R,): mean change from 0 to 1, 1 to 2 ... pixels from the middle of the patch; `own`: mean over the patch
    itself; `share`: of all change that lies in the patch; `within`: the pixels within which 95 % of it lies; `offset`:
    rows and columns from there to the middle of the change.
    """

    rings: NDArray[np.float64]
    own: float
    share: float
    within: int
    offset: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Swaps:
    """Swaps of one level. `place` is the one whose change to the farthest entry is the median of all; `before`, `near`
    and `far` (H, W) its image in grey levels, and `entry`, `near_entry`, `far_entry` the codes there."""

    count: int
    place: Place
    entry: int
    near_entry: int
    far_entry: int
    before: Tensor
    near: Tensor
    far: Tensor
    near_reach: Reach
    far_reach: Reach


def swap(tokenizer: Tokenizer, spec: CodeSpec, coded: Coded, found: Level, level: int) -> Swaps | None:
    """None where the images use one entry only."""
    places = list(_places(coded, spec, level))
    old = torch.stack([coded.codes[level][p.image, p.row, p.column] for p in places])
    new = {"near": found.nearest[old], "far": found.farthest[old]}
    if bool((new["near"] == old).any()):
        return None
    before = torch.stack([coded.pixels[p.image] for p in places])
    after = {kind: _decoded(tokenizer, coded, level, places, entries) for kind, entries in new.items()}
    change = {kind: (pixels - before).abs() for kind, pixels in after.items()}
    total = change["far"].sum((1, 2))
    shown = int(torch.argsort(total, stable=True)[(len(total) - 1) // 2])
    stride = spec.strides[level]
    return Swaps(
        count=len(places),
        place=places[shown],
        entry=int(old[shown]),
        near_entry=int(new["near"][shown]),
        far_entry=int(new["far"][shown]),
        before=before[shown],
        near=after["near"][shown],
        far=after["far"][shown],
        near_reach=_reach(change["near"], places, stride),
        far_reach=_reach(change["far"], places, stride),
    )


def _places(coded: Coded, spec: CodeSpec, level: int) -> Iterator[Place]:
    """One in the head of each of some images; anywhere in an image without a head."""
    inside = in_head(coded.head, spec.strides[level])
    count = min(len(inside), max(LEAST, SWAPS // len(spec.entries)))
    for n, image in enumerate(np.linspace(0, len(inside) - 1, count).round().astype(int).tolist()):
        rows, columns = (inside[image] if inside[image].any() else torch.ones_like(inside[image])).nonzero().T
        pick = int(len(rows) * ((n + 0.5) * GOLDEN % 1))
        yield Place(image, int(rows[pick]), int(columns[pick]))


@torch.inference_mode()
def _decoded(tokenizer: Tokenizer, coded: Coded, level: int, places: list[Place], entries: Tensor) -> Tensor:
    """The images with `entries[n]` at `places[n]`, (N, H, W) in grey levels."""
    device = tokenizer.device
    codes = [code[[place.image for place in places]] for code in coded.codes]
    for n, (place, entry) in enumerate(zip(places, entries, strict=True)):
        codes[level][n, place.row, place.column] = entry
    parts = zip(*(torch.split(code.to(device), BATCH) for code in codes), strict=True)
    return torch.cat([grey(tokenizer.decode(part)) for part in parts])


def _reach(change: Tensor, places: list[Place], stride: tuple[int, ...]) -> Reach:
    """`change` (N, H, W), each for the swap at its place."""
    h, w = stride
    height, width = change.shape[1:]
    rows, columns = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    sums, pixels, own = np.zeros(height + width), np.zeros(height + width), 0.0
    offset = np.zeros(2)
    for part, place in zip(change, places, strict=True):
        y, x = place.row * h, place.column * w
        down, right = rows - (y + h / 2), columns - (x + w / 2)
        rings = torch.hypot(down, right).floor().long().flatten()
        offset += float((part * down).sum()), float((part * right).sum())
        sums += torch.bincount(rings, weights=part.flatten().double(), minlength=len(sums)).numpy()
        pixels += torch.bincount(rings, minlength=len(sums)).numpy()
        own += float(part[y : y + h, x : x + w].double().sum())
    total = sums.sum()
    last = int(np.flatnonzero(pixels)[-1])
    return Reach(
        rings=(sums / np.maximum(pixels, 1))[: last + 1],
        own=own / (len(places) * h * w),
        share=own / total if total else 1.0,
        within=1 + int(np.searchsorted(np.cumsum(sums), REACHED * total)) if total else 0,
        offset=(float(offset[0] / total), float(offset[1] / total)) if total else (0.0, 0.0),
    )
