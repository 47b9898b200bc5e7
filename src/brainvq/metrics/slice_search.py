"""Which training slice an image comes nearest to, and how much nearer than to other subjects: the score of the audit.

A copy is nearer to one person than to everybody else; a new head is about as near to several. So the score is the
similarity to the nearest slice, less that to other subjects near by: the median of the next seven, for if two of the
folders are of one person, one must not hide the other. It needs no slice position, and what makes all similarities
high or low, such as the blur of a tokenizer, nearly cancels.

Similarity is that of detail, not of grey levels: differences of Gaussians, divided by their local strength, so that
brightness, contrast and slow shading do not count. Two stages. First a product of small images finds the nearest
slices of the nearest subjects: under shifts by a 64th of the side (4 pixels of 256), and mirrored along either axis,
both or none, since which axis is left and right is not known here. Then, more finely, each window of an image may move
a little further by itself before it is correlated, so that a smooth warp does not hide a copy. Windows are averaged by
the detail that the training slice has in them.

Sources: the ratio of the nearest to the next of other objects, D. Lowe, "Distinctive image features from
scale-invariant keypoints", 2004; samples against their nearest neighbours, N. Carlini et al., "Extracting training data
from diffusion models", 2023. We differ in that neighbours are other subjects, never other slices of the same, and in
that similarities are subtracted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from brainvq.errors import InputError, counted
from brainvq.metrics.generation import Images, Indices

COARSE, FINE = 64, 128  # pixels of the longer side
INNER, OUTER = 0.7, 3.0  # sigmas of the two Gaussians, in such pixels
FAINT = 0.08  # of an image's standard deviation: detail below it counts less
SUBJECTS, SLICES = 8, 2  # the nearest subjects, and slices of each, that are compared closely
REACH = 3  # pixels of the fine image that a window may move
SHIFTS = tuple(product((-1, 0, 1), repeat=2))  # pixels of the coarse image, down and right
VIEWS = list(product(((), (1,), (2,), (1, 2)), SHIFTS))  # axes that are mirrored, and a shift
AT_ONCE, POOL_AT_ONCE = 64, 1024
KEPT = 8192  # training slices at the fine size, 32 kB each

Advance = Callable[[int], object]
"""Told of each few images that are done: their number."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """For each of n images: the nearest training slice, int64 (n,), whether one of the two had to be mirrored, the
    similarity, at most 1, and the score, both float64 (n,). High scores are suspicious."""

    index: Indices
    mirrored: NDArray[np.bool_]
    similarity: NDArray[np.float64]
    score: NDArray[np.float64]


class TrainingSlices:
    """Training slices, made ready to be compared with: 8 kB each, the images themselves stay where they are.

    Args:
        images: (N, H, W) uint8, or what gives such an array for an array of indices.
        subjects: one an image.

    Raises:
        InputError: fewer than two subjects, so that nobody else is near.
    """

    def __init__(self, images: Images, subjects: Sequence[str], *, advance: Advance = lambda n: None) -> None:
        _, self.subject = np.unique(np.array(subjects, dtype=str), return_inverse=True)
        count = int(self.subject.max(initial=-1)) + 1
        if count < 2:
            raise InputError(f"the training slices are of {counted(count, 'subject')}; who is near needs two at least")
        self.images = images
        self.members = [np.flatnonzero(self.subject == each) for each in range(count)]
        self.thumbs = self._thumbs(advance)
        self.kept: dict[int, Tensor] = {}

    def _thumbs(self, advance: Advance) -> Tensor:
        found = []
        for start in range(0, len(self.images), AT_ONCE):
            part = np.arange(start, min(start + AT_ONCE, len(self.images)))
            found.append(_unit(detail(_levels(self.images, part), COARSE)).half())
            advance(len(part))
        return torch.cat(found)

    def nearest(self, images: Images, *, advance: Advance = lambda n: None) -> Nearest:
        """Of images (n, H, W) uint8 of the same size.

        Raises:
            InputError: another size.
        """
        found: list[tuple[int, bool, float, float]] = []
        for start in range(0, len(images), AT_ONCE):
            part = np.arange(start, min(start + AT_ONCE, len(images)))
            x = _levels(images, part)
            self._check(x)
            small, large = detail(x, COARSE), detail(x, FINE)
            scale = round(large.shape[1] / small.shape[1])
            for image, correlation, view in zip(large, *self._coarse(small), strict=True):
                found.append(self._closely(image, scale, correlation.numpy(), view.numpy()))
                advance(1)
        index, mirrored, similarity, score = zip(*found, strict=True) if found else ((), (), (), ())
        return Nearest(
            np.array(index, np.int64), np.array(mirrored, bool), np.array(similarity, float), np.array(score, float)
        )

    def _check(self, x: Tensor) -> None:
        size = _levels(self.images, np.array([0])).shape[1:]
        if x.shape[1:] != size:
            given, expected = (f"{side[0]} x {side[1]}" for side in (x.shape[1:], size))
            raise InputError(f"images of {given} pixels cannot be compared with training slices of {expected}")

    def _coarse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y (n, h, w) -> the best correlation with each training slice over all views, and which view, (n, N)."""
        views = torch.cat([_unit(_view(y, number)) for number in range(len(VIEWS))])
        best, which = torch.empty(len(y), len(self.thumbs)), torch.empty(len(y), len(self.thumbs), dtype=torch.int64)
        for start in range(0, len(self.thumbs), POOL_AT_ONCE):
            part = slice(start, start + POOL_AT_ONCE)
            each = views @ self.thumbs[part].float().T
            best[:, part], which[:, part] = each.view(len(VIEWS), len(y), -1).max(dim=0)
        return best, which

    def _closely(
        self, image: Tensor, scale: int, correlation: NDArray[np.float32], view: Indices
    ) -> tuple[int, bool, float, float]:
        """The nearest slice, whether mirrored, its similarity and the score of one image (h, w), which is `scale` times
        as large as the small one."""
        candidates = self._candidates(correlation)
        mine = torch.cat([_view(image[None], int(number), scale) for number in view[candidates]])
        similarity = local_similarity(mine, self._detail(candidates)).double().numpy()
        best = int(similarity.argmax())
        own = self.subject[candidates]
        others = [similarity[own == each].max() for each in np.unique(own) if each != own[best]]
        chosen = int(candidates[best])
        score = float(similarity[best] - np.median(others))
        return chosen, bool(VIEWS[view[chosen]][0]), float(similarity[best]), score

    def _detail(self, indices: Indices) -> Tensor:
        """Of training slices at the fine size, (n, h, w); those that were asked for last are kept."""
        missing = [i for i in indices.tolist() if i not in self.kept]
        for i, y in zip(missing, detail(_levels(self.images, np.array(missing)), FINE) if missing else (), strict=True):
            self.kept[i] = y.half()
        found = torch.stack([self.kept[i] for i in indices.tolist()]).float()
        while len(self.kept) > KEPT:
            del self.kept[next(iter(self.kept))]
        return found

    def _candidates(self, correlation: NDArray[np.float32]) -> Indices:
        """The nearest slices of the nearest subjects."""
        each = np.array([correlation[own].max() for own in self.members])
        nearest = [self.members[n] for n in np.argsort(-each, kind="stable")[:SUBJECTS]]
        return np.concatenate([own[np.argsort(-correlation[own], kind="stable")[:SLICES]] for own in nearest])


