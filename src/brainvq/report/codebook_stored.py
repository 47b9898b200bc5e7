"""What an evaluation keeps of its codebook for the report: numbers in examples.json, patches and maps as pictures.

Of each level `l`: codebook_l_patches.png, a mosaic of patches, in grey levels on the first level and around 128 on a
finer one; codebook_l_maps.png, a mosaic of the mean decoded image, a pixel for each cell of a map, and of the use maps,
each scaled to its own highest share; and where codes were swapped, codebook_l_before.png, codebook_l_near.png and
codebook_l_far.png.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from einops import rearrange, reduce
from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from brainvq.codes import CodeSpec
from brainvq.data.loader import Cache
from brainvq.errors import InputError
from brainvq.quantizers.base import Quantizer
from brainvq.report.codebook import NEAR, Coded, Explains, Level, levels, look
from brainvq.report.kept import FILE, Pixels, load_picture
from brainvq.report.pictures import COLUMNS, mosaic
from brainvq.report.swaps import Reach, Swaps, swap

MIDDLE = 128  # of the patches of a finer level, which add to the coarser ones
SIDE = 32  # use maps are at most so many cells wide and high
TOLD = 160  # rings that are kept
SMALLEST = 8  # pixels that a picture must have along each edge to be read again
FACTOR = 255  # a share of 1 as a pixel

Share = Annotated[float, Field(ge=0, le=1)]


class Shown(BaseModel):
    """`share` of all codes of the level, `inside`: of its places that are in the head, `peak`: highest of its map."""

    entry: NonNegativeInt
    share: Share
    inside: Share
    peak: Share
    near: list[NonNegativeInt] = Field(max_length=NEAR)


class Reached(BaseModel):
    """As `swaps.Reach`."""

    rings: list[float] = Field(min_length=1)
    own: float
    share: float
    within: NonNegativeInt
    offset: tuple[float, float]


class Swapped(BaseModel):
    """As `swaps.Swaps`; `slice` counts from 1 among those of the subject."""

    count: PositiveInt
    subject: str
    slice: PositiveInt
    row: NonNegativeInt
    column: NonNegativeInt
    entry: int
    near_entry: int
    far_entry: int
    near: Reached
    far: Reached


class StoredLevel(BaseModel):
    """`patches`: the entries of codebook_l_patches.png, in its order; `cells`: of a use map; `outside`: used entries
    that stand mostly outside of the head, and the share of all codes that they take. The rest as in `codebook.Level`.
    """

    entries: PositiveInt
    stride: list[PositiveInt] = Field(min_length=2, max_length=2)
    used: PositiveInt
    outside: NonNegativeInt
    outside_share: Share
    settled: float | None
    alike: float | None
    shown: list[Shown] = Field(min_length=1)
    patches: list[NonNegativeInt]
    cells: list[PositiveInt] = Field(min_length=2, max_length=2)
    swapped: Swapped | None


class StoredCodebook(BaseModel):
    images: PositiveInt
    levels: list[StoredLevel] = Field(min_length=1)


@dataclass(frozen=True, eq=False)
class KeptLevel:
    """`patches`: by entry (h, w); `maps`: of `about.shown`, (S, y, x), each 255 at its peak; `mean`: the mean decoded
    image (y, x); `swapped`: before, near, far (H, W)."""

    about: StoredLevel
    patches: dict[int, Pixels]
    maps: Pixels
    mean: Pixels
    swapped: tuple[Pixels, Pixels, Pixels] | None


@dataclass(frozen=True, eq=False)
class KeptCodebook:
    about: StoredCodebook
    levels: tuple[KeptLevel, ...]


def explain(pipeline: Explains, cache: Cache) -> tuple[StoredCodebook | None, dict[str, Pixels]]:
    """What is kept of a codebook, and the pictures by name; nothing of a tokenizer without vectors, or of volumes."""
    quantizer, spec = getattr(pipeline.tokenizer, "quantizer", None), pipeline.spec
    if not isinstance(quantizer, Quantizer) or spec.axes != 2:
        return None, {}
    coded = look(pipeline, cache)
    pictures: dict[str, Pixels] = {}
    stored = []
    for level, found in enumerate(levels(coded, quantizer, spec)):
        swaps = swap(pipeline.tokenizer, spec, coded, found, level)
        about = _about(found, swaps, coded, cache, spec, level)
        stored.append(about)
        pictures[f"codebook_{level}_patches"] = _sheet(found.patches[about.patches] + (MIDDLE if level else 0))
        maps = small(found.maps)
        maps = FACTOR * maps / maps.amax((1, 2), keepdim=True)
        pictures[f"codebook_{level}_maps"] = _sheet(torch.cat([_mean(coded, spec.strides[level]), maps]))
        for kind, image in () if swaps is None else _images(swaps):
            pictures[f"codebook_{level}_{kind}"] = _pixels(image)
    return StoredCodebook(images=len(coded.indices), levels=stored), pictures


def load_codebook(folder: Path, about: StoredCodebook) -> KeptCodebook:
    """Raises InputError where a picture is missing, damaged, or not of the size that is told."""
    return KeptCodebook(about, tuple(_load(folder, stored, level) for level, stored in enumerate(about.levels)))


def _mean(coded: Coded, stride: Sequence[int]) -> Tensor:
    """The mean decoded image in the cells of a use map, (1, y, x)."""
    h, w = stride
    return small(reduce(coded.pixels.mean(0), "(y h) (x w) -> 1 y x", "mean", h=h, w=w))


def small(maps: Tensor) -> Tensor:
    """(S, y, x) -> the same in at most 32 x 32 cells: means of blocks, with zeros where the last blocks reach out."""
    h, w = (-(-n // SIDE) for n in maps.shape[1:])
    padded = F.pad(maps, (0, -maps.shape[2] % w, 0, -maps.shape[1] % h))
    return reduce(padded, "s (y h) (x w) -> s y x", "mean", h=h, w=w)


def _about(found: Level, swaps: Swaps | None, coded: Coded, cache: Cache, spec: CodeSpec, level: int) -> StoredLevel:
    share, used = found.counts / found.counts.sum(), found.counts > 0
    outside = used & (found.inside <= 0.5)
    shown = [
        Shown(entry=k, share=float(share[k]), inside=float(found.inside[k]), peak=float(one.max()), near=near)
        for k, one, near in zip(found.shown.tolist(), found.maps, found.near.tolist(), strict=True)
    ]
    return StoredLevel(
        entries=spec.entries[level],
        stride=list(spec.strides[level]),
        used=int(used.sum()),
        outside=int(outside.sum()),
        outside_share=min(1.0, float(share[outside].sum())),
        settled=found.settled,
        alike=found.alike,
        shown=shown,
        patches=sorted({k for one in shown for k in (one.entry, *one.near)}),
        cells=list(small(found.maps).shape[1:]),
        swapped=None if swaps is None else _swapped(swaps, int(coded.indices[swaps.place.image]), cache),
    )


def _swapped(swaps: Swaps, index: int, cache: Cache) -> Swapped:
    return Swapped(
        count=swaps.count,
        subject=str(cache.subjects[index]),
        slice=1 + index - cache.subjects.index(cache.subjects[index]),
        row=swaps.place.row,
        column=swaps.place.column,
        entry=swaps.entry,
        near_entry=swaps.near_entry,
        far_entry=swaps.far_entry,
        near=_reached(swaps.near_reach),
        far=_reached(swaps.far_reach),
    )


def _reached(reach: Reach) -> Reached:
    rings = [round(float(ring), 4) for ring in reach.rings[:TOLD]]
    return Reached(rings=rings, own=reach.own, share=reach.share, within=reach.within, offset=reach.offset)


def _images(swaps: Swaps) -> Sequence[tuple[str, Tensor]]:
    return ("before", swaps.before), ("near", swaps.near), ("far", swaps.far)


def _pixels(grey: Tensor) -> Pixels:
    pixels: Pixels = np.clip(np.rint(grey.numpy()), 0, 255).astype(np.uint8)
    return pixels


def _sheet(tiles: Tensor) -> Pixels:
    """Tiles (N, h, w) as one picture that can be read again."""
    sheet = mosaic(_pixels(tiles))
    return np.pad(sheet, [(0, max(0, SMALLEST - n)) for n in sheet.shape])


def _tiles(path: Path, count: int, size: Sequence[int]) -> Pixels:
    """The first `count` tiles of a mosaic, (count, *size)."""
    (h, w), rows = size, -(-count // COLUMNS)
    sheet = load_picture(path)
    if sheet.shape != (max(SMALLEST, rows * h), max(SMALLEST, COLUMNS * w)):
        raise InputError(f"{path} does not hold {count} pictures of {h} x {w} as {FILE} tells.")
    tiles: Pixels = rearrange(sheet[: rows * h, : COLUMNS * w], "(y h) (x w) -> (y x) h w", h=h, w=w)
    return tiles[:count]


def _load(folder: Path, about: StoredLevel, level: int) -> KeptLevel:
    if any(k not in about.patches for one in about.shown for k in (one.entry, *one.near)):
        raise InputError(f"{folder / FILE}: entries are shown that have no patch.")
    patches = _tiles(folder / f"codebook_{level}_patches.png", len(about.patches), about.stride)
    mean, *maps = _tiles(folder / f"codebook_{level}_maps.png", 1 + len(about.shown), about.cells)
    swapped = None if about.swapped is None else _swap_pictures(folder, about.swapped, about.stride, level)
    return KeptLevel(about, dict(zip(about.patches, patches, strict=True)), np.stack(maps), mean, swapped)


def _swap_pictures(folder: Path, about: Swapped, stride: Sequence[int], level: int) -> tuple[Pixels, Pixels, Pixels]:
    before, near, far = (load_picture(folder / f"codebook_{level}_{kind}.png") for kind in ("before", "near", "far"))
    inside = all(
        (n + 1) * s <= side for n, s, side in zip((about.row, about.column), stride, before.shape, strict=True)
    )
    if not before.shape == near.shape == far.shape or not inside:
        raise InputError(f"{folder}: pictures of the swap on level {level + 1} do not fit together.")
    return before, near, far
