"""What `check` found, as values and as a table for the screen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from brainvq.errors import InputError, counted, printable

KINDS = 3  # of sizes, spacings ... in a cell of the table
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
    """`slices`: fewest and most scans of a subject. How many scans are of each of `sizes` (height x width of pictures,
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


def in_mm(spacing: Iterable[float]) -> str:
    """Three significant digits of each: what is tiny or huge is to be seen."""
    return " x ".join(f"{mm:.3g}" for mm in spacing)


def from_error(kind: str, path: Path, error: InputError, folder: Path, *, fatal: bool = True) -> Problem:
    """A problem from a message of `data/`: "PATH: what is wrong. What to do."."""
    reason, _, remedy = str(error).removeprefix(f"{path}: ").rpartition(". ")
    return Problem(kind, path.relative_to(folder).as_posix(), reason, remedy, fatal)


def refuse_fatal(findings: Findings, data: str, command: str) -> None:
    """Raises InputError with the first fatal problems, if there are any; `command` tells all."""
    fatal = findings.fatal
    if not fatal:
        return
    told = [f"{problem.kind}: {problem.file}: {problem.reason}" for problem in fatal[:SHOWN]]
    more = [f"and {len(fatal) - SHOWN:,} more"] if len(fatal) > SHOWN else []
    remedy = f" {fatal[0].remedy}" if len(fatal) == 1 else ""
    raise InputError(f"{data}: {'; '.join([*told, *more])}.{remedy} All that is wrong: {command}.")


def table(findings: Findings) -> RenderableType:
    """What is there, what is wrong, and whether training can start, for the screen."""
    wrong = [_problems(findings)] if findings.problems else []
    return Group(_there(findings), _notes(findings), Text(), *wrong, _verdict(findings))


def _there(findings: Findings) -> Table:
    """A column for each split; an entry is never cut in two, however narrow the screen."""
    shown = Table(
        title=escape(printable(f"{findings.data}: {findings.layout}")),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    facts = [_facts(split, findings.volumes) for split in findings.splits]
    shown.add_column("split", no_wrap=True)
    for split, own in zip(findings.splits, facts, strict=True):
        widest = max(len(line) for cell in own.values() for line in cell.split("\n"))
        shown.add_column(split.name, justify="right", no_wrap=True, min_width=max(widest, len(split.name)))
    for label in facts[0] if facts else ():
        shown.add_row(label, *(own[label] for own in facts))
    return shown


def _facts(split: SplitFacts, volumes: bool) -> dict[str, str]:
    """Cells by their label."""
    low, high = split.slices
    many = {"subjects": f"{split.subjects:,}", "volumes" if volumes else "images": f"{split.images:,}"}
    if volumes:
        space = {"voxels": _counted(split.sizes), "mm": _counted(split.spacings), "axes": _counted(split.orientations)}
    else:
        each = f"{low}" if low == high else f"{low} to {high}"
        space = {"slices a subject": each, "height x width": _counted(split.sizes)}
    values = "-" if split.values is None else f"{split.values[0]:g} to {split.values[1]:g}"
    return {**many, **space, "type": _counted(split.types), "values": values}


def _counted(counts: dict[str, int]) -> str:
    """The commonest first, with numbers where there are several."""
    if len(counts) < 2:
        return _tight(next(iter(counts), "-"))
    most = sorted(counts.items(), key=lambda entry: -entry[1])
    more = [f"and {len(most) - KINDS:,} more"] if len(most) > KINDS else []
    return "\n".join([f"{_tight(name)} ({count:,})" for name, count in most[:KINDS]] + more)


def _tight(name: str) -> str:
    """Three sides take the room of two."""
    return name.replace(" x ", "x") if name.count(" x ") > 1 else name


def _notes(findings: Findings) -> Text:
    lines = [f"subject in a file's name: {findings.subject_pattern or 'not found'}"]
    if findings.label_maps_left_out:
        more = len(findings.label_maps) - SHOWN
        names = ", ".join(findings.label_maps[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
        by_content = f" ({len(findings.label_maps):,} by their values: {names})" if findings.label_maps else ""
        lines.append(f"label maps left out:      {findings.label_maps_left_out:,}{by_content}")
    if findings.participants:
        told = ", ".join(f"{column} ({count:,})" for column, count in findings.participants.items())
        lines.append(f"participants.tsv:         columns, with filled cells: {told}")
    if findings.mean is not None:
        lines.append(f"train pixels in [-1, 1]:  mean {findings.mean:.4f}, variance {findings.variance:.4f}")
    return Text("\n".join(map(printable, lines)))


def _problems(findings: Findings) -> Text:
    """A heading for each kind of problem, and a line for each file."""
    shown = Text()
    for (mild, kind), group in groupby(sorted(findings.problems, key=_kind), key=_kind):
        of_kind = list(group)
        remedies = {problem.remedy for problem in of_kind}
        once = printable(of_kind[0].remedy) if len(remedies) == 1 < len(of_kind) else ""
        heading = f"{'warning' if mild else 'problem'}: {kind} ({len(of_kind):,})"
        shown.append(heading, "yellow" if mild else "bold red").append(f"  {once}\n" if once else "\n")
        for problem in of_kind[:SHOWN]:
            remedy = "" if once else f" {problem.remedy}"
            told = printable(f": {problem.reason}.{remedy}")
            shown.append(f"  {printable(problem.file)}", "bold").append(f"{told}\n")
        if len(of_kind) > SHOWN:
            shown.append(f"  and {len(of_kind) - SHOWN:,} more; --json names all\n", "dim")
    return shown


def _kind(problem: Problem) -> tuple[bool, str]:
    return not problem.fatal, problem.kind


def _verdict(findings: Findings) -> Text:
    fatal, warnings = len(findings.fatal), len(findings.problems) - len(findings.fatal)
    beside = f"{counted(warnings, 'warning')}" if warnings else "nothing wrong"
    if fatal:
        also = f" ({beside} beside)" if warnings else ""
        return Text(f"Not ready: {counted(fatal, 'problem')} to mend before training{also}.", "bold red")
    return Text(f"Ready to train: {beside}.", "bold yellow" if warnings else "bold green")
