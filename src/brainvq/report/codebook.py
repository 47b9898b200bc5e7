"""What the entries of a codebook stand for, measured on images that a tokenizer has coded.

- The patch of an entry is the mean of the decoded pixels beneath the places where it stands. A decoder looks at
  neighbouring codes too, so no entry has one patch; `settled` tells how much of the pixels the means alone settle. On a
  finer level (residual quantization) the patch is what remains when the patches of all coarser levels are taken away.
- Where it is used: in which share of the images it stands at each place of the grid.
- Near entries have near vectors, by Euclidean distance between what the decoder gets for them. Vectors are asked of the
  quantizer's `decode`, all other levels held at entry 0, so that any quantizer has them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from einops import rearrange, reduce
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from brainvq.codes import Codes, CodeSpec
from brainvq.data.loader import Cache
from brainvq.evaluate import Reconstructs
from brainvq.head import head_mask
from brainvq.metrics.distortion import to_uint8
from brainvq.quantizers.base import Quantizer
from brainvq.tokenizers.base import Tokenizer

IMAGES, PIXELS = 96, 1 << 23  # at most so many are looked at
BATCH = 16
INSIDE, OUTSIDE, NEAR = 96, 24, 3  # entries shown in the head and outside of it, and neighbours of each
BLOCK = 1024  # rows of distances in memory at once
FLAT = 1e-6  # variance of pixels below which there is nothing to settle


class Explains(Reconstructs, Protocol):
    """A pipeline, whose tokenizer decodes codes that no image has."""

    @property
    def tokenizer(self) -> Tokenizer: ...


@dataclass(frozen=True, eq=False)
class Coded:
    """Images that lie evenly over a split, with their padding, on the CPU.

    `indices` (N,) in the cache; `codes`, each level (N, *grid); `pixels` (N, H, W), decoded, in grey levels 0..255;
    `head` (N, H, W), found in the originals.
    """

    indices: NDArray[np.int64]
    codes: Codes
    pixels: Tensor
    head: Tensor


@dataclass(frozen=True, eq=False)
class Level:
    """One codebook of K entries, as N images use it.

    Args:
        counts: (K,) how often each entry was used.
        inside: (K,) share of its places that are in the head, 0 where it is not used.
        patches: (K, h, w) in grey levels, 0 where an entry is not used.
        settled: share of the variance of decoded pixels that the patches of this and all coarser levels settle; None
            where all pixels are alike.
        shown: (S,) the entries used most, those in the head first, each group from most used to least.
        maps: (S, *grid) share of the images in which an entry stands at each place.
        near: (S, at most 3) the nearest used entries, nearest first.
        nearest, farthest: (K,) of each used entry, among the used; itself where there is no other.
        alike: rank correlation, over pairs of shown entries, between distance of vectors and difference of patches;
            None for fewer than three entries, or where all distances are one.
    """

    counts: Tensor
    inside: Tensor
    patches: Tensor
    settled: float | None
    shown: Tensor
    maps: Tensor
    near: Tensor
    nearest: Tensor
    farthest: Tensor
    alike: float | None


def look(pipeline: Reconstructs, cache: Cache) -> Coded:
    """Take images of a split, evenly spaced, through the codes and back."""
    total = len(cache.images)
    wanted = min(total, IMAGES, max(1, PIXELS // (cache.size[0] * cache.size[1])))
    indices = np.linspace(0, total - 1, wanted).round().astype(np.int64)
    codes: list[Codes] = []
    pixels: list[Tensor] = []
    heads: list[Tensor] = []
    for start in range(0, wanted, BATCH):
        x = cache.batch(indices[start : start + BATCH].tolist())
        x_hat, code = pipeline.reconstruct_batch(x)
        codes.append(tuple(level.cpu() for level in code))
        pixels.append(grey(x_hat))
        heads.append(torch.from_numpy(head_mask(to_uint8(x)[:, 0].to(torch.uint8).cpu().numpy())))
    levels = tuple(torch.cat(level) for level in zip(*codes, strict=True))
    return Coded(indices, levels, torch.cat(pixels), torch.cat(heads))


def grey(x: Tensor) -> Tensor:
    """x (B, 1, H, W) in [-1, 1] -> grey levels (B, H, W) on the CPU, clipped as a saved image but not rounded."""
    return ((x[:, 0].float().clamp(-1, 1) + 1) * 127.5).cpu()


def levels(coded: Coded, quantizer: Quantizer, spec: CodeSpec) -> list[Level]:
    found = []
    rest, variance = coded.pixels, float(coded.pixels.var(correction=0))
    for index, code in enumerate(coded.codes):
        patches, rest = _patches(rest, code, spec.entries[index], spec.strides[index])
        settled = 1 - float(rest.square().mean()) / variance if variance > FLAT else None
        inside = in_head(coded.head, spec.strides[index])
        found.append(_level(code, inside, patches, settled, vectors(quantizer, spec, index)))
    return found


def in_head(head: Tensor, stride: tuple[int, ...]) -> Tensor:
    """(N, H, W) -> (N, *grid): over half of the pixels beneath a code are in the head."""
    return reduce(head.float(), "n (y h) (x w) -> n y x", "mean", h=stride[0], w=stride[1]) > 0.5


@torch.inference_mode()
def vectors(quantizer: Quantizer, spec: CodeSpec, level: int) -> Tensor:
    """What the decoder gets for each entry of a level (K, D), but for a constant that the other levels add."""
    tensors = itertools.chain(quantizer.parameters(), quantizer.buffers())  # FSQ has no others than unsaved ones
    device = next(tensors, torch.zeros(())).device
    every = torch.arange(spec.entries[level], device=device)
    codes = tuple(
        (every if i == level else torch.zeros_like(every))[:, None, None].repeat(1, *grid)
        for i, grid in enumerate(spec.grids(spec.multiple))
    )
    return reduce(quantizer.decode(codes).float(), "k d y x -> k d", "mean").cpu()


def _patches(pixels: Tensor, code: Tensor, entries: int, stride: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean patch of each entry (K, h, w), and the pixels (N, H, W) without the patch of their entry."""
    h, w = stride
    cells = rearrange(pixels, "n (y h) (x w) -> (n y x) (h w)", h=h, w=w)
    index = code.flatten()
    sums = torch.zeros(entries, h * w, dtype=torch.float64).index_add_(0, index, cells.double())
    means = (sums / torch.bincount(index, minlength=entries).clamp_min(1)[:, None]).float()
    rest = rearrange(cells - means[index], "(n y x) (h w) -> n (y h) (x w)", y=code.shape[1], x=code.shape[2], h=h)
    return means.reshape(-1, h, w), rest


