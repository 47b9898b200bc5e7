"""Measures the grain of a trained tokenizer on the images that it was trained on, and keeps it beside the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.config import from_json
from brainvq.data.loader import Cache, open_cache
from brainvq.data.sources import open_splits
from brainvq.data.volume_cache import with_size
from brainvq.errors import InputError
from brainvq.grain import Grain, measured
from brainvq.metrics.generation import spread_over_subjects
from brainvq.models import GRAIN, is_shipped, model_folder, open_model
from brainvq.pipeline import Pipeline
from brainvq.training.experiment import TokenizerExperiment
from brainvq.writing import atomic

MOST = 512  # images: a place of a band is told by thousands of pixels then
TOGETHER = 16


def measure_grain(
    model: str | Path, data: str, *, force: bool = False, progress: Callable[[int, int], None] = lambda done, of: None
) -> Path:
    """Write the grain of the run of a tokenizer into it, and return its path.

    It is measured on the train split of `data`, read as for training: on at most 512 images, of all subjects alike.

    Raises:
        InputError: no tokenizer of images of two axes, one that comes with the package, not trained to its
            end, other images than those of its training, or a grain is there already and `force` is not given.
    """
    folder = model_folder(model)
    path = folder / GRAIN
    if is_shipped(folder):
        raise InputError(
            f"{folder.name} comes with the package, where nothing is written. Copy {folder} and name that."
        )
    if path.exists() and not force:
        raise InputError(f"{path} is there already. Give --force to measure it again.")
    pipeline = Pipeline(open_model(folder))
    if not pipeline.config.get("weights_sha256"):
        raise InputError(f"{folder} is not trained to its end: brainvq train ... --out {folder} --resume.")
    if pipeline.spec.axes != 2:
        raise InputError(f"{folder} is a tokenizer of volumes; grain is of images of two axes.")
    cache = _train_images(pipeline, data)
    _refuse_other_images(pipeline, cache, data)
    picks = np.sort(spread_over_subjects(cache.subjects, min(MOST, len(cache))))
    found = Grain(
        weights_sha256=pipeline.weights_sha256,
        fingerprint=cache.fingerprint,
        images=len(picks),
        deviations=measured(_pairs(pipeline, cache, picks, progress)),
    )
    with atomic(path) as file:
        file.write(found.model_dump_json(indent=1).encode() + b"\n")
    path.chmod(0o644)  # a temporary file is its owner's alone
    return path


def _train_images(pipeline: Pipeline, data: str) -> Cache:
    config = from_json(TokenizerExperiment, pipeline.config["experiment"]).data
    splits = open_splits(data, subject_pattern=config.subject_pattern, suffix=config.suffix)
    if "train" not in splits:
        raise InputError(f"{data} has no train split; grain is measured on the images of training.")
    down, across = pipeline.spec.multiple
    return open_cache(splits["train"], multiple=(down, across), slicing=with_size(config.slicing, splits.values()))


def _refuse_other_images(pipeline: Pipeline, cache: Cache, data: str) -> None:
    try:
        seen = pipeline.config["data"]["splits"]["train"]["fingerprint"]
    except (KeyError, TypeError) as error:
        raise InputError(f"the config.json of the run is damaged: {type(error).__name__} {error}.") from error
    if seen != cache.fingerprint:
        raise InputError(
            f"the tokenizer was trained on other images (SHA-256 {str(seen)[:12]}) than the train split of {data} "
            f"({cache.fingerprint[:12]}). Grain is what its own training images lack: give the data of its training."
        )


def _pairs(
    pipeline: Pipeline, cache: Cache, picks: NDArray[np.int64], progress: Callable[[int, int], None]
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Images and their reconstructions without padding, in grey levels."""
    height, width = cache.images.shape[1:]
    for start in range(0, len(picks), TOGETHER):
        x = cache.batch(picks[start : start + TOGETHER])
        x_hat, _ = pipeline.reconstruct_batch(x)
        both = ((each.clamp(-1, 1) + 1) * 127.5 for each in (x.cpu(), x_hat.cpu()))
        yield from zip(*(each[:, 0, :height, :width].float().numpy() for each in both), strict=True)
        progress(min(start + TOGETHER, len(picks)), len(picks))
