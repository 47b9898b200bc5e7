"""Runs behind a result: trained once, gone on with where they were cut off, measured once, and never mistaken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brainvq import screen
from brainvq.config import from_json
from brainvq.errors import InputError
from brainvq.run import read_config
from brainvq.session import evaluate_run, stored_evaluation, train_run
from brainvq.training.experiment import Experiment


def trained(
    run: Path, experiment: Experiment, data: str | Path, words: list[str], tokenizer: Path | None = None
) -> Path:
    """`run`, trained to its end. `words`: the command that does the same.

    Raises:
        InputError: it was trained with other settings than `experiment`.
    """
    if (run / "config.json").exists() and read_config(run)["weights_sha256"]:
        before = from_json(type(experiment), read_config(run)["experiment"])
        if before != experiment:
            raise InputError(
                f"{run} was trained with other settings than {words[1]} has now. Move it away to train anew."
            )
        print(f"{run.name}: trained, {run}")
        return run
    with screen.training(run.name) as watch:
        return train_run(experiment, data, run, tokenizer=tokenizer, resume=True, command=" ".join(words), watch=watch)


def evaluated(run: Path, data: str | Path) -> dict[str, Any]:
    """Its measures on validate."""
    if (run / "evaluation" / "validate.json").exists():
        found = stored_evaluation(run, "validate")
        if found["model"]["weights_sha256"] == read_config(run)["weights_sha256"]:
            print(f"{run.name}: evaluated")
            return found
    with screen.bar(f"evaluating {run.name}") as progress:
        return evaluate_run(run, str(data), "validate", progress=progress)
