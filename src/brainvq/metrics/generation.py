"""Measures of generated images against real ones: similarity to the nearest, diversity, use of the codebook.

Images come in as arrays (N, H, W), uint8 or float in [-1, 1], or as anything with a length that gives such an array for
an array of indices, so that a set may be larger than memory. All similarities are the SSIM of `distortion.py`. None of
these numbers is good or bad by itself: each is read beside the same number of real images that nobody trained on.

`described_ssim` is the measure that descriptions of VQ-VAE with DCGAN on these slices report. It is here so that their
numbers can be compared, and called what it is: a maximum over batches.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from brainvq.codes import Codes
from brainvq.errors import InputError
from brainvq.metrics.distortion import ssim, ssim_shifted

THUMB = 64
"""Correlations are taken on images of at most 64 x 64."""
CANDIDATES = 8
"""Images of the highest correlation, among which SSIM decides."""
LOOKED = 128
"""Samples, and as many real images, whose nearest an evaluation looks for at most: a mean needs no more."""
PAIRS = 1024
"""At most so many pairs make a mean over pairs."""
AT_ONCE = 16
PAIRS_AT_ONCE = 2  # more of them leave the processor's cache and take twice as long

Indices = NDArray[np.int64]
Advance = Callable[[int], object]
"""Told of each few pairs of images that are done: their number."""


class Images(Protocol):
    """An array (N, H, W), or what behaves like one."""

    def __len__(self) -> int: ...
    def __getitem__(self, indices: Any, /) -> Any: ...


@dataclass(frozen=True)
class DescribedSsim:
    """Mean SSIM of a batch, in the best of the `batches` and averaged over them."""

    best_batch: float
    mean_batch: float
    batches: int


@dataclass(frozen=True, eq=False)
class Neighbours:
    """For each of n images the most similar one of a set: its index, int64 (n,), and its correlation and SSIM, (n,)."""

    index: Indices
    correlation: NDArray[np.float64]
    ssim: NDArray[np.float64]


def described_ssim(
    generated: Images, train: Images, *, batch: int = 16, advance: Advance = lambda pairs: None
) -> DescribedSsim:
    """Mean SSIM of the first 16 generated images with 16 training images, the first with the first and so on, for each
    batch of 16 in the order of the training images; on the shifted scale, as the reported numbers were.

    The generated images are the same in every batch, so the best batch only says which training images happen to lie
    in their order: the more batches, the higher. An incomplete last batch is left out.
    """
    batch = min(batch, len(generated), len(train))
    batches = len(train) // batch
    scores = _similarities(
        generated, np.tile(np.arange(batch), batches), train, np.arange(batches * batch), ssim_shifted, advance
    )
    means = scores.reshape(batches, batch).mean(axis=1)
    return DescribedSsim(float(means.max()), float(means.mean()), batches)


def nearest(
    images: Images,
    pool: Images,
    *,
    among: Indices | None = None,
    own: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    chunk: int = 256,
    advance: Advance = lambda pairs: None,
) -> Neighbours:
    """The most similar image of `pool` for each of `images`.

    The eight images of the highest correlation at 64 x 64 (means of areas, each image less its mean) are compared by
    the 8-bit SSIM of the full images. Memory does not grow with the pool: `chunk` images of it are read at a time.

    Args:
        among: indices of the pool that count; all where None. See `of_subjects`.
        own: subject of each of `images`; what `pool` has of that subject does not count. Needs `subjects`.
        subjects: subject of each image of the pool.

    Raises:
        InputError: the pool has nothing for an image to be compared with.
    """
    among = np.arange(len(pool)) if among is None else among
    correlations, candidates = _candidates(images, pool, among, _excluded(own, subjects), chunk)
    there = correlations > -np.inf
    if not (there.size and there.any(axis=1).all()):
        raise InputError("there is no image to compare with: the nearest one needs at least one other subject")
    which, rank = np.nonzero(there)
    scores = np.full(candidates.shape, -np.inf)
    scores[there] = _similarities(images, which, pool, candidates[which, rank], ssim, advance)
    best = np.arange(len(scores)), scores.argmax(axis=1)
    return Neighbours(candidates[best], correlations[best], scores[best])


def of_subjects(subjects: Sequence[str], count: int, *, seed: int = 0) -> Indices:
    """Indices of the images of `count` subjects that the seed draws (of all where there are fewer).

    For a nearest image among as many subjects as another set has: a maximum over more images is higher, so nearest
    images of sets of different size cannot be compared.
    """
    names, index = np.unique(np.array(subjects, dtype=str), return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(names))[:count]
    return np.flatnonzero(np.isin(index, drawn))


def spread_over_subjects(subjects: Sequence[str], count: int, *, seed: int = 0) -> Indices:
    """Indices of `count` images: of every subject in turn, at positions spread evenly over its images, (count,).

    No subject comes twice before each was there once, and no image comes twice.

    Raises:
        ValueError: there are fewer images.
    """
    if count > len(subjects):
        raise ValueError(f"{count} images were asked for; there are {len(subjects)}")
    generator = np.random.default_rng(seed)
    names, index = np.unique(np.array(subjects, dtype=str), return_inverse=True)
    left = [list(np.flatnonzero(index == name)) for name in generator.permutation(len(names))]
    picked = []
    for position in (generator.permutation(count) + 0.5) / max(count, 1):
        images = left.pop(0)
        picked.append(images.pop(int(position * len(images))))
        if images:
            left.append(images)
    return np.array(picked, dtype=np.int64)


def mean_pairwise_ssim(
    images: Images,
    *,
    subjects: Sequence[str] | None = None,
    pairs: int = PAIRS,
    seed: int = 0,
    advance: Advance = lambda pairs: None,
) -> float | None:
    """Diversity: mean 8-bit SSIM of pairs of different images; 1 where all are alike, low where they differ.

    Of more than `pairs` pairs, so many are drawn by the seed. With `subjects`, pairs of one subject do not count. None
    where there is no pair.
    """
    first, second = np.triu_indices(len(images), 1)
    if subjects is not None:
        names = np.array(subjects, dtype=str)
        differ = names[first] != names[second]
        first, second = first[differ], second[differ]
    if not len(first):
        return None
    if len(first) > pairs:
        drawn = np.sort(np.random.default_rng(seed).choice(len(first), pairs, replace=False))
        first, second = first[drawn], second[drawn]
    return float(_similarities(images, first, images, second, ssim, advance).mean())


def live_share(codes: Codes, live: Sequence[Tensor]) -> float:
    """Share of the entries in use that occur in `codes`, all levels together.

    Args:
        codes: each level (B, *grid).
        live: for each level the entries that occur in the train split, LongTensor (live entries,).
    """
    found = sum(int(torch.isin(entries.cpu(), code.cpu()).sum()) for code, entries in zip(codes, live, strict=True))
    return found / sum(len(entries) for entries in live)


def _x(images: Images, indices: Indices) -> Tensor:
    """(B, 1, H, W) float32 in [-1, 1]."""
    values = np.ascontiguousarray(images[indices])
    if values.ndim != 3 or not (values.dtype == np.uint8 or np.issubdtype(values.dtype, np.floating)):
        raise ValueError(f"images are {values.dtype} {values.shape}; expected (N, H, W), uint8 or float in [-1, 1]")
    x = torch.from_numpy(values).float()[:, None]
    return x / 127.5 - 1 if values.dtype == np.uint8 else x


def _similarities(
    a: Images,
    of_a: Indices,
    b: Images,
    of_b: Indices,
    measure: Callable[[Tensor, Tensor], Tensor],
    advance: Advance,
) -> NDArray[np.float64]:
    """The measure of the pairs (a[of_a[i]], b[of_b[i]]), (pairs,)."""
    found = np.empty(len(of_a))
    for start in range(0, len(of_a), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        found[part] = measure(_x(a, of_a[part]), _x(b, of_b[part])).cpu().numpy()
        advance(len(of_a[part]))
    return found


def _candidates(
    images: Images,
    pool: Images,
    among: Indices,
    excluded: Callable[[Indices], NDArray[np.bool_] | None],
    chunk: int,
) -> tuple[NDArray[np.float64], Indices]:
    """Correlations and indices of the best of the pool, (n, up to 8), best first; -inf where an image is excluded."""
    mine = _thumbs(images, np.arange(len(images)))
    best, which = np.empty((len(mine), 0)), np.empty((len(mine), 0), np.int64)
    for part in _chunks(among, chunk):
        correlations = mine @ _thumbs(pool, part).T
        if (out := excluded(part)) is not None:
            correlations[out] = -np.inf
        best = np.concatenate([best, correlations], axis=1)
        which = np.concatenate([which, np.broadcast_to(part, correlations.shape)], axis=1)
        kept = np.argsort(-best, axis=1, kind="stable")[:, :CANDIDATES]
        best, which = np.take_along_axis(best, kept, 1), np.take_along_axis(which, kept, 1)
    return best, which


def _excluded(
    own: Sequence[str] | None, subjects: Sequence[str] | None
) -> Callable[[Indices], NDArray[np.bool_] | None]:
    """Which images of a part of the pool do not count for which of ours, (n, part)."""
    if own is None or subjects is None:
        return lambda part: None
    mine, theirs = np.array(own, dtype=str), np.array(subjects, dtype=str)
    return lambda part: mine[:, None] == theirs[None, part]


def _thumbs(images: Images, indices: Indices) -> NDArray[np.float64]:
    """Small images of mean 0 and length 1, (n, pixels), so that a product of two is their correlation; 0 for an image
    of one grey level, which correlates with nothing."""
    found = []
    for part in _chunks(indices, AT_ONCE):
        x = _x(images, part)
        small = F.adaptive_avg_pool2d(x, (min(x.shape[2], THUMB), min(x.shape[3], THUMB))).flatten(1).double()
        small -= small.mean(dim=1, keepdim=True)
        length = small.norm(dim=1, keepdim=True)
        found.append((small / length.where(length > 1e-6, torch.inf)).numpy())
    return np.concatenate(found) if found else np.empty((0, 0))


def _chunks(indices: Indices, size: int) -> Iterator[Indices]:
    return (indices[start : start + size] for start in range(0, len(indices), size))
