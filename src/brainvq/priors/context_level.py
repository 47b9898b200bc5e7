"""The network of `context.py` for the codes of one level: what is around each code, to logits, in whole numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from brainvq import lattice
from brainvq.codes import CodeSpec
from brainvq.networks.whole import LARGEST_BIAS, Whole, activated, shifted, whole

if TYPE_CHECKING:
    from brainvq.priors.context import Config

ABOVE = 3
"""Codes a side that are seen of the level before."""
EMBEDDING, FIRST, DEEPER, TABLE = 5, 8, 7, 3
"""Steps of embeddings are 2^-5, of weights 2^-8 and 2^-7, of log-frequencies 2^-3 nats."""
HIDDEN, LOGIT = 5, 6
"""Steps of activations are 2^-5, of logits 2^-6 nats."""
SHIFTS = EMBEDDING + FIRST - HIDDEN, DEEPER, HIDDEN + DEEPER - LOGIT, HIDDEN + DEEPER - TABLE
"""After the first sums and after those of a layer; from the last sums to logits; of the table, to the last sums."""


class Level(nn.Module):
    """The network of the codes of one level. What it calls known codes are (B, N), -1 for those that are not."""

    order: Tensor
    phase_of: Tensor
    near_places: Tensor
    before_places: Tensor
    above_places: Tensor

    def __init__(self, config: Config, spec: CodeSpec, size: Sequence[int], level: int) -> None:
        super().__init__()
        grids, width, dim = spec.grids(size), config.width, config.dim
        self.config, self.grid, self.entries = config, grids[level], spec.entries[level]
        self.phases = lattice.pattern(config.period, spec.axes)
        self._look_around(grids[level - 1] if level else None)
        seen = {"near": self.near_places, "before": self.before_places, "above": self.above_places}
        numbers = {name: places.shape[1] * dim for name, places in seen.items()}
        std = (sum(numbers.values()) + dim) ** -0.5
        self.embedding = Whole(self.entries + 1, dim, bits=EMBEDDING, std=1.0)
        self.near = Whole(self.phases.size, width, numbers["near"], bits=FIRST, std=std)
        self.before = Whole(width, numbers["before"], bits=FIRST, std=std)
        self.above_embedding = Whole(spec.entries[level - 1] + 1 if level else 0, dim, bits=EMBEDDING, std=1.0)
        self.above = Whole(width, numbers["above"], bits=FIRST, std=std)
        self.position = Whole(math.prod(self.grid), dim, bits=EMBEDDING, std=1.0)
        self.place = Whole(width, dim, bits=FIRST, std=std)
        self.bias = Whole(self.phases.size, width, bits=EMBEDDING + FIRST, largest=LARGEST_BIAS)
        self.layers = Whole(config.layers, width, width, bits=DEEPER, std=0.5 * width**-0.5)
        self.layer_bias = Whole(config.layers, width, bits=HIDDEN + DEEPER, largest=LARGEST_BIAS)
        self.head = Whole(self.entries, width, bits=DEEPER)
        self.head_bias = Whole(self.entries, bits=HIDDEN + DEEPER, largest=LARGEST_BIAS)

    def _look_around(self, above: Sequence[int] | None) -> None:
        """Where each position, in the order of passes, finds what it is told of; the number of codes for nowhere."""
        config, axes = self.config, len(self.grid)
        passes = lattice.split(self.grid, self.phases)
        order = np.concatenate(passes)
        edges = np.cumsum([0, *map(len, passes)]).tolist()
        self.sections = [slice(start, end) for start, end in itertools.pairwise(edges)]
        self.offsets = {
            "near": np.stack([lattice.earlier(self.phases, n, config.near) for n in range(self.phases.size)]),
            "before": lattice.around((config.near + 1) * config.previous, axes),
            "above": lattice.around(ABOVE**axes if above is not None else 0, axes),
        }
        near = np.concatenate(
            [lattice.places(self.grid, *each) for each in zip(passes, self.offsets["near"], strict=True)]
        )
        near[near == order[:, None]] = len(order)
        grid = self.grid if above is None else above
        found = {
            "order": order,
            "phase_of": np.repeat(np.arange(len(passes)), [len(each) for each in passes])[order.argsort()],
            "near_places": near,
            "before_places": lattice.places(self.grid, order, self.offsets["before"]),
            "above_places": lattice.places(grid, lattice.scaled(self.grid, order, grid), self.offsets["above"]),
        }
        for name, values in found.items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def logits(
        self, own: Tensor, before: Tensor | None, above: Tensor | None, table: Tensor, phases: Sequence[int]
    ) -> Tensor:
        """(B, codes of these phases, entries) in nats, never less than float32, in the order of passes.

        Args:
            own: known codes of this level; of later phases none is looked at.
            before, above: those of the slice and of the level before.
            table: log-frequencies (N, entries).
        """
        part = slice(self.sections[phases[0]].start, self.sections[phases[-1]].stop)
        embedding = self.embedding()
        near, bias = self.near(), self.bias()
        x = torch.cat(
            [
                F.linear(self._seen(own, self.near_places[self.sections[n]], embedding), near[n], bias[n])
                for n in phases
            ],
            dim=1,
        )
        x = x + F.linear(self.position()[self.order[part]], self.place())
        if self.config.previous:
            shown = torch.full_like(own, -1) if before is None else before
            x = x + F.linear(self._seen(shown, self.before_places[part], embedding), self.before())
        if above is not None:
            x = x + F.linear(self._seen(above, self.above_places[part], self.above_embedding()), self.above())
        return self._deeper(x, whole_table(table)[self.order[part]])

    def _seen(self, codes: Tensor, places: Tensor, embedding: Tensor) -> Tensor:
        """What stands at `places` (n, places), as the numbers of all of them together, (B, n, numbers)."""
        unknown = len(embedding) - 1
        ids = F.pad(codes.masked_fill(codes < 0, unknown), (0, 1), value=unknown)
        return F.embedding(ids[:, places], embedding).flatten(2)

    def _deeper(self, x: Tensor, table: Tensor) -> Tensor:
        """The first sums (B, n, width) and the table (n, entries) -> logits (B, n, entries)."""
        h = activated(x, SHIFTS[0], rounded=self.rounded)
        for weight, bias in zip(self.layers(), self.layer_bias(), strict=True):
            h = F.dropout(h, self.config.dropout, self.training)
            h = activated(F.linear(h, weight, bias) + h * 2.0 ** SHIFTS[1], SHIFTS[1], rounded=self.rounded)
        y = F.linear(h, self.head(), self.head_bias()) + table * 2.0 ** SHIFTS[3]
        return shifted(y, SHIFTS[2], rounded=self.rounded) * 2.0**-LOGIT

    @property
    def rounded(self) -> bool:
        """Whether numbers are whole, as they are for the codec."""
        return self.head.rounded

    def integers(self, table: Tensor) -> dict[str, NDArray[Any]]:
        """What the codec's entropy model is made of."""
        small = ("embedding", "near", "before", "above_embedding", "above", "position", "place", "layers", "head")
        found = {name: _array(getattr(self, name)(), np.int8) for name in small}
        found |= {name: _array(getattr(self, name)(), np.int32) for name in ("bias", "layer_bias", "head_bias")}
        found["table"] = _array(whole_table(table), np.int8)
        found |= {"phases": self.phases.astype(np.uint8), "grid": np.array(self.grid, dtype=np.int32)}
        found |= {f"{name}_offsets": offsets.astype(np.int8) for name, offsets in self.offsets.items()}
        return found


def whole_table(table: Tensor) -> Tensor:
    """Log-frequencies (N, entries) below the highest of each position, in steps of 2^-TABLE nats."""
    return whole(table - table.amax(1, keepdim=True), TABLE)


def _array(tensor: Tensor, kind: type[np.signedinteger[Any]]) -> NDArray[Any]:
    return tensor.cpu().numpy().astype(kind)
