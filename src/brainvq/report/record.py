"""Everything that a report tells of a run, read once and checked: what is damaged or absent becomes a note, no crash.

Only config.json must be sound; without it the folder is no run.
"""

from __future__ import annotations

import json
import math
import shlex
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from brainvq import run as runs
from brainvq.config import from_json
from brainvq.errors import InputError
from brainvq.report.examples import Examples, load_examples
from brainvq.report.stored import Evaluation, Facts
from brainvq.tables import rows
from brainvq.training.experiment import Experiment
from brainvq.training.log import read as read_log

SPLITS = ("test", "validate", "train")  # the first that was evaluated is the headline


Line = dict[str, float]


@dataclass(frozen=True, eq=False)
class Record:
    """A run. `train` and `validate` are the lines of its log that hold numbers; `notes` are sentences for the reader;
    `evaluations` by split, the headline first; `experiment` is None where this version cannot read it."""

    folder: str
    facts: Facts
    settings: dict[str, Any]
    experiment: Experiment | None
    train: list[Line]
    validate: list[Line]
    notes: list[str]
    evaluations: dict[str, Evaluation]
    examples: dict[str, Examples] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.facts.steps is not None

    @property
    def step(self) -> int:
        """Steps done, as far as the run tells."""
        return int(self.facts.steps or max((line["step"] for line in [*self.train, *self.validate]), default=0))

    @property
    def headline(self) -> Evaluation | None:
        return next(iter(self.evaluations.values()), None)

    def told(self, result: Evaluation) -> str:
        """How the images of an evaluation stand to those of training, as far as the run can know."""
        splits = self.facts.data.splits
        if result.split == "train" or ("train" in splits and splits["train"].fingerprint == result.data.fingerprint):
            return "seen in training"
        if result.split in splits and splits[result.split].fingerprint != result.data.fingerprint:
            return f"that are not this run's own {result.split} split"
        return "not seen in training"

    def command(self, verb: str) -> str:
        """What to type for what is missing. The run goes by its folder's name: a page tells no path of the machine."""
        run = shlex.quote(self.folder)
        preset = shlex.quote(self.facts.preset)
        return {
            "evaluate": f"brainvq evaluate {run} --data DATA",
            "report": f"brainvq report {run}",
            "resume": f"brainvq train {preset} --data DATA --out {run} --resume",
        }[verb]


def read_record(folder: Path) -> Record:
    """Raises InputError where `folder` is no run, or its config.json does not fit this version."""
    config = runs.read_config(folder)
    try:
        facts = Facts.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{folder / 'config.json'} is damaged: {where}: {first['msg']}.") from error
    notes: list[str] = []
    experiment = _experiment(config, notes)
    lines = _log(folder / "log.jsonl", notes)
    evaluations = _evaluations(folder, notes)
    return Record(
        folder.resolve().name,
        facts,
        config.get("experiment") or {},
        experiment,
        lines["train"],
        lines["validate"],
        notes,
        evaluations,
        {split: found for split, result in evaluations.items() if (found := _examples(folder, result, facts, notes))},
    )


def _experiment(config: dict[str, Any], notes: list[str]) -> Experiment | None:
    try:
        return from_json(Experiment, config["experiment"])
    except (InputError, KeyError, TypeError, ValueError) as error:
        notes.append(f"This version of brainvq cannot read the run's settings, so no methods are written: {error}")
        return None


def _log(path: Path, notes: list[str]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {"train": [], "validate": []}
    try:
        lines: list[Any] = list(read_log(path))
    except (OSError, UnicodeDecodeError):
        lines = []
        notes.append("log.jsonl cannot be read; there are no curves.")
    for line in (line for line in lines if isinstance(line, dict)):
        numbers = {name: number for name, value in line.items() if (number := _number(value)) is not None}
        if line.get("event") in ("train", "validate") and "step" in numbers:
            found[line["event"]].append(numbers)
        elif line.get("event") == "note":
            notes.append(f"From the log, step {line.get('step')}: {line.get('message')}")
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with suppress(OverflowError):
        return float(value) if math.isfinite(value) else None
    return None


def _evaluations(folder: Path, notes: list[str]) -> dict[str, Evaluation]:
    found = {}
    for split in SPLITS:
        path = folder / "evaluation" / f"{split}.json"
        if not path.is_file():
            continue
        try:
            values = json.loads(path.read_bytes())
            result = Evaluation.model_validate(values)
            if result.split != split:
                raise ValueError(f"it is of {result.split}")
            found[split] = result.model_copy(update={"table": rows(values)})
        except (OSError, ValueError, KeyError, TypeError):
            notes.append(f"evaluation/{split}.json is damaged and left out. Evaluate again on {split}.")
    return found


def _examples(folder: Path, result: Evaluation, facts: Facts, notes: list[str]) -> Examples | None:
    """The examples of an evaluation, if they are of the same images and weights."""
    weights = result.model.get("weights_sha256")
    if facts.weights_sha256 and weights and facts.weights_sha256 != weights:
        notes.append(f"The {result.split} split was evaluated with earlier weights of this run. Evaluate it again.")
    try:
        examples = load_examples(folder / "evaluation" / "examples" / result.split)
    except InputError:
        return None
    same = (examples.about.fingerprint, examples.about.weights_sha256) == (result.data.fingerprint, weights)
    return examples if same and examples.items else None
