"""Who is listed in the `participants.tsv` of a BIDS data set, beside whose scans are there.

Source: Gorgolewski et al., "The brain imaging data structure", Scientific Data 3, 2016. Ages, sexes and diagnoses are
personal: columns are named and their entries counted, and no value is passed on.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from brainvq.check.findings import Problem
from brainvq.data.layouts import BIDS_ROOT, natural
from brainvq.errors import counted

LONGEST = 1 << 24  # bytes of a table
SHOWN = 5  # subjects that are named
EMPTY = ("", "n/a")
SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")


@dataclass(frozen=True)
class Participants:
    """`columns`: of the table, each with how many rows have an entry."""

    columns: dict[str, int]
    problems: tuple[Problem, ...]


def read_participants(folder: Path, paths: Sequence[Path]) -> Participants | None:
    """Of the BIDS data set that holds the scans `paths` below `folder`; None where there is none, or no table."""
    above = [parent for parent in paths[0].parents if parent.is_relative_to(folder)]
    root = next((parent for parent in above if (parent / BIDS_ROOT).exists()), None)
    if root is None or not (root / "participants.tsv").is_file():
        return None
    name = (root / "participants.tsv").relative_to(folder).as_posix()
    try:
        header, rows = _read(root / "participants.tsv")
        at = header.index("participant_id")
    except (OSError, ValueError, csv.Error):  # bytes that are no text are a ValueError too
        remedy = "Save it as UTF-8 with tabs between columns, the first of them participant_id."
        return Participants({}, (Problem("participants", name, "cannot be read as a table", remedy, False),))
    listed = {row[at].strip() for row in rows if len(row) > at}
    columns = {
        column: sum(len(row) > n and row[n].strip() not in EMPTY for row in rows)
        for n, column in enumerate(header)
        if n != at
    }
    return Participants(columns, tuple(_problems(name, listed, _scanned(root, paths))))


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        text = file.read(LONGEST + 1)
    if len(text) > LONGEST:
        raise ValueError("too long for a table of people")
    header, *rows = [row for row in csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE) if row]
    return [column.strip() for column in header], rows


def _scanned(root: Path, paths: Sequence[Path]) -> set[str]:
    below = (path.relative_to(root).as_posix() for path in paths if path.is_relative_to(root))
    return {found[0] for name in below if (found := SUBJECT.search(name))}


def _problems(name: str, listed: set[str], scanned: set[str]) -> Iterator[Problem]:
    on_purpose = "Add the scans, or leave them out on purpose."
    for who, noun, lack, remedy in (
        (listed - scanned, "row", "without a scan of the kind asked for", on_purpose),
        (scanned - listed, "subject", "with scans and without a row", "Add their rows."),
    ):
        if who:
            some = sorted(who, key=natural)
            told = ", ".join(some[:SHOWN]) + (", ..." if len(some) > SHOWN else "")
            yield Problem("participants", name, f"{counted(len(some), noun)} {lack}: {told}", remedy, False)
