"""Codes in a few passes, each from those of earlier passes around it: in whole numbers, for the entropy coder.

The codes of one pass are independent given those before (`lattice.py`), so that a slice is coded in 16 steps rather
than a thousand. What a code is told: the nearest codes of earlier passes, where it lies, the codes of the level before,
and if wanted those of the slice before. Passes differ in what they know, so each has its own first weights; after them
all is shared. Every sum is exact (`networks/whole.py`), and what `log_probs` says is what the codec's tables cost
(`codec/context.py`, from the integers of `entropy`) but for their last rounding.

Sources: passes over phases as S. Reed et al., Parallel Multiscale Autoregressive Density Estimation, 2017, have them,
and as D. He et al., Checkerboard Context Model for Efficient Learned Image Compression, 2021, use them in a codec. As
all our priors it adds to the log-frequencies of the entries at each position (`histogram.py`), at first nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from brainvq.codes import Codes, CodeSpec
from brainvq.errors import InputError
from brainvq.networks.whole import WIDEST
from brainvq.priors import histogram
from brainvq.priors.base import Prior, PriorConfig, check_wish, refuse_conditions
from brainvq.priors.conditions import Conditions, Given
from brainvq.priors.context_level import ABOVE, SHIFTS, Level
from brainvq.priors.drawing import PLAIN, Drawing

LARGEST_TABLE = 1 << 26
"""Logits of an image."""
MOST_PLACES = 1 << 24
"""That the codes of an image look at: 8 bytes each, before the weights of a stranger's run are looked at."""
MOST_PASSES = 64
MOST_ENTRIES = 1 << 14
"""Of a codebook, as in the codec (`codec/context_arrays.py`): so that its tables are exact."""

Share = Annotated[float, Field(ge=0, lt=1)]


class Config(PriorConfig):
    """Args:
    width: of the hidden layers.
    layers: after the first.
    dim: numbers that stand for a code.
    near: known codes that each is told of; of the slice before, one more.
    period: codes a side of a tile, each of which is a pass.
    dropout: share of what a layer gives that training drops.
    forget: share of the images of whose slice before training says nothing.
    previous: whether the codes of the slice before are told.
    """

    kind: Literal["priors.context"] = "priors.context"
    width: Annotated[int, Field(ge=1, le=WIDEST[1])] = 256
    layers: Annotated[int, Field(ge=0, le=16)] = 2
    dim: PositiveInt = 16
    near: PositiveInt = 24
    period: Annotated[int, Field(ge=2, le=8)] = 4
    dropout: Share = 0.05
    forget: Share = 0.1
    previous: bool = False

    def build(self, spec: CodeSpec, size: Sequence[int], conditions: Conditions = ()) -> Context:
        refuse_conditions(self, conditions)
        if max(spec.entries) > MOST_ENTRIES:
            raise InputError(
                f"codebooks of {list(spec.entries)} entries; context takes at most {MOST_ENTRIES:,} each, so that the "
                "codec's tables are exact. Use histogram, or a tokenizer of a smaller codebook."
            )
        grids = spec.grids(size)
        told = self.near + 1 + (self.near + 1) * self.previous + ABOVE**spec.axes * (len(grids) > 1)
        if told * self.dim > WIDEST[0]:
            raise InputError(
                f"{told} things of {self.dim} numbers that each code is told are too many for exact sums (at most "
                f"{WIDEST[0]:,} numbers). Make prior.dim or prior.near smaller."
            )
        if self.period**spec.axes > MOST_PASSES:
            raise InputError(
                f"tiles of {self.period} codes along {spec.axes} axes are {self.period**spec.axes} passes; at most "
                f"{MOST_PASSES} are sensible. Make prior.period smaller."
            )
        lengths = [math.prod(grid) for grid in grids]
        logits = sum(length * entries for length, entries in zip(lengths, spec.entries, strict=True))
        if logits > LARGEST_TABLE or sum(lengths) * told > MOST_PLACES:
            raise InputError(
                f"grids {grids} of {spec.entries} entries have {logits:,} logits from {sum(lengths) * told:,} places, "
                f"too many for context (at most {LARGEST_TABLE:,} and {MOST_PLACES:,}). Use a tokenizer of larger "
                "strides, or smaller images."
            )
        return Context(self, spec, size)


