"""Independent codes: at each position, how often each entry stood there in the train split. Every prior must beat it.

A table of counts needs no training; its one free number is how much of the frequency at a position is borrowed from
the frequency over all positions (interpolation after F. Jelinek and R. Mercer, 1980), so that an entry that was never
seen at a position keeps a probability.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from brainvq.codes import Codes, CodeSpec
from brainvq.errors import InputError
from brainvq.priors.base import Prior, PriorConfig, check_wish, refuse_conditions
from brainvq.priors.conditions import Conditions, Given
from brainvq.priors.drawing import PLAIN, Drawing
from brainvq.priors.whole_weights import whole_weights

LARGEST_TABLE = 1 << 28
"""Numbers: 1 GiB."""
AT_ONCE = 1 << 22
"""Numbers of a table that sampling turns into float64 at a time."""


class Config(PriorConfig):
    """Args:
    borrowed: images' worth of counts that each position takes from the frequencies over all positions.
    """

    kind: Literal["priors.histogram"] = "priors.histogram"
    borrowed: Annotated[float, Field(gt=0)] = 4.0

    def build(self, spec: CodeSpec, size: Sequence[int], conditions: Conditions = ()) -> Histogram:
        refuse_conditions(self, conditions)
        return Histogram(self, spec, size)


class Histogram(Prior):
    def __init__(self, config: Config, spec: CodeSpec, size: Sequence[int]) -> None:
        super().__init__(spec, size)
        self.config = config
        for level, (grid, entries) in enumerate(zip(self.grids, spec.entries, strict=True)):
            positions = math.prod(grid)
            if positions * entries > LARGEST_TABLE:
                raise InputError(
                    f"a table of {positions:,} positions by {entries:,} entries is too large for this prior "
                    f"(at most {LARGEST_TABLE:,} numbers). Use pixelcnn."
                )
            self.register_buffer(f"log_table_{level}", torch.full((positions, entries), -math.log(entries)))

    @property
    def tables(self) -> list[Tensor]:
        """Nats of each entry at each position, (positions, entries) for each level."""
        return [self.get_buffer(f"log_table_{level}") for level in range(len(self.grids))]

    @torch.no_grad()
    def learn_statistics(self, batches: Iterable[Codes]) -> None:
        counts = [torch.zeros(table.shape, device=table.device) for table in self.tables]
        for codes in batches:
            for count, code in zip(counts, codes, strict=True):
                flat = code.flatten(1).to(count.device)
                place = torch.arange(flat.shape[1], device=flat.device) * count.shape[1]
                count += torch.bincount((flat + place).flatten(), minlength=count.numel()).view_as(count)
        for table, count in zip(self.tables, counts, strict=True):
            anywhere = count.sum(0) + 1 / count.shape[1]  # an entry that was never seen at all keeps a little
            count += self.config.borrowed * anywhere / anywhere.sum()
            table.copy_((count / count.sum(1, keepdim=True)).log())

    def log_probs(self, codes: Codes, given: Given | None = None) -> Tensor:
        self.check(codes)
        found = [
            table.expand(len(code), -1, -1).gather(2, code.flatten(1)[..., None])[..., 0]
            for table, code in zip(self.tables, codes, strict=True)
        ]
        return torch.cat(found, dim=1)

    def entropy(self) -> tuple[str, dict[str, NDArray[Any]]]:
        """By position: weights of 16 bit, in proportion to the probabilities; at least 1."""
        tables = (table.detach().cpu().numpy() for table in self.tables)
        return "position", {
            f"weights_{level}": whole_weights(table).reshape(*grid, -1)
            for level, (grid, table) in enumerate(zip(self.grids, tables, strict=True))
        }

    @torch.no_grad()
    def sample(
        self, generators: Sequence[torch.Generator], given: Given | None = None, drawing: Drawing = PLAIN
    ) -> Codes:
        check_wish(self, given, drawing, len(generators))
        uniform = torch.stack([torch.rand(self.length, generator=generator) for generator in generators])
        samples, done = [], 0
        for table in self.tables:
            for part in torch.split(table, max(1, AT_ONCE // table.shape[1])):
                below = drawing.sharpened(part.cpu().double()).softmax(1).cumsum(1)  # on the host: MPS has no float64
                draw = uniform[:, done : done + len(part)].double() * below[:, -1]
                samples.append(torch.searchsorted(below, draw.T.contiguous(), right=True).T)
                done += len(part)
        return self.spec.unflatten(torch.cat(samples, dim=1), self.size)
