"""A named experiment as one value, and the function that carries it out: data in, run folder out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from brainvq import run as runs
from brainvq.config import Config, PartOf, from_json, paths, to_json
from brainvq.data.loader import Cache, open_cache, order
from brainvq.data.sources import Split, open_splits
from brainvq.errors import InputError
from brainvq.tokenizers.base import TokenizerConfig
from brainvq.training.devices import accelerator as make_accelerator
from brainvq.training.loop import Loop, TrainConfig
from brainvq.training.tokenizer import Config as TaskConfig
from brainvq.training.tokenizer import TokenizerTask

VALIDATION_IMAGES = 256
FREE = {f"train.{key}" for key in ("steps", "epochs", "checkpoint_every", "validate_every")}  # may change on resume
Watch = Callable[[dict[str, Any]], None]


def _silence(event: dict[str, Any]) -> None:
    """Show nothing."""


class DataConfig(Config):
    """`subject_pattern`: a regular expression whose one group is the subject in a file's name; null: the usual ones."""

    subject_pattern: str | None = None


class Experiment(Config):
    """Everything that a training run depends on, but for the data.

    Args:
        preset: the name it started from.
        tokenizer: the model.
        task: losses and optimiser.
        train: steps, batches, checkpoints, seed.
        data: how to read it.
    """

    preset: str
    tokenizer: PartOf[TokenizerConfig]
    task: PartOf[TaskConfig]
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()


def train(
    experiment: Experiment,
    data: str | Path,
    out: Path,
    *,
    resume: bool = False,
    command: str = "",
    watch: Watch = _silence,
) -> Path:
    """Train on the train split of `data` into the run folder `out`, and return it.

    `resume` goes on from the newest checkpoint of a run of the same settings, or starts one where there is none.

    Raises:
        InputError: data, folder or configuration do not fit, or a loss diverged.
        Interrupted: a signal came; the run can be resumed.
    """
    accelerator = make_accelerator(experiment.train.precision)
    if not accelerator.is_main_process:
        watch = _silence
    if experiment.train.batch_size % accelerator.num_processes:
        raise InputError(
            f"train.batch_size is {experiment.train.batch_size} and cannot be shared by {accelerator.num_processes} "
            "processes. Choose a multiple of their number."
        )
    runs.refuse_foreign_folder(out, resume=resume)
    if (out / "config.json").exists():
        _refuse_other_settings(out, experiment)
    torch.manual_seed(experiment.train.seed)
    tokenizer = experiment.tokenizer.build()
    with accelerator.main_process_first():
        caches = _open_data(data, experiment, tokenizer.spec.multiple, accelerator.device, watch)
    total = experiment.train.total(len(caches["train"]))
    config = runs.describe_run(
        experiment=to_json(experiment),
        command=command,
        data=_data_facts(data, caches),
        tokenizer=tokenizer,
        steps=total,
    )
    task = TokenizerTask(
        experiment.task,
        tokenizer,
        accelerator,
        learning_rate=experiment.train.learning_rate,
        variance=caches["train"].variance,
    )
    if accelerator.is_main_process:
        runs.start(out, config, resume=resume)
    accelerator.wait_for_everyone()
    loop = Loop(
        task,
        experiment.train,
        total,
        out,
        accelerator,
        batch=_share(caches["train"], experiment.train, accelerator.process_index, accelerator.num_processes),
        validation=lambda: _validation(caches["validate"]),
        save_model=lambda weights: runs.save_weights(out, weights),
        watch=watch,
    )
    loop.fit()
    if accelerator.is_main_process:
        images = loop.step * experiment.train.batch_size
        runs.finish(out, steps=loop.step, images_seen=images, wall_time_s=round(loop.seconds, 1))
    accelerator.wait_for_everyone()
    return out


def _refuse_other_settings(out: Path, experiment: Experiment) -> None:
    """A run is resumed as what it is; only its length, and how often it saves and validates, may change."""
    before = runs.read_config(out).get("experiment")
    old = to_json(from_json(Experiment, before if isinstance(before, dict) else {}))
    new = to_json(experiment)
    for path in sorted({*paths(old), *paths(new)} - FREE):
        was, now = (_leaf(values, path) for values in (old, new))
        if was != now:
            raise InputError(
                f"{out} was trained with other settings: {path} was {was!r}, and is {now!r} now. "
                "Resume with the same settings, or give another --out."
            )


def _leaf(values: Any, path: str) -> Any:
    for key in path.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _open_data(
    data: str | Path, experiment: Experiment, multiple: tuple[int, ...], device: torch.device, watch: Watch
) -> dict[str, Cache]:
    splits = open_splits(data, subject_pattern=experiment.data.subject_pattern)
    caches: dict[str, Cache] = {}
    names: tuple[Split, ...] = ("train", "validate")
    for split in names:
        if split not in splits or not len(splits[split]):
            raise InputError(
                f"{data} has no {split} images. Add a folder {split}/, or give one flat folder to be split."
            )
        caches[split] = open_cache(
            splits[split],
            multiple=(multiple[0], multiple[1]),
            device=device,
            progress=lambda done, count, split=split: watch(  # type: ignore[misc]
                {"event": "read", "split": split, "done": done, "count": count}
            ),
        )
    if caches["train"].size != caches["validate"].size:
        raise InputError(
            f"train images are {caches['train'].size} and validate images {caches['validate'].size}; expected one size."
        )
    return caches


def _data_facts(data: str | Path, caches: dict[str, Cache]) -> dict[str, Any]:
    """Numbers and fingerprints; no subject and no path of the user's machine but the last folder's name."""
    splits = {
        name: {"subjects": len(set(cache.subjects)), "images": len(cache), "fingerprint": cache.fingerprint}
        for name, cache in caches.items()
    }
    train = caches["train"]
    return {
        "name": os.path.basename(os.path.normpath(data)),  # noqa: PTH119 - also of names that are no path
        "splits": splits,
        "size": list(train.images.shape[1:]),
        "mean": train.mean,
        "variance": train.variance,
    }


def _share(cache: Cache, config: TrainConfig, process: int, processes: int) -> Callable[[int], Tensor]:
    """This process's contiguous part of each global batch."""
    part = config.batch_size // processes

    def batch(step: int) -> Tensor:
        indices = order(len(cache), config.batch_size, config.seed, step)
        return cache.batch(indices[process * part : (process + 1) * part])

    return batch


def _validation(cache: Cache, batch: int = 32) -> Iterator[Tensor]:
    """The same images every time, spread evenly over the split."""
    indices = np.unique(np.linspace(0, len(cache) - 1, min(VALIDATION_IMAGES, len(cache))).round().astype(np.int64))
    for start in range(0, len(indices), batch):
        yield cache.batch(indices[start : start + batch])
