"""What the codes cost and how much of a codebook is used, over a whole split (use over one batch misleads).

Three rates, in bits a pixel:

- nominal: every code at the fixed length of its codebook (`CodeSpec.bits`);
- entropy by position: of the histogram of codes at each place of the grid, summed over places. This plug-in estimate is
  biased low when images are few beside entries (an entry seen nowhere costs nothing);
- held out: the code length an entropy coder would really reach that keeps one histogram a place, learned from other
  subjects. Subjects are dealt into at most ten folds; the codes of a fold are coded with the counts n of the others,
  p(k | place) = (n_k + T g_k) / (n + T), T the distinct entries seen at the place, g the counts of all places plus one
  half. The backing off is I. H. Witten, T. C. Bell, "The zero-frequency problem", 1991, method C. This one is honest:
  it counts what a histogram fails to foresee.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from brainvq.codes import Codes, CodeSpec

FOLDS = 10
CELLS_AT_ONCE = 1 << 22  # places x entries of one histogram in memory

DEFINITIONS = {
    "live_entries": "Codebook entries used at least once in the split, all levels together.",
    "perplexity": "2 to the entropy (bits) of the histogram of codes over the split; geometric mean over levels.",
    "nominal_bits_per_pixel": "Every code at the fixed length of its codebook.",
    "entropy_bits_per_pixel": "Entropy of the codes by position: of the histogram at each place of the grid, summed; "
    "a plug-in estimate, biased low when images are few beside entries.",
    "held_out_bits_per_pixel": "Code length with one histogram a place learned from other subjects (up to ten folds), "
    "backed off to the histogram of all places (Witten and Bell 1991).",
}


@dataclass(frozen=True)
class LevelUsage:
    """One level of codes over a split. `counts`: how often each entry was used. Entropies in bits a pixel."""

    entries: int
    grid: tuple[int, ...]
    live_entries: int
    dead_entries: int
    perplexity: float
    entropy_bits_per_pixel: float
    held_out_bits_per_pixel: float | None
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Usage:
    """All levels together: sums, and the geometric mean of their perplexities. `held_out_bits_per_pixel` is None when
    the subjects are not told or only one."""

    images: int
    live_entries: int
    dead_entries: int
    perplexity: float
    nominal_bits_per_pixel: float
    entropy_bits_per_pixel: float
    held_out_bits_per_pixel: float | None
    levels: tuple[LevelUsage, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class UsageCounter:
    """Gathers the codes of a split, batch by batch; `usage` then measures them together."""

    def __init__(self, spec: CodeSpec) -> None:
        self.spec = spec
        self._codes: list[list[NDArray[np.int32]]] = [[] for _ in spec.entries]
        self._subjects: list[str] = []

    def add(self, codes: Codes, subjects: Sequence[str] | None = None) -> None:
        """Codes of a batch, each level (B, *grid); `subjects`, one an image, are needed for the held-out rate only."""
        self.spec.check(codes)
        for gathered, code in zip(self._codes, codes, strict=True):
            gathered.append(_flat(code))
        self._subjects.extend(subjects or ())

    def usage(self, size: Sequence[int], pixels: int | None = None) -> Usage:
        """`size`: pixels of the image that the codes stand for, per axis. `pixels`: those that rates are reckoned to,
        where the image was padded to `size`.

        Raises:
            ValueError: nothing was added, or subjects were given for some batches only.
        """
        if not self._codes[0]:
            raise ValueError("no codes were added; usage is measured over at least one image")
        codes = [np.concatenate(gathered) for gathered in self._codes]
        if len(self._subjects) not in (0, len(codes[0])):
            raise ValueError(f"{len(self._subjects)} subjects were given for {len(codes[0])} images; one an image")
        pixels, folds = pixels or math.prod(size), _folds(self._subjects)
        levels = tuple(
            _level(code, entries, grid, pixels, folds)
            for code, entries, grid in zip(codes, self.spec.entries, self.spec.grids(size), strict=True)
        )
        held_out = [level.held_out_bits_per_pixel for level in levels]
        return Usage(
            images=len(codes[0]),
            live_entries=sum(level.live_entries for level in levels),
            dead_entries=sum(level.dead_entries for level in levels),
            perplexity=math.prod(level.perplexity for level in levels) ** (1 / len(levels)),
            nominal_bits_per_pixel=self.spec.bits(size) / pixels,
            entropy_bits_per_pixel=sum(level.entropy_bits_per_pixel for level in levels),
            held_out_bits_per_pixel=None if folds is None else sum(rate for rate in held_out if rate is not None),
            levels=levels,
        )


def _flat(code: Tensor) -> NDArray[np.int32]:
    return code.flatten(1).cpu().numpy().astype(np.int32)


def _folds(subjects: Sequence[str]) -> NDArray[np.int64] | None:
    """The fold of each image, or None where fewer than two subjects leave nothing to learn from."""
    names, index = np.unique(np.array(subjects, dtype=str), return_inverse=True)
    return index % min(FOLDS, len(names)) if len(names) > 1 else None


def _level(
    code: NDArray[np.int32], entries: int, grid: tuple[int, ...], pixels: int, folds: NDArray[np.int64] | None
) -> LevelUsage:
    counts = np.bincount(code.ravel(), minlength=entries)
    step = max(1, CELLS_AT_ONCE // entries)
    parts = [code[:, start : start + step] for start in range(0, code.shape[1], step)]
    by_position = sum(_entropy(_histograms(part, entries)).sum() for part in parts)
    held_out = None if folds is None else _held_out(code, parts, entries, folds) / len(code) / pixels
    live = int((counts > 0).sum())
    return LevelUsage(
        entries=entries,
        grid=grid,
        live_entries=live,
        dead_entries=entries - live,
        perplexity=float(2 ** _entropy(counts[None])[0]),
        entropy_bits_per_pixel=float(by_position) / pixels,
        held_out_bits_per_pixel=held_out,
        counts=tuple(counts.tolist()),
    )


def _histograms(code: NDArray[np.int32], entries: int) -> NDArray[np.int64]:
    """(N, places) -> counts (places, entries)."""
    places = code.shape[1]
    return np.bincount((code + np.arange(places) * entries).ravel(), minlength=places * entries).reshape(places, -1)


def _entropy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Plug-in entropy of each row, in bits."""
    share = counts / counts.sum(axis=1, keepdims=True)
    return np.asarray(-np.sum(share * np.log2(np.where(share > 0, share, 1)), axis=1))


def _held_out(code: NDArray[np.int32], parts: list[NDArray[np.int32]], entries: int, folds: NDArray[np.int64]) -> float:
    """Bits of all codes, each fold coded with what the others taught (see the top of the file)."""
    bits = 0.0
    for fold in range(int(folds.max()) + 1):
        rest = folds != fold
        everywhere = np.bincount(code[rest].ravel(), minlength=entries) + 0.5
        everywhere /= everywhere.sum()
        for part in parts:
            seen = _histograms(part[rest], entries)
            distinct = (seen > 0).sum(axis=1)
            coded = part[~rest]
            chance = seen[np.arange(part.shape[1]), coded] + distinct * everywhere[coded]
            bits -= float(np.log2(chance / (rest.sum() + distinct)).sum())
    return bits
