"""The whole path on embedded data, in a few minutes: synthetic heads, tokenizer, prior, measures, new heads."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainvq import run as runs
from brainvq import screen
from brainvq.config import override
from brainvq.data.cohort import cached_cohort
from brainvq.errors import InputError
from brainvq.presets import preset
from brainvq.report import write_report
from brainvq.sampling import sample_files
from brainvq.session import evaluate_run, train_run

COHORT = {"subjects": 40, "slices": 16, "size": 128}
PARTS = ("tokenizer", "prior", "samples")
SAMPLES = 16


@dataclass(frozen=True)
class Demo:
    """What a demo leaves: the evaluations of tokenizer and prior, and the folders of both and of the samples."""

    tokenizer: dict[str, Any]
    prior: dict[str, Any]
    folder: Path


def run_demo(out: Path, *, steps: int | None = None, force: bool = False) -> Demo:
    """Train a tokenizer and a prior (for `steps` each, or as long as the presets say), evaluate, sample, report.

    Raises:
        InputError: `out` exists and is not an earlier demo, or is one and `force` is not set.
    """
    tokenizer, prior, samples = (out / name for name in PARTS)
    _refuse_other_folder(out, tokenizer, force=force)
    with screen.bar("embedded heads") as progress:
        data = cached_cohort(**COHORT, progress=progress)
    for folder in (tokenizer, prior, samples):
        shutil.rmtree(folder, ignore_errors=True)
    settings = [] if steps is None else [f"train.steps={steps}"]
    with screen.training("tokenizer") as watch:
        experiment = override(preset("demo"), settings)
        train_run(experiment, data, tokenizer, command="brainvq demo", watch=watch)
    with screen.training("prior") as watch:
        experiment = override(preset("demo_prior"), settings)
        train_run(experiment, data, prior, tokenizer=tokenizer, command="brainvq demo", watch=watch)
    results = []
    for run in (tokenizer, prior):
        with screen.bar(f"evaluating {run.name}") as progress:
            results.append(evaluate_run(run, str(data), "validate", progress=progress))
        write_report(run)
    with screen.bar("sampling") as progress:
        sample_files(prior, SAMPLES, samples, progress=progress)
    return Demo(results[0], results[1], out)


def _refuse_other_folder(out: Path, run: Path, *, force: bool) -> None:
    if not out.exists() or not any(out.iterdir()):
        return
    if not (run / "config.json").exists() or runs.read_config(run).get("preset") != "demo":
        raise InputError(f"{out} exists and is not an earlier demo. Give another --out; nothing was changed.")
    if not force:
        raise InputError(f"{out} holds an earlier demo: see {run / 'report.html'}. --force makes it anew.")
