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

SHOWN = 5  # files of a kind of problem on the screen, and problems in an error; JSON has all


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
    """`slices`: fewest and most scans of a subject. How many scans are of each of `sizes` (width x height of pictures,
    voxels along the axes of a volume's file), `spacings` (mm to the right, to the front, to the top), `orientations`
    and `types`. `values`: lowest and highest grey value of the files; None where none could be read."""

    name: str
    subjects: int
    images: int
    slices: tuple[int, int]
    sizes: dict[str, int]
    spacings: dict[str, int]
    orientations: dict[str, int]
    types: dict[str, int]
    values: tuple[float, float] | None


@dataclass(frozen=True)
class Findings:
    """`label_maps`: those told by their content, which no name gave away. `participants`: columns of a BIDS data set's
    table, and how many rows have an entry. `mean` and `variance`: of the pixels of the train split in [-1, 1], None for
    volumes and where none can be read. `problems`: the fatal ones first."""

    data: str
    layout: str
    volumes: bool
    splits: tuple[SplitFacts, ...]
    label_maps_left_out: int
    label_maps: tuple[str, ...]
    subject_pattern: str | None
    participants: dict[str, int] | None
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


def refuse_fatal(findings: Findings, data: str) -> None:
    """Raises InputError with the first fatal problems, if there are any."""
    fatal = findings.fatal
    if not fatal:
        return
    told = [f"{problem.kind}: {problem.file}: {problem.reason}" for problem in fatal[:SHOWN]]
    more = [f"and {len(fatal) - SHOWN:,} more"] if len(fatal) > SHOWN else []
    remedy = f" {fatal[0].remedy}" if len(fatal) == 1 else ""
    raise InputError(f"{data}: {'; '.join([*told, *more])}.{remedy} All that is wrong: brainvq check {data}.")


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
    for label in _columns(findings.volumes):
        shown.add_column(label, justify="right", overflow="fold")
    for split in findings.splits:
        low, high = split.slices
        slices = [] if findings.volumes else [f"{low}" if low == high else f"{low} to {high}"]
        space = [_counted(split.spacings), _counted(split.orientations)] if findings.volumes else []
        shown.add_row(
            split.name,
            f"{split.subjects:,}",
            f"{split.images:,}",
            *slices,
            _counted(split.sizes),
            *space,
            _counted(split.types),
            "-" if split.values is None else f"{split.values[0]:g} to {split.values[1]:g}",
        )
    return shown


def _columns(volumes: bool) -> list[str]:
    if volumes:
        return ["subjects", "volumes", "voxels", "mm", "axes", "type", "values"]
    return ["subjects", "images", "slices a subject", "pixels", "type", "values"]


def _counted(counts: dict[str, int]) -> str:
    """The commonest first, with numbers where there are several."""
    if len(counts) < 2:
        return _tight(next(iter(counts), "-"))
    most = sorted(counts.items(), key=lambda entry: -entry[1])
    return "\n".join([f"{_tight(name)} ({count:,})" for name, count in most[:3]] + ["..."] * (len(most) > 3))


def _tight(name: str) -> str:
    """Three sides take the room of two."""
    return name.replace(" x ", "x") if name.count(" x ") > 1 else name


def _notes(findings: Findings) -> Text:
    lines = [f"subject in a file's name: {findings.subject_pattern or 'not found'}"]
    if findings.label_maps_left_out:
        names = ", ".join(findings.label_maps[:SHOWN]) + (", ..." if len(findings.label_maps) > SHOWN else "")
        by_content = f" ({len(findings.label_maps):,} by their values: {names})" if findings.label_maps else ""
        lines.append(f"label maps left out:      {findings.label_maps_left_out:,}{by_content}")
    if findings.participants:
        told = ", ".join(f"{column} of {count:,}" for column, count in findings.participants.items())
        lines.append(f"participants.tsv:         {told}")
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
