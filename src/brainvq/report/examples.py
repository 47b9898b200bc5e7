"""Pictures that a report shows: one slice of the best, the typical and the worst subject of an evaluation, and what
its codebook stands for (`codebook_stored.py`).

Subjects are named as their files name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from einops import reduce
from pydantic import BaseModel
from torch import Tensor

from brainvq.codes import Codes, CodeSpec
from brainvq.data.loader import Cache
from brainvq.errors import InputError
from brainvq.evaluate import Reconstructs
from brainvq.metrics.distortion import ssim, to_uint8
from brainvq.report.codebook import Explains
from brainvq.report.codebook_stored import KeptCodebook, StoredCodebook, explain, load_codebook
from brainvq.report.kept import FILE, Kept, Pixels, is_grid, keep, load_about, load_picture

Role = Literal["typical", "best", "worst"]


class Stated(BaseModel):
    """One example in examples.json. `codes`: each level as rows of a grid; `ssim`: of the slice."""

    role: Role
    subject: str
    slice: int
    slices: int
    ssim: float
    codes: list[list[list[int]]]


class Stored(Kept):
    """`grey`: per level and entry, the mean grey level (0..255) of the pixels that it stood for in the subjects shown,
    null where it was not used; `codebook`: null in a run that an earlier version has evaluated."""

    grey: list[list[float | None]]
    examples: list[Stated]
    codebook: StoredCodebook | None = None


@dataclass(frozen=True, eq=False)
class Example:
    """`original` and `reconstruction` (H, W) uint8."""

    about: Stated
    original: Pixels
    reconstruction: Pixels


@dataclass(frozen=True, eq=False)
class Examples:
    about: Stored
    items: tuple[Example, ...]
    codebook: KeptCodebook | None


def save_examples(folder: Path, pipeline: Explains, cache: Cache, evaluation: Mapping[str, Any]) -> Path:
    """Keep what the report draws of an evaluation of `cache` in the run `folder`; where it lies.

    Of each subject the slice with its median SSIM is shown, so that no slice is picked by eye.
    """
    tally = _Tally(pipeline.spec)
    chosen = choose({name: row["ssim"] for name, row in evaluation["per_subject"].items()})
    examples = [_example(role, subject, pipeline, cache, tally) for role, subject in chosen.items()]
    codebook, pictures = explain(pipeline, cache)
    about = Stored(
        format=1,
        split=evaluation["split"],
        fingerprint=cache.fingerprint,
        weights_sha256=evaluation["model"].get("weights_sha256"),
        grey=tally.means(),
        examples=[example.about for example in examples],
        codebook=codebook,
    )
    pictures |= {f"{example.about.role}_original": example.original for example in examples}
    pictures |= {f"{example.about.role}_reconstruction": example.reconstruction for example in examples}
    return keep(folder, about, pictures)


def load_examples(folder: Path) -> Examples:
    """What `save_examples` wrote into `folder`.

    Raises:
        InputError: missing or damaged; the file is named.
    """
    about = load_about(Stored, folder)
    if not about.examples:
        raise InputError(f"{folder / FILE} holds no examples.")
    items = tuple(_load(folder, stated, len(about.grey)) for stated in about.examples)
    return Examples(about, items, None if about.codebook is None else load_codebook(folder, about.codebook))


def choose(scores: Mapping[str, float]) -> dict[Role, str]:
    """The subjects to show, by mean SSIM: the median one, the highest and the lowest; each once."""
    ranked = sorted(scores, key=lambda name: (scores[name], name))
    chosen: dict[Role, str] = {"typical": ranked[(len(ranked) - 1) // 2]}
    for role, name in (("best", ranked[-1]), ("worst", ranked[0])):
        if name not in chosen.values():
            chosen[role] = name  # type: ignore[index]
    return chosen


class _Tally:
    """Mean grey level under each entry of each level."""

    def __init__(self, spec: CodeSpec) -> None:
        self.spec = spec
        self.sums = [np.zeros(entries) for entries in spec.entries]
        self.counts = [np.zeros(entries) for entries in spec.entries]

    def add(self, x: Tensor, codes: Codes) -> None:
        grey = (x.cpu().double() + 1) * 127.5
        for level, (code, (h, w)) in enumerate(zip(codes, self.spec.strides, strict=True)):
            cells = reduce(grey, "b 1 (y h) (x w) -> b y x", "mean", h=h, w=w).numpy().ravel()
            index, entries = code.cpu().numpy().ravel(), len(self.sums[level])
            self.sums[level] += np.bincount(index, weights=cells, minlength=entries)
            self.counts[level] += np.bincount(index, minlength=entries)

    def means(self) -> list[list[float | None]]:
        pairs = zip(self.sums, self.counts, strict=True)
        return [[round(s / n, 2) if n else None for s, n in zip(*pair, strict=True)] for pair in pairs]


def _example(role: Role, subject: str, pipeline: Reconstructs, cache: Cache, tally: _Tally) -> Example:
    indices = [i for i, name in enumerate(cache.subjects) if str(name) == subject]
    height, width = cache.images.shape[1:]
    scores: list[float] = []
    parts: list[tuple[Tensor, Tensor, Codes]] = []
    for start in range(0, len(indices), 16):
        padded = cache.batch(indices[start : start + 16])
        x_hat, codes = pipeline.reconstruct_batch(padded)
        tally.add(padded, codes)
        x, x_hat = padded[..., :height, :width], x_hat[..., :height, :width]
        scores += ssim(x, x_hat).tolist()
        parts.append((x, x_hat, codes))
    shown = int(np.argsort(scores, kind="stable")[(len(scores) - 1) // 2])
    x, x_hat, codes = parts[shown // 16]
    one = shown % 16
    grids = [code[one].tolist() for code in codes]
    about = Stated(role=role, subject=subject, slice=shown + 1, slices=len(indices), ssim=scores[shown], codes=grids)
    return Example(about, _grey(x[one]), _grey(x_hat[one]))


def _grey(x: Tensor) -> Pixels:
    image: Pixels = to_uint8(x)[0].to(torch.uint8).cpu().numpy()
    return image


def _load(folder: Path, about: Stated, levels: int) -> Example:
    original, copy = (load_picture(folder / f"{about.role}_{kind}.png") for kind in ("original", "reconstruction"))
    if original.shape != copy.shape:
        raise InputError(f"{folder}: {about.role} pictures are not of one size.")
    if len(about.codes) != levels or not all(is_grid(grid) for grid in about.codes):
        raise InputError(f"{folder / FILE}: codes of {about.role} are not {levels} grids.")
    return Example(about, original, copy)
