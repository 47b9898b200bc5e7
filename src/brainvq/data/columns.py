"""What is known of images beside their pixels: which slice of a head each is, and the columns of a table of subjects.

The table lies with the data: `subjects.csv`, as `brainvq cohort` writes it, or a BIDS data set's `participants.tsv`, or
one that is named. Its rows are subjects, found by the column `subject` or `participant_id` (where `sub-01` is 01 too).
Only the columns that are asked for are read into anything.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from brainvq.config import did_you_mean
from brainvq.data.layouts import natural
from brainvq.errors import InputError

SLICE = "slice"  # the column that needs no table
TABLES = ("subjects.csv", "participants.tsv")
KEYS = ("subject", "participant_id")
MISSING = ("", "n/a", "na", "nan", "none", "null")
LONGEST = 1 << 24  # bytes of a table
SHOWN = 5  # subjects that are named in an error


def slice_numbers(names: Sequence[str]) -> list[str]:
    """Of each image the last number in its name: `case_001_slice_12.nii.png` and `a.nii.gz:12` are 12.

    Raises:
        InputError: a name without one.
    """
    found = []
    for name in names:
        stem = Path(name).name if ":" not in name else name[name.rindex(":") :]
        numbers = re.findall(r"\d+", re.sub(r"(?:\.[A-Za-z]\w*)+$", "", stem))
        if not numbers:
            raise InputError(
                f"{name}: no number of a slice in its name. Name slices like case_001_slice_12.png, or leave "
                f"{SLICE!r} out of the conditions."
            )
        found.append(str(int(numbers[-1])))
    return found


def subject_columns(
    root: Path, subjects: Sequence[str], columns: Sequence[str], table: str | None
) -> dict[str, list[str | None]]:
    """For each column the entry of each of `subjects`, which may come often; None where the table has none.

    `table`: a file name in or above the layout's folder `root`; None for the usual ones.

    Raises:
        InputError: there is no such table or column, a subject has no row or two, or the file is no table.
    """
    path = _find(root, table)
    header, rows = _read(path)
    key = next((name for name in KEYS if name in header), None)
    if key is None:
        raise InputError(
            f"{path}: no column {' or '.join(KEYS)} among {', '.join(header)}. Name the column of subjects so."
        )
    for column in columns:
        if column not in header or column == key:
            known = ", ".join(name for name in header if name != key)
            raise InputError(
                f"{path}: no column {column!r}{did_you_mean(column, header)} Choose among {SLICE}, {known}."
            )
    found = _by_subject(path, [row[header.index(key)] for row in rows], rows)
    _refuse_missing(path, sorted(set(subjects) - set(found), key=natural))
    return {column: [_entry(found[subject][header.index(column)]) for subject in subjects] for column in columns}


def _find(root: Path, table: str | None) -> Path:
    names = TABLES if table is None else (table,)
    if table is not None and Path(table).name != table:
        raise InputError(f"conditions.table is {table!r}; a file name is expected, of a table that lies with the data.")
    for folder in (root, root.parent):  # of split folders, the layout lies in a folder of its own
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise InputError(
        f"{root}: no table of subjects ({' or '.join(names)}) lies there. Put one into this folder, with a "
        f"column {KEYS[0]!r}, or say by conditions.table which file of it is the table."
    )


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and rows as long as it."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise ValueError(f"more than {LONGEST:,} bytes")
        tabs = path.suffix.lower() == ".tsv"
        lines = [row for row in csv.reader(text.splitlines(), delimiter="\t" if tabs else ",") if row]
        if not lines:
            raise ValueError("it is empty")
        header = [name.strip() for name in lines[0]]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: is no table ({error}). Save it as UTF-8 with a header.") from error
    for row in lines[1:]:
        if len(row) != len(header):
            raise InputError(f"{path}: a row has {len(row)} cells and the header {len(header)}. Correct the table.")
    double = [name for name, count in Counter(header).items() if count > 1]
    if double:
        raise InputError(f"{path}: the column {double[0]!r} comes twice. Rename one.")
    return header, lines[1:]


def _by_subject(path: Path, keys: Sequence[str], rows: Sequence[list[str]]) -> dict[str, list[str]]:
    """By the key as it stands, and without its `sub-`."""
    keys = [key.strip() for key in keys]
    twice = sorted((key for key, count in Counter(keys).items() if count > 1), key=natural)
    if twice:
        raise InputError(
            f"{path}: {len(twice)} subjects come more than once: {_some(twice)}. Keep one row for each subject."
        )
    by_key = dict(zip(keys, rows, strict=True))
    return {key.removeprefix("sub-"): row for key, row in by_key.items()} | by_key


def _refuse_missing(path: Path, missing: Sequence[str]) -> None:
    if missing:
        raise InputError(
            f"{path}: {len(missing)} subjects with images have no row: {_some(missing)}. Add their rows; cells may be "
            "empty."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _entry(cell: str) -> str | None:
    return None if cell.strip().lower() in MISSING else cell.strip()
