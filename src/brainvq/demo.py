"""The whole path on embedded data, in a few minutes: synthetic heads, a tokenizer, its measures, a report."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from brainvq import run as runs
from brainvq import screen
from brainvq.config import override
from brainvq.data.cohort import cached_cohort
from brainvq.errors import InputError
from brainvq.presets import preset
from brainvq.report import write_report
from brainvq.session import evaluate_run
from brainvq.training.experiment import train

COHORT = {"subjects": 40, "slices": 16, "size": 128}


def run_demo(out: Path, *, steps: int | None = None, force: bool = False) -> tuple[dict[str, Any], Path]:
    """Train (for `steps`, or as long as the preset says), evaluate and report into `out`; evaluation and report's path.

    Raises:
        InputError: `out` exists and is not an earlier demo, or is one and `force` is not set.
    """
    run = out / "tokenizer"
    _refuse_other_folder(out, run, force=force)
    with screen.bar("embedded heads") as progress:
        data = cached_cohort(**COHORT, progress=progress)
    if run.exists():
        shutil.rmtree(run)
    settings = [] if steps is None else [f"train.steps={steps}"]
    with screen.training("training") as watch:
        train(override(preset("demo"), settings), data, run, command="brainvq demo", watch=watch)
    with screen.bar("evaluating") as progress:
        result = evaluate_run(run, str(data), "validate", progress=progress)
    return result, write_report(run)


def _refuse_other_folder(out: Path, run: Path, *, force: bool) -> None:
    if not out.exists() or not any(out.iterdir()):
        return
    if not (run / "config.json").exists() or runs.read_config(run).get("preset") != "demo":
        raise InputError(f"{out} exists and is not an earlier demo. Give another --out; nothing was changed.")
    if not force:
        raise InputError(f"{out} holds an earlier demo: see {run / 'report.html'}. --force makes it anew.")
