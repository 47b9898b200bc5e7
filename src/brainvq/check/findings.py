"""What `check` found, as values and as a table for the screen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from brainvq.errors import InputError

SHOWN = 5  # files of a kind of problem on the screen; JSON has all


@dataclass(frozen=True)
class Problem:
    """`file` is relative to the data folder, "." for the folder itself; `fatal`: training would fail or mislead."""

    kind: str
    file: str
    reason: str
    remedy: str
    fatal: bool


@dataclass(frozen=True)
class SplitFacts:
    """`slices`: fewest and most of a subject. `sizes` (width x height) and `types`: how many images of each. `values`:
    lowest and highest grey value of the files; None where none could be read."""

    name: str
    subjects: int
    images: int
    slices: tuple[int, int]
    sizes: dict[str, int]
    types: dict[str, int]
    values: tuple[float, float] | None


@dataclass(frozen=True)
class Findings:
    """`mean` and `variance`: of the pixels of the train split in [-1, 1], None where none can be read. `problems`: the
    fatal ones first."""

    data: str
    layout: str
    splits: tuple[SplitFacts, ...]
    label_maps_left_out: int
    subject_pattern: str | None
    mean: float | None
    variance: float | None
    problems: tuple[Problem, ...]

    @property
    def fatal(self) -> tuple[Problem, ...]:
        """The problems that stand in the way of training."""
        return tuple(problem for problem in self.problems if problem.fatal)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `trainable` is False where any problem is fatal."""
        return {**asdict(self), "trainable": not self.fatal}


def from_error(kind: str, path: Path, error: InputError, folder: Path) -> Problem:
    """A fatal problem from a message of `data/`: "PATH: what is wrong. What to do."."""
    reason, _, remedy = str(error).removeprefix(f"{path}: ").rpartition(". ")
    return Problem(kind, path.relative_to(folder).as_posix(), reason, remedy, True)


def table(findings: Findings) -> RenderableType:
    """What is there, what is wrong, and whether training can start, for the screen."""
    wrong = [_problems(findings)] if findings.problems else []
    return Group(_there(findings), _notes(findings), Text(), *wrong, _verdict(findings))


def _there(findings: Findings) -> Table:
    shown = Table(
        title=escape(f"{findings.data}: {findings.layout}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    shown.add_column("split")
    for label in ("subjects", "images", "slices a subject", "pixels", "type", "values"):
        shown.add_column(label, justify="right")
    for split in findings.splits:
        low, high = split.slices
        shown.add_row(
            split.name,
            f"{split.subjects:,}",
            f"{split.images:,}",
            f"{low}" if low == high else f"{low} to {high}",
            _counted(split.sizes),
            _counted(split.types),
            "-" if split.values is None else f"{split.values[0]:g} to {split.values[1]:g}",
        )
    return shown


def _counted(counts: dict[str, int]) -> str:
    """The commonest first, with numbers where there are several."""
    if len(counts) < 2:
        return next(iter(counts), "-")
    most = sorted(counts.items(), key=lambda entry: -entry[1])
    return "\n".join([f"{name} ({count:,})" for name, count in most[:3]] + ["..."] * (len(most) > 3))


def _notes(findings: Findings) -> Text:
    lines = [f"subject in a file's name: {findings.subject_pattern or 'not found'}"]
    if findings.label_maps_left_out:
        lines.append(f"label maps left out:      {findings.label_maps_left_out:,}")
    if findings.mean is not None:
        lines.append(f"train pixels in [-1, 1]:  mean {findings.mean:.4f}, variance {findings.variance:.4f}")
    return Text("\n".join(lines))


def _problems(findings: Findings) -> Text:
    """A heading for each kind of problem, and a line for each file."""
    shown = Text()
    for (mild, kind), group in groupby(sorted(findings.problems, key=_kind), key=_kind):
        of_kind = list(group)
        remedies = {problem.remedy for problem in of_kind}
        once = of_kind[0].remedy if len(remedies) == 1 < len(of_kind) else ""
        heading = f"{'warning' if mild else 'problem'}: {kind} ({len(of_kind):,})"
        shown.append(heading, "yellow" if mild else "bold red").append(f"  {once}\n" if once else "\n")
        for problem in of_kind[:SHOWN]:
            remedy = "" if once else f" {problem.remedy}"
            shown.append(f"  {problem.file}", "bold").append(f": {problem.reason}.{remedy}\n")
        if len(of_kind) > SHOWN:
            shown.append(f"  and {len(of_kind) - SHOWN:,} more; --json names all\n", "dim")
    return shown


def _kind(problem: Problem) -> tuple[bool, str]:
    return not problem.fatal, problem.kind


def _verdict(findings: Findings) -> Text:
    fatal, warnings = len(findings.fatal), len(findings.problems) - len(findings.fatal)
    beside = f"{_plural(warnings, 'warning')}" if warnings else "nothing wrong"
    if fatal:
        also = f" ({beside} beside)" if warnings else ""
        return Text(f"Not ready: {_plural(fatal, 'problem')} to mend before training{also}.", "bold red")
    return Text(f"Ready to train: {beside}.", "bold yellow" if warnings else "bold green")


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
