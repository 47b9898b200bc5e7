"""All measures of a model over a split, beside the trivial baselines, with 95 % intervals by bootstrap over subjects.

Reconstructions come from the pipeline alone, measures from `metrics`; this file gathers, averages and lays out. The
result is plain JSON (format 1), the same that the command line prints, a run folder keeps and the report draws.

Baselines, on the very same slices: an all black image; the mean image of the training split; the previous slice of the
same subject (neighbouring slices are nearly copies), where there is one. Numbers of a model are read against these.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainvq.codes import Codes, CodeSpec
from brainvq.data.loader import Cache
from brainvq.data.sources import Source
from brainvq.errors import InputError
from brainvq.head import head_mask
from brainvq.metrics import usage as code_usage
from brainvq.metrics.definitions import MEASURES
from brainvq.metrics.distortion import distortion, to_uint8
from brainvq.metrics.statistics import intervals, paired, subject_means

FORMAT = 1
Columns = dict[str, NDArray[np.float64]]


class Reconstructs(Protocol):
    """What is asked of a model: a pipeline has it, and anything else that turns images into codes and back."""

    @property
    def spec(self) -> CodeSpec: ...

    def reconstruct_batch(self, x: Tensor) -> tuple[Tensor, Codes]: ...


def evaluate(
    pipeline: Reconstructs,
    source: Source,
    cache: Cache,
    *,
    split: str,
    model: Mapping[str, Any] | None = None,
    train_mean: Tensor | None = None,
    batch: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure a model on every slice of a split.

    `model`: what names it in the result (preset, weights_sha256 ...); `train_mean`: (H, W) in [-1, 1], of `mean_image`,
    without which, or where it has another size than the images, that baseline is left out; `progress(done, total)` is
    called after each batch. Padding is cut off before anything is measured.

    Raises:
        InputError: no slices; reconstructions that hold NaN; images smaller than 11 x 11; a tissue mask of another
            size.
    """
    started, total = time.perf_counter(), len(cache.images)
    if not total:
        raise InputError(f"the {split} split of {source.root} holds no images; there is nothing to measure")
    if train_mean is not None and tuple(train_mean.shape) != tuple(cache.images.shape[1:]):
        train_mean = None
    counter = code_usage.UsageCounter(pipeline.spec)
    found: dict[str, Columns] = {}
    for start in range(0, total, batch):
        indices = range(start, min(start + batch, total))
        padded = cache.batch(indices)
        x_hat, codes = pipeline.reconstruct_batch(padded)
        counter.add(codes, [cache.subjects[i] for i in indices])
        for name, columns in _measure(padded, x_hat, indices, source, cache, train_mean).items():
            # into arrays made once: small ones kept from every batch would scatter over, and so tie up, gigabytes
            whole = found.setdefault(name, {measure: np.full(total, np.nan) for measure in MEASURES})
            for measure, column in columns.items():
                whole[measure][start : indices.stop] = column
        if progress is not None:
            progress(indices.stop, total)
    measured = found.pop("model")
    return {
        "format": FORMAT,
        "split": split,
        "data": {
            "name": os.path.basename(os.path.abspath(source.root)),  # noqa: PTH100, PTH119  a link keeps its name
            "fingerprint": source.fingerprint,
            "subjects": len(set(cache.subjects)),
            "images": total,
            "size": list(cache.images.shape[1:]),
        },
        "model": dict(model or {}),
        "measures": summary(measured, cache.subjects),
        "usage": counter.usage(cache.size, pixels=math.prod(cache.images.shape[1:])).to_json(),
        "baselines": {name: summary(columns, cache.subjects) for name, columns in found.items()},
        "per_subject": subject_means(measured, cache.subjects),
        "definitions": {name: measure.definition for name, measure in MEASURES.items()} | code_usage.DEFINITIONS,
        "wall_time_s": round(time.perf_counter() - started, 2),
        "threads": torch.get_num_threads(),
    }


def mean_image(cache: Cache, batch: int = 64) -> Tensor:
    """Mean over a split (the training split, for the baseline) -> (H, W) float64 in [-1, 1] on the CPU."""
    total = len(cache.images)
    sums = (cache.batch(range(i, min(i + batch, total))).double().sum(dim=(0, 1)) for i in range(0, total, batch))
    height, width = cache.images.shape[1:]
    return (sum(sums, torch.zeros(())) / total).cpu()[:height, :width]


