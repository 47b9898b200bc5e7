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
from typing import Any, Literal, Self

from pydantic import BaseModel, PositiveInt, ValidationError, model_validator

from brainvq import run as runs
from brainvq.config import from_json
from brainvq.errors import InputError
from brainvq.report.examples import Examples, load_examples
from brainvq.tables import rows
from brainvq.training.experiment import Experiment
from brainvq.training.log import read as read_log

SPLITS = ("test", "validate", "train")  # the first that was evaluated is the headline


class Split(BaseModel):
    subjects: int
    images: int
    fingerprint: str


class Data(BaseModel):
    name: str
    splits: dict[str, Split]
    size: list[PositiveInt]
    mean: float
    variance: float


class Hardware(BaseModel):
    cpu: str
    cores: int | None
    threads: int
    memory_gib: float | None
    gpu: str | None
    system: str


class Spec(BaseModel):
    entries: list[PositiveInt]
    strides: list[list[PositiveInt]]


class Facts(BaseModel):
    """config.json, but for the experiment. Null is what only the end of training knows."""

    preset: str
    command: str
    version: str
    data: Data
    spec: Spec
    parameters: dict[str, int]
    hardware: Hardware
    versions: dict[str, str]
    seed: int
    planned_steps: int
    steps: int | None
    images_seen: int | None
    wall_time_s: float | None
    weights_sha256: str | None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.spec.entries or len(self.spec.entries) != len(self.spec.strides):
            raise ValueError("spec needs one stride for each level of entries")
        if any(len(stride) != len(self.data.size) for stride in self.spec.strides):
            raise ValueError("spec.strides and data.size have other numbers of axes")
        return self


class Interval(BaseModel):
    mean: float
    low: float | None
    high: float | None


class Level(BaseModel):
    entries: int
    live_entries: int
    counts: list[int]


class Usage(BaseModel):
    live_entries: int
    dead_entries: int
    perplexity: float
    nominal_bits_per_pixel: float
    entropy_bits_per_pixel: float
    held_out_bits_per_pixel: float | None
    levels: list[Level]


class Measured(BaseModel):
    """Which images were measured."""

    name: str
    fingerprint: str
    subjects: int
    images: int


class Evaluation(BaseModel):
    """evaluation/SPLIT.json; `table` are the lines of `tables.rows`."""

    format: Literal[1]
    split: str
    data: Measured
    model: dict[str, Any]
    measures: dict[str, Interval]
    baselines: dict[str, dict[str, Interval]]
    per_subject: dict[str, dict[str, float]]
    usage: Usage
    definitions: dict[str, str]
    table: list[tuple[str, ...]] = []


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
            _refuse_incomplete(result, split)
            found[split] = result.model_copy(update={"table": rows(values)})
        except (OSError, ValueError, KeyError, TypeError):
            notes.append(f"evaluation/{split}.json is damaged and left out. Evaluate again on {split}.")
    return found


def _refuse_incomplete(result: Evaluation, split: str) -> None:
    levels = result.usage.levels
    if result.split != split or not result.per_subject or not levels:
        raise ValueError("of another split, or empty")
    if any(len(level.counts) != level.entries or level.entries < 1 for level in levels):
        raise ValueError("counts and entries differ")
    if any("ssim" not in row for row in result.per_subject.values()):
        raise ValueError("a subject has no SSIM")


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