class Context(Prior):
    def __init__(self, config: Config, spec: CodeSpec, size: Sequence[int]) -> None:
        super().__init__(spec, size)
        self.config, self.takes_previous = config, config.previous
        self.frequencies = histogram.Config().build(spec, size)
        self.levels = nn.ModuleList(Level(config, spec, size, level) for level in range(len(self.grids)))

    @torch.no_grad()
    def learn_statistics(self, batches: Iterable[Codes]) -> None:
        self.frequencies.learn_statistics(batches)

    @property
    def passes(self) -> Tensor:
        found, done = [], 0
        for level in self.levels:
            assert isinstance(level, Level)
            found.append(done + level.phase_of)
            done += len(level.sections)
        return torch.cat(found)

    def loss(self, codes: Codes, given: Given | None = None) -> Tensor:
        if given is not None and self.training and self.config.forget:
            drawn = torch.rand(len(codes[0]), 1, device=given.values.device) < self.config.forget
            given = given.forgotten(F.pad(drawn, (given.values.shape[1], 0)))
        return super().loss(codes, given)

    def log_probs(self, codes: Codes, given: Given | None = None) -> Tensor:
        self.check(codes)
        found = []
        for n, (level, code) in enumerate(zip(self.levels, codes, strict=True)):
            assert isinstance(level, Level)
            flat, told = code.flatten(1), self._told(n, codes, given)
            logits = level.logits(flat, *told, self.frequencies.tables[n], range(len(level.sections)))
            in_order = flat[:, level.order]
            nats = -F.cross_entropy(logits.flatten(0, 1), in_order.flatten(), reduction="none").view_as(in_order)
            found.append(nats[:, level.order.argsort()])
        return torch.cat(found, dim=1)

    def sample(
        self, generators: Sequence[torch.Generator], given: Given | None = None, drawing: Drawing = PLAIN
    ) -> Codes:
        check_wish(self, given, drawing, len(generators))
        uniform = torch.stack([torch.rand(self.length, generator=generator) for generator in generators])
        codes = tuple(torch.full((len(uniform), *grid), -1, device=self.device) for grid in self.grids)
        with torch.no_grad():
            for n, numbers in enumerate(torch.split(uniform, [code[0].numel() for code in codes], dim=1)):
                self._draw(n, codes, given, drawing, numbers.to(self.device))
        return codes

    def _draw(self, n: int, codes: Codes, given: Given | None, drawing: Drawing, uniform: Tensor) -> None:
        """The codes of level `n`, in place, by numbers (B, codes)."""
        level, flat, table = self.levels[n], codes[n].flatten(1), self.frequencies.tables[n]
        assert isinstance(level, Level)
        for phase, section in enumerate(level.sections):
            picks = level.order[section]
            logits = level.logits(flat, *self._told(n, codes, given), table, [phase])
            if drawing.guidance != 1 and given is not None:
                plain = level.logits(flat, *self._told(n, codes, None), table, [phase])
                logits = plain + drawing.guidance * (logits - plain)
            logits = logits.double() if logits.device.type != "mps" else logits
            flat[:, picks] = drawing.draw(logits, uniform[:, picks].to(logits.dtype))
        codes[n].copy_(flat.view_as(codes[n]))

    def _told(self, n: int, codes: Codes, given: Given | None) -> tuple[Tensor | None, Tensor | None]:
        """Codes (B, N) of the slice before and of the level before that level `n` is told; None where of neither."""
        before = given.previous[n].flatten(1) if given is not None and given.previous is not None else None
        return before if self.config.previous else None, codes[n - 1].flatten(1) if n else None

    @property
    def device(self) -> torch.device:
        return self.get_buffer("order_0").device

    @torch.no_grad()
    def entropy(self) -> tuple[str, dict[str, NDArray[Any]]]:
        """The kind and the integers of the codec's entropy model."""
        found: dict[str, NDArray[Any]] = {"shifts": np.array(SHIFTS, dtype=np.uint8)}
        for n, (level, table) in enumerate(zip(self.levels, self.frequencies.tables, strict=True)):
            assert isinstance(level, Level)
            found |= {f"{name}_{n}": values for name, values in level.integers(table).items()}
        return "context", found