def summary(columns: Columns, subjects: Sequence[str]) -> dict[str, Any]:
    """Means and intervals of measured columns; one with no value at all (no tissue masks, say) is left out."""
    return {
        name: asdict(interval) | {"unit": MEASURES[name].unit, "better": MEASURES[name].better}
        for name, interval in intervals(columns, subjects).items()
    }


def compare(result: Mapping[str, Any], against: Mapping[str, Any]) -> dict[str, Any]:
    """Differences `result` - `against`, paired by subject, of two evaluations of the same slices.

    Raises:
        InputError: they are of different slices, or measured by different definitions.
    """
    _same_slices(result, against)
    rows, other = result["per_subject"], against["per_subject"]
    images = {subject: row["images"] for subject, row in rows.items()}
    measures = {}
    for name in MEASURES:
        mine, theirs = ({s: row[name] for s, row in side.items() if name in row} for side in (rows, other))
        if not mine.keys() & theirs.keys():
            continue
        sign = 1 if MEASURES[name].better == "higher" else -1
        measures[name] = asdict(paired(theirs, mine, images)) | {
            "unit": MEASURES[name].unit,
            "better": MEASURES[name].better,
            "subjects_better": sum(sign * (mine[s] - theirs[s]) > 0 for s in mine.keys() & theirs.keys()),
        }
    return {
        "format": FORMAT,
        "split": result["split"],
        "data": result["data"],
        "model": result["model"],
        "against": against["model"],
        "differences": measures,
    }


def _measure(
    padded: Tensor, x_hat: Tensor, indices: range, source: Source, cache: Cache, train_mean: Tensor | None
) -> dict[str, Columns]:
    """Columns of the model and of each baseline for one batch."""
    height, width = cache.images.shape[1:]
    x = padded[..., :height, :width]
    head = head_mask(to_uint8(x)[:, 0].to(torch.uint8).cpu().numpy())
    brain = _brain_masks(source, indices, head.shape)
    candidates = {"model": x_hat[..., :height, :width], "black": torch.full_like(x, -1)}
    if train_mean is not None:
        candidates["mean_train_image"] = train_mean.to(x).expand_as(x)
    columns = {name: distortion(x, y, head=head, brain=brain).columns() for name, y in candidates.items()}
    columns["previous_slice"] = _previous_slice(x, head, brain, indices, cache)
    return columns


def _previous_slice(
    x: Tensor, head: NDArray[np.bool_], brain: NDArray[np.bool_] | None, indices: range, cache: Cache
) -> Columns:
    """NaN for the first slice of a subject, which has none before it."""
    has = np.array([i > 0 and cache.subjects[i] == cache.subjects[i - 1] for i in indices])
    columns = {name: np.full(len(indices), np.nan) for name in MEASURES}
    if has.any():
        previous = cache.batch([i - 1 for i, there in zip(indices, has, strict=True) if there])
        previous = previous[..., : x.shape[2], : x.shape[3]]
        kept = torch.from_numpy(has).to(x.device)
        found = distortion(x[kept], previous, head=head[has], brain=None if brain is None else brain[has])
        for name, column in found.columns().items():
            columns[name][has] = column
    return columns


def _brain_masks(source: Source, indices: range, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Tissue masks of a batch, (B, H, W); empty for a slice without one, None where the data has none at all."""
    masks = [source.mask(i) for i in indices]
    if all(mask is None for mask in masks):
        return None
    for index, mask in zip(indices, masks, strict=True):
        if mask is not None and mask.shape != shape[1:]:
            raise InputError(f"the tissue mask of image {index} has shape {mask.shape}; its image has {shape[1:]}")
    return np.stack([np.zeros(shape[1:], bool) if mask is None else mask > 0 for mask in masks])


def _same_slices(result: Mapping[str, Any], against: Mapping[str, Any]) -> None:
    for what in ("name", "fingerprint", "images", "size"):
        mine, theirs = result["data"][what], against["data"][what]
        if what != "name" and mine != theirs:
            raise InputError(
                f"these evaluations are of different images: {what} {mine} ({result['data']['name']}, "
                f"{result['split']}) against {theirs} ({against['data']['name']}, {against['split']}). "
                "Evaluate both models on the same data and split."
            )
    for name in result["definitions"].keys() & against["definitions"].keys():
        if result["definitions"][name] != against["definitions"][name]:
            raise InputError(f"{name} was measured by different definitions; evaluate both models again")
