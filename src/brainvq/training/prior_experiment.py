"""An experiment with a prior, carried out: images become codes once, the prior learns the codes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from brainvq import models
from brainvq import run as runs
from brainvq.config import PartOf, to_json
from brainvq.priors.base import PriorConfig
from brainvq.training.base import PriorTaskConfig
from brainvq.training.encoded import encode_split
from brainvq.training.experiment import Experiment, Watch, begin, data_facts, fit, open_data, share, silence, spread


class PriorExperiment(Experiment):
    """A prior with the task that trains it; on whose codes is said when it is trained."""

    prior: PartOf[PriorConfig]
    task: PartOf[PriorTaskConfig]


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
        codes = {name: encode_split(model, cache, _telling(watch, name)) for name, cache in caches.items()}
    size = codes["train"].size
    torch.manual_seed(experiment.train.seed)
    prior = experiment.prior.build(spec, size)
    prior.start((codes["train"].batch(indices) for indices in codes["train"].batches()), codes["train"].orders)
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
        "tokenizer": {
            "path": _from(out.resolve(), Path(tokenizer).resolve()),
            "preset": model.config.get("preset"),
            "weights_sha256": model.weights_sha256,
        },
    }
    task = experiment.task.build(prior, accelerator, learning_rate=experiment.train.learning_rate)
    mine = share(len(codes["train"]), experiment.train, accelerator)
    return fit(
        task,
        experiment.train,
        config,
        out,
        accelerator,
        resume=resume,
        batch=lambda step: codes["train"].batch(mine(step)),
        validation=lambda: (codes["validate"].batch(indices) for indices in spread(len(codes["validate"]))),
        watch=watch,
    )


def _from(out: Path, tokenizer: Path) -> str:
    """Where the tokenizer lies, seen from `out`; of one that lies far away no more than its name."""
    near = tokenizer.parent in (out, out.parent, out.parent.parent)
    return os.path.relpath(tokenizer, out) if near else tokenizer.name


def _telling(watch: Watch, split: str) -> Callable[[int, int], None]:
    return lambda done, count: watch({"event": "encode", "split": split, "done": done, "count": count})
