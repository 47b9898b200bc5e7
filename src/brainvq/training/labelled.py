"""Codes with what is known of their images: what a prior learns from, where it takes conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainvq.codes import Codes
from brainvq.config import Config
from brainvq.data.columns import SLICE, slice_numbers, subject_columns
from brainvq.data.loader import Cache
from brainvq.errors import InputError
from brainvq.priors.conditions import Categorical, Conditions, Given, Numeric
from brainvq.training.encoded import EncodedSplit

MOST_VALUES = 32
"""Of a categorical column: more are names or remarks, and would be written into the run."""
Columns = dict[str, list[str | None]]


class ConditionsConfig(Config):
    """What a prior is told of images.

    Args:
        columns: "slice", the number in an image's name, and columns of a table of subjects.
        table: its file name, beside the data; null for subjects.csv or participants.tsv.
    """

    columns: tuple[str, ...] = ()
    table: str | None = None


@dataclass(frozen=True)
class Labelled:
    """A batch: codes, each level (B, *grid), and what is known of their images."""

    codes: Codes
    given: Given | None


class LabelledSplit:
    """The codes of a split with what is known of its images.

    `previous`: with the codes of the slice before too. `variants`: the codes of the split's images a little otherwise.
    """

    def __init__(
        self, encoded: EncodedSplit, values: Tensor, *, previous: bool, variants: Sequence[EncodedSplit] = ()
    ) -> None:
        self.encoded, self.previous, self.variants = encoded, previous, (encoded, *variants)
        self.values = values if values.shape[1] else torch.zeros(len(encoded), 0)
        subjects = np.array(encoded.subjects, dtype=str)
        self.first = torch.from_numpy(np.r_[True, subjects[1:] != subjects[:-1]])
        """Images without a slice before, (N,)."""

    def __len__(self) -> int:
        return len(self.encoded)

    def batch(self, indices: Tensor | NDArray[np.int64] | Sequence[int], epoch: int | None = None) -> Labelled:
        """`epoch`: of training, which mixes all variants, each image another one in the next; None: the images
        themselves."""
        picks = torch.as_tensor(indices, dtype=torch.int64)
        variants = torch.zeros_like(picks) if epoch is None else (picks + epoch) % len(self.variants)
        codes = self._codes(picks, variants)
        if not (self.values.shape[1] or self.previous):
            return Labelled(codes, None)
        before = None
        if self.previous:
            first = self.first[picks].to(self.encoded.device)
            found = self._codes((picks - 1).clamp(min=0), variants)
            before = tuple(level.masked_fill(first.view(-1, *[1] * (level.ndim - 1)), -1) for level in found)
        return Labelled(codes, Given(self.values[picks].to(self.encoded.device), before))

    def _codes(self, picks: Tensor, variants: Tensor) -> Codes:
        """Of each of the `picks` (B,) its variant (B,)."""
        found = self.encoded.batch(picks)
        for n in sorted(set(variants.tolist())):
            mine = variants == n
            for level, other in zip(found, self.variants[n].batch(picks[mine]), strict=True):
                level[mine.to(level.device)] = other
        return found


def read_columns(config: ConditionsConfig, root: Path, cache: Cache) -> Columns:
    """For each column the entry of each image, in the order asked for.

    Raises:
        InputError: no such column or table, or rows that do not fit the subjects.
    """
    asked = [column for column in config.columns if column != SLICE]
    found: Columns = dict(subject_columns(root, cache.subjects, asked, config.table)) if asked else {}
    if SLICE in config.columns:
        found[SLICE] = list(slice_numbers(cache.names))
    return {column: found[column] for column in config.columns}


def conditions_of(columns: Columns) -> Conditions:
    """What these train columns hold: numbers where every entry is one, else categories.

    Raises:
        InputError: a column is empty, or has more categories than a condition may.
    """
    return tuple(
        _condition(name, [entry for entry in entries if entry is not None]) for name, entries in columns.items()
    )


def _condition(name: str, entries: Sequence[str]) -> Numeric | Categorical:
    distinct = sorted(set(entries))
    if not distinct:
        raise InputError(f"the column {name!r} is empty for all train subjects. Leave it out of the conditions.")
    numbers = [_number(entry) for entry in distinct]
    if all(number is not None for number in numbers):
        known = [number for number in numbers if number is not None]
        whole = all(number == int(number) for number in known)
        return Numeric(name=name, low=min(known), high=max(known), whole=whole)
    if len(distinct) > MOST_VALUES and (slip := _slip(distinct)) is not None:
        raise InputError(
            f"the column {name!r} holds numbers, and {slip!r}, which is none. Correct that cell or leave it empty."
        )
    if len(distinct) > MOST_VALUES:
        raise InputError(
            f"the column {name!r} holds {len(distinct):,} different texts; a condition has at most {MOST_VALUES}. "
            "Group them, or leave the column out."
        )
    return Categorical(name=name, values=tuple(distinct))


def doubtful(columns: Columns) -> list[str]:
    """Of each column that is read as categories though most of its entries are numbers, a line that says so."""
    return [
        f"the column {name!r} is read as categories, for {slip!r} is no number. If it is to be one of numbers, correct "
        "that cell or leave it empty."
        for name, entries in columns.items()
        if (slip := _slip([entry for entry in entries if entry is not None])) is not None
    ]


def _slip(entries: Sequence[str]) -> str | None:
    """The first text of a column that holds mostly numbers."""
    distinct = sorted(set(entries))
    texts = [entry for entry in distinct if _number(entry) is None]
    return texts[0] if texts and 2 * len(texts) < len(distinct) else None


def values_of(columns: Columns, conditions: Conditions) -> Tensor:
    """(N, conditions) float32; NaN where an entry is missing, or is one that no train subject has."""
    found = [[_value(condition, entry) for entry in columns[condition.name]] for condition in conditions]
    return torch.tensor(found, dtype=torch.float32).T if found else torch.zeros(0, 0)


def _value(condition: Numeric | Categorical, entry: str | None) -> float:
    try:
        return math.nan if entry is None else condition.column(entry)
    except InputError:
        return math.nan


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
