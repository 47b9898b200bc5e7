"""Everything that a report tells of a run, read once and checked: what is damaged or absent becomes a note, no crash.

Only config.json must be sound; without it the folder is no run.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from pydantic import ValidationError

from brainvq import run as runs
from brainvq.config import from_json
from brainvq.errors import InputError
from brainvq.report.examples import Examples, load_examples
from brainvq.report.stored import Evaluation, Facts, Result
from brainvq.tables import rows
from brainvq.training.experiment import Experiment, TokenizerExperiment
from brainvq.training.log import read as read_log

SPLITS = ("test", "validate", "train")  # the first that was evaluated is the headline


Line = dict[str, float]


R = TypeVar("R", bound=Result)
E = TypeVar("E")


@dataclass(frozen=True, eq=False, kw_only=True)
class Run(Generic[R, E]):
    """What the pages of all runs tell. `train` and `validate` are the lines of the log that hold numbers; `notes` are
    sentences for the reader; `evaluations` by split, the headline first; `examples` of those that have some."""

    folder: str
    facts: Facts
    settings: dict[str, Any]
    train: list[Line]
    validate: list[Line]
    notes: list[str]
    evaluations: dict[str, R]
    examples: dict[str, E]

    @property
    def headline(self) -> R | None:
        return next(iter(self.evaluations.values()), None)

    @property
    def finished(self) -> bool:
        return self.facts.steps is not None

    @property
    def step(self) -> int:
        """Steps done, as far as the run tells."""
        return int(self.facts.steps or max((line["step"] for line in [*self.train, *self.validate]), default=0))

    def told(self, result: Result) -> str:
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

    def evaluate(self, result: Result) -> str:
        """What to type to measure the same split again."""
        return self.command("evaluate") + ("" if result.split == "validate" else f" --split {result.split}")


AnyRun: TypeAlias = Run[Any, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Record(Run[Evaluation, Examples]):
    """A tokenizer's run. `experiment` is None where this version cannot read it."""

    experiment: TokenizerExperiment | None


def read_record(folder: Path) -> Record:
    """A tokenizer's run.

    Raises:
        InputError: `folder` is no run, or its config.json does not fit this version.
    """
    return Record(**read_run(folder, Facts, TokenizerExperiment, _evaluation, load_examples))


def _evaluation(values: Any) -> Evaluation:
    return Evaluation.model_validate(values).model_copy(update={"table": rows(values)})


def read_run(
    folder: Path,
    facts_kind: type[Facts],
    experiment_kind: type[Experiment],
    read_evaluation: Callable[[Any], Result],
    load: Callable[[Path], Any],
) -> dict[str, Any]:
    """The fields of a `Record`, or of its like for another kind of model; what is damaged becomes a note.

    Args:
        read_evaluation: raises ValueError, KeyError or TypeError at what it cannot read.
        load: the examples in a folder; raises InputError where there are none.
    """
    config = runs.read_config(folder)
    facts = _facts(config, folder, facts_kind)
    notes: list[str] = []
    experiment = _experiment(config, experiment_kind, notes)
    lines = _log(folder, notes)
    evaluations = _evaluations(folder, read_evaluation, notes)
    for result in evaluations.values():
        _note_other_weights(result, facts, notes)
    return {
        "folder": folder.resolve().name,
        "facts": facts,
        "settings": config.get("experiment") or {},
        "experiment": experiment,
        **lines,
        "notes": notes,
        "evaluations": evaluations,
        "examples": {
            split: found for split, result in evaluations.items() if (found := _examples(folder, result, load))
        },
    }


def _facts(config: dict[str, Any], folder: Path, kind: type[Facts]) -> Facts:
    """Raises InputError that names the first value that does not fit."""
    try:
        return kind.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{folder / 'config.json'} is damaged: {where}: {first['msg']}.") from error


def _experiment(config: dict[str, Any], kind: type[Experiment], notes: list[str]) -> Experiment | None:
    try:
        return from_json(kind, config["experiment"])
    except (InputError, KeyError, TypeError, ValueError) as error:
        notes.append(f"This version of brainvq cannot read the run's settings, so no methods are written: {error}")
        return None


def _log(folder: Path, notes: list[str]) -> dict[str, list[Line]]:
    """Lines of "train" and of "validate"; what the log notes goes into `notes`."""
    found: dict[str, list[Line]] = {"train": [], "validate": []}
    try:
        lines: list[Any] = list(read_log(folder / "log.jsonl"))
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


def _evaluations(folder: Path, read: Callable[[Any], Result], notes: list[str]) -> dict[str, Result]:
    """By split, the headline first."""
    found = {}
    for split in SPLITS:
        path = folder / "evaluation" / f"{split}.json"
        if not path.is_file():
            continue
        try:
            result = read(json.loads(path.read_bytes()))
            if result.split != split:
                raise ValueError(f"it is of {result.split}")
            found[split] = result
        except (OSError, ValueError, KeyError, TypeError):
            notes.append(f"evaluation/{split}.json is damaged and left out. Evaluate again on {split}.")
    return found


def _note_other_weights(result: Result, facts: Facts, notes: list[str]) -> None:
    weights = result.model.get("weights_sha256")
    if facts.weights_sha256 and weights and facts.weights_sha256 != weights:
        notes.append(f"The {result.split} split was evaluated with earlier weights of this run. Evaluate it again.")


def _examples(folder: Path, result: Result, load: Callable[[Path], Any]) -> Any:
    """The examples of an evaluation, if they are of the same images and weights."""
    try:
        examples = load(folder / "evaluation" / "examples" / result.split)
    except InputError:
        return None
    about, weights = examples.about, result.model.get("weights_sha256")
    return examples if (about.fingerprint, about.weights_sha256) == (result.data.fingerprint, weights) else None
