"""Runs behind a result: trained once, gone on with where they were cut off, measured once, and never mistaken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brainvq import screen
from brainvq.config import from_json
from brainvq.errors import InputError
from brainvq.evaluate_prior import SAMPLES
from brainvq.models import Model, grain_of, open_model
from brainvq.run import read_config
from brainvq.session import evaluate_run, finetune_run, stored_evaluation, train_run
from brainvq.training.experiment import Experiment
from brainvq.training.finetune import finetuning


def trained(
    run: Path, experiment: Experiment, data: str | Path, words: list[str], tokenizer: Path | None = None
) -> Path:
    """`run`, trained to its end. `words`: the command that does the same.

    Raises:
        InputError: it was trained with other settings than `experiment`.
    """
    if _done(run, experiment, words):
        return run
    with screen.training(run.name) as watch:
        return train_run(experiment, data, run, tokenizer=tokenizer, resume=True, command=" ".join(words), watch=watch)


def sharpened(run: Path, model: Path, settings: list[str], data: str | Path, words: list[str]) -> Path:
    """`run`, the tokenizer `model` with its decoder trained to the end of fine-tuning. `words`: as for `trained`.

    Raises:
        InputError: it was trained with other settings.
    """
    if _done(run, finetuning(open_model(model), settings), words):
        return run
    with screen.training(run.name) as watch:
        chosen = {"encoder": False, "settings": settings, "resume": True}
        return finetune_run(model, data, run, **chosen, command=" ".join(words), watch=watch)


def _done(run: Path, experiment: Experiment, words: list[str]) -> bool:
    """Whether it is trained to its end.

    Raises:
        InputError: with other settings.
    """
    if not (run / "config.json").exists() or not read_config(run)["weights_sha256"]:
        return False
    if from_json(type(experiment), read_config(run)["experiment"]) != experiment:
        raise InputError(f"{run} was trained with other settings than {words[1]} has now. Move it away to train anew.")
    print(f"{run.name}: trained, {run}")
    return True


def evaluated(run: Path, data: str | Path, tokenizer: Path | None = None, samples: int = SAMPLES) -> dict[str, Any]:
    """Its measures on validate. Of a prior: its `tokenizer`, and how many `samples` are measured."""
    if (run / "evaluation" / "validate.json").exists():
        found = stored_evaluation(run, "validate")
        same = found["model"]["weights_sha256"] == read_config(run)["weights_sha256"]
        if same and (tokenizer is None or _drawn_by(found) == _drawn_by(open_model(tokenizer))):
            print(f"{run.name}: evaluated")
            return found
    with screen.bar(f"evaluating {run.name}") as progress:
        found = {"tokenizer": tokenizer, "samples": samples, "progress": progress}
        return evaluate_run(run, str(data), "validate", **found)


def _drawn_by(what: dict[str, Any] | Model) -> tuple[Any, Any]:
    """Hashes of the tokenizer and its grain: of a prior's evaluation, or as they are now."""
    if isinstance(what, Model):
        grain = grain_of(what)
        return what.weights_sha256, grain.sha256 if grain else None
    return what["tokenizer"]["weights_sha256"], what["tokenizer"].get("grain_sha256")
