"""An experiment with a prior, carried out: images become codes once, the prior learns the codes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from brainvq import models
from brainvq import run as runs
from brainvq.config import PartOf, to_json
from brainvq.data.reopen import remember
from brainvq.priors.base import PriorConfig
from brainvq.priors.conditions import to_json as to_json_conditions
from brainvq.training.base import PriorTaskConfig
from brainvq.training.encoded import encode_split
from brainvq.training.experiment import Experiment, Watch, begin, data_facts, fit, open_data, share, silence, spread
from brainvq.training.labelled import ConditionsConfig, LabelledSplit, conditions_of, doubtful, read_columns, values_of

MOST_VARIANTS = 64


class PriorExperiment(Experiment):
    """A prior with the task that trains it; on whose codes is said when it is trained.

    Args:
        conditions: what it is told of images.
        variants: ways in which each training image is encoded, another one each epoch, round and round: as it is, and
            a little turned, scaled, shifted or mirrored.
    """

    prior: PartOf[PriorConfig]
    task: PartOf[PriorTaskConfig]
    conditions: ConditionsConfig = ConditionsConfig()
    variants: Annotated[int, Field(ge=1, le=MOST_VARIANTS)] = 1


def train_prior(
    experiment: PriorExperiment,
    tokenizer: str | Path,
    data: str | Path,
    out: Path,
    *,
    resume: bool = False,
    command: str = "",
    watch: Watch = silence,
) -> Path:
    """Train a prior of the codes that the run `tokenizer` makes of `data`, into the run folder `out`; returns it.

    `resume` goes on from the newest checkpoint of a run of the same settings, or starts one where there is none.

    Raises:
        InputError: data, tokenizer, folder or configuration do not fit, or a loss is not finite.
        Interrupted: a signal came; the run can be resumed.
    """
    accelerator = begin(experiment, out, kind="prior", resume=resume)
    watch = watch if accelerator.is_main_process else silence
    model = models.open_model(tokenizer, accelerator.device)
    spec = model.tokenizer.spec
    if (out / "config.json").exists():
        models.refuse_other_tokenizer(model, runs.read_config(out), out)
    with accelerator.main_process_first():
        caches = open_data(data, experiment.data, spec.multiple, accelerator.device, watch)
        for cache in caches.values():
            remember(cache)  # for audits of samples
        # before images are encoded, which takes long, so that what cannot be learned is refused at once
        columns = {name: read_columns(experiment.conditions, caches[name].root, caches[name]) for name in caches}
        conditions = conditions_of(columns["train"])
        for line in doubtful(columns["train"]):
            watch({"event": "note", "message": line})
        torch.manual_seed(experiment.train.seed)
        prior = experiment.prior.build(spec, caches["train"].size, conditions)
        codes = {name: encode_split(model, cache, _telling(watch, name)) for name, cache in caches.items()}
        others = [
            encode_split(model, caches["train"], _telling(watch, f"train, variant {n}"), variant=n)
            for n in range(1, experiment.variants)
        ]
    size = codes["train"].size
    labelled = {
        name: LabelledSplit(
            split,
            values_of(columns[name], conditions),
            previous=prior.takes_previous,
            variants=others if name == "train" else (),
        )
        for name, split in codes.items()
    }
    batches = (codes["train"].batch(indices) for indices in codes["train"].batches())
    vectors = model.tokenizer.vectors() if prior.takes_vectors else None
    prior.start(batches, codes["train"].orders, vectors)
    config = runs.describe_run(
        kind="prior",
        experiment=to_json(experiment),
        command=command,
        data=data_facts(data, caches),
        model=prior,
        spec=spec,
        steps=experiment.train.total(len(codes["train"])),
    )
    config |= {
        "size": list(size),
        "conditions": to_json_conditions(conditions),
        "tokenizer": {
            "path": _from(out.resolve(), Path(tokenizer).resolve()),
            "preset": model.config.get("preset"),
            "weights_sha256": model.weights_sha256,
        },
    }
    task = experiment.task.build(prior, accelerator, learning_rate=experiment.train.learning_rate)
    images, together = len(codes["train"]), experiment.train.batch_size
    mine = share(images, experiment.train, accelerator)
    return fit(
        task,
        experiment.train,
        config,
        out,
        accelerator,
        resume=resume,
        batch=lambda step: labelled["train"].batch(mine(step), step * together // images),
        validation=lambda: (labelled["validate"].batch(indices) for indices in spread(len(codes["validate"]))),
        watch=watch,
    )


def _from(out: Path, tokenizer: Path) -> str:
    """Where the tokenizer lies, seen from `out`; of one far away, or in the package, no more than its name."""
    above = (out.parent, out.parent.parent)
    near = tokenizer.parent in (out, *above) or tokenizer.parent.parent in above  # such as weights/ beside runs/
    return os.path.relpath(tokenizer, out) if near and not models.is_shipped(tokenizer) else tokenizer.name


def _telling(watch: Watch, split: str) -> Callable[[int, int], None]:
    return lambda done, count: watch({"event": "encode", "split": split, "done": done, "count": count})
