"""A named experiment as one value, and what carries it out: data in, run folder out. Here for tokenizers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from brainvq import run as runs
from brainvq.config import Config, PartOf, from_json, override, paths, to_json
from brainvq.data.loader import Cache, open_cache, order
from brainvq.data.planes import Plane
from brainvq.data.slicing import Slicing
from brainvq.data.sources import Split, open_splits
from brainvq.data.volume_cache import with_size
from brainvq.errors import InputError
from brainvq.tokenizers.base import TokenizerConfig
from brainvq.training.devices import accelerator as make_accelerator
from brainvq.training.loop import Batch, Loop, Task, TrainConfig
from brainvq.training.start import Start, refuse_other_origin
from brainvq.training.tokenizer import Config as TaskConfig
from brainvq.training.tokenizer import TokenizerTask

VALIDATION_IMAGES = 256
FREE = {f"train.{key}" for key in ("steps", "epochs", "checkpoint_every", "validate_every")}  # may change on resume
Watch = Callable[[dict[str, Any]], None]


def silence(event: dict[str, Any]) -> None:
    """Show nothing."""


class DataConfig(Config):
    """How to read a data folder.

    Args:
        subject_pattern: a regular expression whose one group is the subject in a file's name; null: the usual ones.
        suffix: which images of a BIDS data set.
        plane, slices, spacing, size: how volumes become images; see `brainvq.data.slicing.Slicing`.
    """

    subject_pattern: str | None = None
    suffix: str = "T1w"
    plane: Plane = "axial"
    slices: str = "head"
    spacing: tuple[float, float, float] | None = None
    size: tuple[int, int] | None = None

    @property
    def slicing(self) -> Slicing:
        return Slicing(self.plane, self.slices, self.spacing, self.size)


class Experiment(Config):
    """What every training run depends on, but for the data.

    Args:
        preset: the name it started from.
        train: steps, batches, checkpoints, seed.
        data: how to read it.
    """

    preset: str
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()


class _Reading(Config):
    data: DataConfig


E = TypeVar("E", bound=Experiment)


def read_otherwise(experiment: E, settings: Sequence[str]) -> E:
    """The same, of data that are read as `settings` say, such as "data.suffix=T2w".

    Raises:
        InputError: a setting that is none of data.
    """
    return experiment.model_copy(update={"data": override(_Reading(data=experiment.data), list(settings)).data})


class TokenizerExperiment(Experiment):
    """A tokenizer with the losses and the optimiser that train it."""

    tokenizer: PartOf[TokenizerConfig]
    task: PartOf[TaskConfig]


def train(
    experiment: TokenizerExperiment,
    data: str | Path,
    out: Path,
    *,
    start: Start | None = None,
    resume: bool = False,
    command: str = "",
    watch: Watch = silence,
) -> Path:
    """Train on the train split of `data` into the run folder `out`, and return it.

    `start` is a trained tokenizer of the same configuration to begin with. `resume` goes on from the newest checkpoint
    of a run of the same settings and start, or starts one where there is none.

    Raises:
        InputError: data, folder or configuration do not fit, or a loss diverged.
        Interrupted: a signal came; the run can be resumed.
    """
    accelerator = begin(experiment, out, kind="tokenizer", resume=resume)
    refuse_other_origin(out, start)
    watch = watch if accelerator.is_main_process else silence
    torch.manual_seed(experiment.train.seed)
    tokenizer = experiment.tokenizer.build()
    if start is not None:
        start.into(tokenizer)
    with accelerator.main_process_first():
        caches = open_data(data, experiment.data, tokenizer.spec.multiple, accelerator.device, watch)
    experiment.task.refuse_size(caches["train"].size, tokenizer.spec.multiple)
    total = experiment.train.total(len(caches["train"]))
    config = runs.describe_run(
        kind="tokenizer",
        experiment=to_json(experiment),
        command=command,
        data=data_facts(data, caches),
        model=tokenizer,
        spec=tokenizer.spec,
        steps=total,
    )
    if start is not None:
        config["finetuned_from"] = start.origin
    task = TokenizerTask(
        experiment.task,
        tokenizer,
        accelerator,
        learning_rate=experiment.train.learning_rate,
        variance=caches["train"].variance,
    )
    mine = share(len(caches["train"]), experiment.train, accelerator)
    return fit(
        task,
        experiment.train,
        config,
        out,
        accelerator,
        resume=resume,
        batch=lambda step: caches["train"].batch(mine(step)),
        validation=lambda: (caches["validate"].batch(indices) for indices in spread(len(caches["validate"]))),
        watch=watch,
    )


def begin(experiment: Experiment, out: Path, *, kind: str, resume: bool) -> Accelerator:
    """The devices of this run, once the folder and the settings are seen to fit.

    Raises:
        InputError: `out` is something else, a run of another `kind` or of other settings, or the batch cannot be shared
            by the processes.
    """
    accelerator = make_accelerator(experiment.train.precision)
    if experiment.train.batch_size % accelerator.num_processes:
        raise InputError(
            f"train.batch_size is {experiment.train.batch_size} and cannot be shared by {accelerator.num_processes} "
            "processes. Choose a multiple of their number."
        )
    runs.refuse_foreign_folder(out, resume=resume)
    if (out / "config.json").exists():
        before = runs.read_config(out).get("kind")
        if before != kind:
            raise InputError(f"{out} holds a {before}, and this is a {kind}. Give another --out.")
        _refuse_other_settings(out, experiment)
    return accelerator


def fit(
    task: Task[Batch],
    train: TrainConfig,
    config: dict[str, Any],
    out: Path,
    accelerator: Accelerator,
    *,
    resume: bool,
    batch: Callable[[int], Batch],
    validation: Callable[[], Iterable[Batch]],
    watch: Watch,
) -> Path:
    """Train `task` into the run folder `out`, whose config.json is `config`."""
    if accelerator.is_main_process:
        runs.start(out, config, resume=resume)
    accelerator.wait_for_everyone()
    loop = Loop(
        task,
        train,
        config["planned_steps"],
        out,
        accelerator,
        batch=batch,
        validation=validation,
        save_model=lambda weights: runs.save_weights(out, weights),
        watch=watch,
    )
    loop.fit()
    if accelerator.is_main_process:
        images = loop.step * train.batch_size
        runs.finish(out, steps=loop.step, images_seen=images, wall_time_s=round(loop.seconds, 1))
    accelerator.wait_for_everyone()
    return out


def _refuse_other_settings(out: Path, experiment: Experiment) -> None:
    """A run is resumed as what it is; only its length, and how often it saves and validates, may change."""
    before = runs.read_config(out).get("experiment")
    old = to_json(from_json(type(experiment), before if isinstance(before, dict) else {}))
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


def open_data(
    data: str | Path, config: DataConfig, multiple: tuple[int, ...], device: torch.device, watch: Watch
) -> dict[str, Cache]:
    """The train and validate images.

    Raises:
        InputError: one of the splits is missing, or their sizes differ.
    """
    splits = open_splits(data, subject_pattern=config.subject_pattern, suffix=config.suffix)
    slicing = with_size(config.slicing, splits.values())
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
            slicing=slicing,
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


def data_facts(data: str | Path, caches: dict[str, Cache]) -> dict[str, Any]:
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


def share(images: int, config: TrainConfig, accelerator: Accelerator) -> Callable[[int], NDArray[np.int64]]:
    """step -> this process's contiguous part of the indices of the global batch."""
    part = config.batch_size // accelerator.num_processes
    start = accelerator.process_index * part
    return lambda step: order(images, config.batch_size, config.seed, step)[start : start + part]


def spread(images: int, batch: int = 32) -> Iterator[NDArray[np.int64]]:
    """Batches of the indices to validate on: the same every time, spread evenly over the split."""
    indices = np.unique(np.linspace(0, images - 1, min(VALIDATION_IMAGES, images)).round().astype(np.int64))
    for start in range(0, len(indices), batch):
        yield indices[start : start + batch]
