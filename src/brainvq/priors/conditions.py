"""What a prior may be told of the images: numbers and categories by name, and the codes of the slice before.

A condition knows what was there in training: a number its range, a category its values, so that a wish for anything
else is refused by name. Values travel as one tensor, a column a condition; NaN says nothing, and that is what training
says at random, so that one network models images with and without each condition (J. Ho and T. Salimans,
Classifier-Free Diffusion Guidance, 2021).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from brainvq.codes import Codes
from brainvq.config import Config, did_you_mean
from brainvq.errors import InputError

WAVES = 8
"""Pairs of sine and cosine that stand for a number, the fastest of WAVES / 2 periods over its range."""


class Numeric(Config):
    """A number of this range in training; `whole`: there were whole numbers alone."""

    kind: Literal["numeric"] = "numeric"
    name: str
    low: float
    high: float
    whole: bool = False

    def column(self, text: str) -> float:
        """What `text` says, as it stands in the tensor: 0 at the lowest and 1 at the highest value of training.

        Raises:
            InputError: no number, or outside what training has seen.
        """
        try:
            value = float(text)
        except ValueError as error:
            raise InputError(f"{self.name}={text} is no number. {self.expected}") from error
        if not self.low <= value <= self.high:
            raise InputError(f"{self.name}={text} was never seen in training. {self.expected}")
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0

    def text(self, uniform: float) -> str:
        """A value drawn evenly from the range by a number in [0, 1)."""
        if self.whole:
            return str(int(self.low + uniform * (self.high - self.low + 1)))
        return repr(min(self.high, self.low + uniform * (self.high - self.low)))

    @property
    def expected(self) -> str:
        return f"Give {self.name} from {self.low:g} to {self.high:g}."


class Categorical(Config):
    """One of these words."""

    kind: Literal["categorical"] = "categorical"
    name: str
    values: tuple[str, ...]

    def column(self, text: str) -> float:
        """The index of `text` among the values.

        Raises:
            InputError: none of them.
        """
        if text not in self.values:
            raise InputError(f"{self.name}={text} was never seen in training. {self.expected}")
        return float(self.values.index(text))

    def text(self, uniform: float) -> str:
        """A value drawn evenly by a number in [0, 1)."""
        return self.values[int(uniform * len(self.values))]

    @property
    def expected(self) -> str:
        return f"Give {self.name} as one of {', '.join(self.values)}."


Condition = Annotated[Numeric | Categorical, Field(discriminator="kind")]
Conditions = tuple[Numeric | Categorical, ...]
_conditions: TypeAdapter[Conditions] = TypeAdapter(tuple[Condition, ...])


def to_json(conditions: Conditions) -> list[dict[str, Any]]:
    return [condition.model_dump(mode="json") for condition in conditions]


def from_json(values: Any) -> Conditions:
    """What `to_json` gave.

    Raises:
        InputError: anything else.
    """
    try:
        return _conditions.validate_json(json.dumps(values))
    except ValidationError as error:
        raise InputError(f"conditions are damaged: {error.errors()[0]['msg']}.") from error


def told(conditions: Conditions, wanted: Mapping[str, str]) -> Tensor:
    """One row (conditions,) of what is wanted; NaN where nothing is.

    Raises:
        InputError: a name that the prior does not know, or a value that it never saw.
    """
    names = [condition.name for condition in conditions]
    for name in wanted:
        if name not in names:
            known = f"It knows {', '.join(names)}." if names else "Train one with --set conditions.columns=..."
            raise InputError(f"this prior has no condition {name!r}{did_you_mean(name, names)} {known}")
    row = [
        condition.column(wanted[condition.name]) if condition.name in wanted else math.nan for condition in conditions
    ]
    return torch.tensor(row)


@dataclass(frozen=True, eq=False)
class Given:
    """What is known of each image of a batch.

    `values`: (B, conditions) float32, NaN where nothing is. `previous`: the codes of the slice before, each level
    (B, *grid), -1 throughout where there is none; None where no image has any.
    """

    values: Tensor
    previous: Codes | None = None

    def __getitem__(self, part: slice | Tensor) -> Given:
        return Given(
            self.values[part], None if self.previous is None else tuple(level[part] for level in self.previous)
        )

    def forgotten(self, parts: Tensor) -> Given:
        """Without these `parts` (B, conditions + 1) bool: values, and last the slice before."""
        values = self.values.masked_fill(parts[:, :-1], torch.nan)
        if self.previous is None:
            return Given(values)
        hidden = (parts[:, -1].view(-1, *[1] * (level.ndim - 1)) for level in self.previous)
        return Given(
            values, tuple(level.masked_fill(mask, -1) for level, mask in zip(self.previous, hidden, strict=True))
        )

    def misread(self, most: float) -> Given:
        """With codes of the slice before replaced by those of another image of the batch at their place: a share of
        each image's, drawn evenly from 0 to `most`. Slices that are sampled err too."""
        if self.previous is None or not most:
            return self
        shares = most * torch.rand(len(self.values), device=self.values.device)
        levels = []
        for level in self.previous:
            other, share = level.roll(1, 0), shares.view(-1, *[1] * (level.ndim - 1))
            wrong = torch.rand(level.shape, device=level.device) < share
            levels.append(torch.where(wrong & (level >= 0) & (other >= 0), other, level))
        return Given(self.values, tuple(levels))


class Told(nn.Module):
    """Values (B, conditions) as one vector (B, width): the sum of one for each condition; of NaN, one of its own."""

    def __init__(self, conditions: Sequence[Numeric | Categorical], width: int) -> None:
        super().__init__()
        self.conditions = tuple(conditions)
        self.unknown = nn.Parameter(torch.zeros(len(self.conditions), width))
        self.known = nn.ModuleList(
            nn.Linear(2 * WAVES, width)
            if isinstance(condition, Numeric)
            else nn.Embedding(len(condition.values), width)
            for condition in self.conditions
        )

    def forward(self, values: Tensor) -> Tensor:
        found = values.new_zeros(len(values), self.unknown.shape[1])
        for column, unknown, known in zip(values.unbind(1), self.unknown, self.known, strict=True):
            missing = column.isnan()
            there = column.masked_fill(missing, 0)
            vector = known(_waves(there)) if isinstance(known, nn.Linear) else known(there.long())
            found = found + torch.where(missing[:, None], unknown, vector)
        return found


def _waves(x: Tensor) -> Tensor:
    """(B,) in [0, 1] -> (B, 2 WAVES)."""
    angles = x[:, None] * (torch.arange(1, WAVES + 1, device=x.device) * math.pi)
    return torch.cat([angles.cos(), angles.sin()], dim=1)