def detail(x: Tensor, side: int) -> Tensor:
    """x (B, H, W) -> differences of Gaussians by their local strength, (B, h, w), the longer at most `side`. Zero where
    nothing is, and in an image of one grey level."""
    longest = max(x.shape[1:])
    if longest > side:
        height, width = (max(1, round(n * side / longest)) for n in x.shape[1:])
        x = F.adaptive_avg_pool2d(x[:, None], (height, width))[:, 0]
    spread = x.std(dim=(1, 2), keepdim=True, correction=0)
    x = (x - x.mean(dim=(1, 2), keepdim=True)) / spread.where(spread > 1e-3, torch.inf)
    band = _blurred(x, INNER) - _blurred(x, OUTER)
    strength = _blurred(band.square(), OUTER).clamp(min=0).sqrt()
    return band / (strength + FAINT)


def local_similarity(mine: Tensor, theirs: Tensor) -> Tensor:
    """(B, h, w) of `detail` each -> (B,): the correlation of windows, each at its best place, averaged by the detail of
    `theirs` in them."""
    height, width = mine.shape[1:]
    half = max(1, min(FINE, max(height, width)) // 16)
    wanted = _windows(theirs.square(), half)
    padded = F.pad(mine, (REACH,) * 4)
    strength = _everywhere(padded.square(), half)
    best = torch.full_like(wanted, -1)
    for down in range(2 * REACH + 1):
        for right in range(2 * REACH + 1):
            found = _windows(padded[:, down : down + height, right : right + width] * theirs, half)
            there = strength[:, down::half, right::half][:, : found.shape[1], : found.shape[2]]
            best = torch.maximum(best, found / (wanted * there + 1e-6).sqrt())
    return (best * wanted).sum(dim=(1, 2)) / wanted.sum(dim=(1, 2)).clamp(min=1e-6)


def _windows(y: Tensor, half: int) -> Tensor:
    """Means over windows of twice `half` pixels a side that overlap by a half, (B, rows, columns)."""
    blocks = F.avg_pool2d(y[:, None], half)
    return F.avg_pool2d(blocks, 2, 1)[:, 0]


def _everywhere(y: Tensor, half: int) -> Tensor:
    """The same over the windows that begin at each pixel, by sums from the corner."""
    sums = F.pad(y.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    side = 2 * half
    above = sums[:, side:] - sums[:, :-side]
    return ((above[:, :, side:] - above[:, :, :-side]) / side**2).float()


def _view(y: Tensor, number: int, scale: int = 1) -> Tensor:
    """y (B, h, w) mirrored and shifted."""
    mirror, (down, right) = VIEWS[number]
    return torch.roll(y.flip(mirror), (scale * down, scale * right), (1, 2))


def _unit(y: Tensor) -> Tensor:
    """(B, h, w) -> (B, pixels) of length 1, so that a product of two is their correlation."""
    flat = y.flatten(1)
    length: Tensor = flat.norm(dim=1, keepdim=True)
    return flat / length.clamp(min=1e-6)


def _levels(images: Images, indices: Indices) -> Tensor:
    """(B, H, W) float32."""
    values = np.ascontiguousarray(images[indices])
    if values.ndim != 3 or values.dtype != np.uint8:
        raise ValueError(f"images are {values.dtype} {values.shape}; expected (N, H, W) uint8")
    return torch.from_numpy(values).float()


def _blurred(x: Tensor, sigma: float) -> Tensor:
    """By two products, several times faster on a CPU than a convolution with one channel."""
    return _gaussian(x.shape[1], sigma) @ x @ _gaussian(x.shape[2], sigma).T


@lru_cache(maxsize=32)
def _gaussian(length: int, sigma: float) -> Tensor:
    """(length, length): row i weighs the pixels around i; beyond the border its pixels go on."""
    reach = int(3 * sigma + 0.5)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    rows = torch.zeros(length, length)
    for offset, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
        rows[torch.arange(length), (torch.arange(length) + offset).clamp(0, length - 1)] += weight
    return rows