def _level(code: Tensor, inside: Tensor, patches: Tensor, settled: float | None, points: Tensor) -> Level:
    points = points - points.mean(0)  # distances are computed by products, where a common offset drowns differences
    counts = torch.bincount(code.flatten(), minlength=len(points))
    places_inside = torch.bincount(code[inside], minlength=len(points))
    share = places_inside / counts.clamp_min(1)
    used, shown = counts.nonzero().flatten(), _shown(counts, share)
    distances = torch.cdist(points[shown], points[used])
    distances[shown[:, None] == used] = torch.inf
    near = used[distances.argsort(dim=1, stable=True)[:, : min(NEAR, len(used) - 1)]]
    nearest, farthest = _ends(points, used)
    alike = _alike(torch.cdist(points[shown], points[shown]), patches[shown])
    maps = _maps(code, shown, len(points))
    return Level(counts, share, patches, settled, shown, maps, near, nearest, farthest, alike)


def _shown(counts: Tensor, inside: Tensor) -> Tensor:
    ranked = torch.argsort(counts, descending=True, stable=True)
    ranked = ranked[counts[ranked] > 0]
    return torch.cat([ranked[inside[ranked] > 0.5][:INSIDE], ranked[inside[ranked] <= 0.5][:OUTSIDE]])


def _ends(points: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest and the farthest used entry of each used one, (K,) each."""
    nearest, farthest = torch.arange(len(points)), torch.arange(len(points))
    for block in torch.split(used, BLOCK) if len(used) > 1 else ():
        distances = torch.cdist(points[block], points[used])
        farthest[block] = used[distances.argmax(1)]
        distances[block[:, None] == used] = torch.inf
        nearest[block] = used[distances.argmin(1)]
    return nearest, farthest


def _maps(code: Tensor, shown: Tensor, entries: int) -> Tensor:
    """Share of the images in which each shown entry stands at each place, (S, *grid)."""
    images, *grid = code.shape
    places = code[0].numel()
    rank = torch.full((entries,), -1)
    rank[shown] = torch.arange(len(shown))
    cells = rank[code.flatten(1)] * places + torch.arange(places)
    counts = torch.bincount(cells[cells >= 0], minlength=len(shown) * places)
    return (counts.float() / images).reshape(len(shown), *grid)


def _alike(distances: Tensor, patches: Tensor) -> float | None:
    """Spearman's correlation between distances (S, S) and differences of patches (S, h, w), over pairs."""
    if len(patches) < 3:
        return None
    upper = np.triu_indices(len(patches), 1)
    both = [each.numpy()[upper] for each in (distances, torch.cdist(patches.flatten(1), patches.flatten(1)))]
    if any(np.ptp(each) == 0 for each in both):
        return None
    return float(spearmanr(*both).statistic)
