"""What the transformers over codes share: from codes to vectors, from vectors to logits, beside the frequencies.

The network adds to the log-frequencies of the entries at each position (`histogram.py`), at first nothing: training
starts from that baseline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from brainvq.codes import Codes, CodeSpec
from brainvq.errors import InputError
from brainvq.networks.transformer import Transformer
from brainvq.priors import histogram
from brainvq.priors.base import Prior, PriorConfig
from brainvq.priors.conditions import Conditions, Given, Told
from brainvq.priors.likeness import FEATURES, likeness
from brainvq.priors.sequence import Surroundings, all_around, coordinates

LONGEST = 1 << 14
"""Codes of an image: attention has the square of it."""
LARGEST_TABLE = 1 << 26
"""Logits of an image."""
MOST_LAYERS = 256
"""All that is built before the weights of a stranger's run are looked at."""

Share = Annotated[float, Field(ge=0, lt=1)]


class SequenceConfig(PriorConfig):
    """Args:
    width: of the vectors; a multiple of 2 `heads`.
    layers, heads: of the transformer.
    dropout: share of what a layer adds that training drops.
    forget: share of the images of which training says nothing, and of what it leaves out of the others.
    previous: whether the codes of the slice before are a condition too.
    misread: largest share of these that training replaces by wrong ones, so that what goes wrong in one sampled slice
        is mended in the next and not handed on.
    likeness: whether entries are known by what their vectors have in common too.
    """

    width: PositiveInt = 128
    layers: Annotated[int, Field(ge=1, le=MOST_LAYERS)] = 6
    heads: PositiveInt = 4
    dropout: Share = 0.1
    forget: Share = 0.1
    previous: bool = False
    misread: Share = 0.0
    likeness: bool = False

    @model_validator(mode="after")
    def _divisible(self) -> SequenceConfig:
        if self.width % (2 * self.heads):
            raise ValueError(f"width is {self.width}; a multiple of 2 heads, {2 * self.heads}, belongs here")
        return self

    def refuse(self, spec: CodeSpec, size: Sequence[int]) -> None:
        """Raises InputError for images of too many codes."""
        lengths = [math.prod(grid) for grid in spec.grids(size)]
        logits = sum(length * entries for length, entries in zip(lengths, spec.entries, strict=True))
        if sum(lengths) > LONGEST or logits > LARGEST_TABLE:
            raise InputError(
                f"images of {sum(lengths):,} codes with {logits:,} logits are too large for {self.kind} (at most "
                f"{LONGEST:,} and {LARGEST_TABLE:,}). Use a tokenizer of larger strides, or smaller images."
            )


class SequenceModel(Prior):
    """Codes as vectors, through a transformer, to logits. `places` says what each position is shown of the codes."""

    def __init__(
        self, config: SequenceConfig, spec: CodeSpec, size: Sequence[int], conditions: Conditions, places: Tensor
    ) -> None:
        super().__init__(spec, size)
        self.config, self.conditions, self.takes_previous = config, conditions, config.previous
        self.takes_vectors = config.likeness
        width = config.width
        self.frequencies = histogram.Config().build(spec, size)
        features = FEATURES * len(spec.entries) if config.likeness else 0
        for level, entries in enumerate(spec.entries if config.likeness else ()):
            self.register_buffer(f"likeness_table_{level}", torch.zeros(entries, FEATURES))
        self.shown = Surroundings(spec, places, width, features)
        self.before = Surroundings(spec, all_around(spec, size), width, features) if config.previous else None
        self.position = nn.Parameter(0.02 * torch.randn(self.length, width))
        self.told = Told(conditions, width)
        self.trunk = Transformer(width, config.layers, config.heads, config.dropout, coordinates(spec, size))
        self.heads = nn.ModuleList(nn.Linear(width, entries) for entries in spec.entries)
        common = spec.entries if config.likeness else ()
        self.shared_heads = nn.ModuleList(nn.Linear(width, FEATURES, bias=False) for _ in common)
        for parameter in (*self.heads.parameters(), *self.shared_heads.parameters()):
            nn.init.zeros_(parameter)

    @property
    def lengths(self) -> list[int]:
        """Codes of each level."""
        return [math.prod(grid) for grid in self.grids]

    @torch.no_grad()
    def learn_codebook(self, vectors: Sequence[Tensor]) -> None:
        for mine, theirs, live in zip(self.likenesses, vectors, self.orders, strict=bool(self.likenesses)):
            mine.copy_(likeness(theirs, live))

    @property
    def likenesses(self) -> list[Tensor]:
        """Of each level, (entries, FEATURES); none without `likeness`."""
        return [self.get_buffer(f"likeness_table_{level}") for level in range(len(self.shared_heads))]

    @property
    def features(self) -> Tensor:
        """Of the entries of all levels, (entries, features); each level has its own."""
        if not self.likenesses:
            return self.position.new_zeros(sum(self.spec.entries), 0)
        found: Tensor = torch.block_diag(*self.likenesses)  # type: ignore[no-untyped-call]
        return found

    @torch.no_grad()
    def learn_statistics(self, batches: Iterable[Codes]) -> None:
        self.frequencies.learn_statistics(batches)

    @property
    def near(self) -> Tensor:
        """The vectors by which `shown` shows codes: the same as long as the weights are."""
        return self.shown.table(self.features)

    def ground(self, batch: int, given: Given | None) -> Tensor:
        """What each position is told beside the codes of the image itself, (B, N, width)."""
        known = self._known(batch, given)
        ground: Tensor = self.position + self.told(known.values)[:, None]
        if self.before is not None:
            assert known.previous is not None
            ground = ground + self.before(self.before.ids(known.previous), self.before.table(self.features))
        return ground

    def partly(self, batch: int, given: Given | None) -> Given | None:
        """What training tells: of some images nothing, of others not all, of the slice before not only the truth."""
        if given is None or not self.training:
            return given
        given = given.misread(self.config.misread)
        if not self.config.forget:
            return given
        drawn = torch.rand(batch, 2 + len(self.conditions), device=given.values.device) < self.config.forget
        return given.forgotten(drawn[:, :-1] | drawn[:, -1:])

    def _known(self, batch: int, given: Given | None) -> Given:
        """`given`, with what it leaves out said to be unknown."""
        values = torch.full((batch, len(self.conditions)), math.nan) if given is None else given.values
        previous = given.previous if given is not None else None
        if self.before is not None and previous is None:
            previous = tuple(torch.full((batch, *grid), -1) for grid in self.grids)
        device = self.position.device
        return Given(
            values.to(self.position), None if previous is None else tuple(level.to(device) for level in previous)
        )

    def logits_of(self, y: Tensor) -> list[Tensor]:
        """What the trunk gives (B, N, width) as logits of each level (B, codes, entries), never less than float32."""
        parts = torch.split(y, self.lengths, dim=1)
        return [
            self._head(level, part) + table
            for level, (part, table) in enumerate(zip(parts, self.frequencies.tables, strict=True))
        ]

    def _head(self, level: int, y: Tensor) -> Tensor:
        """(..., width) -> what the network adds to the frequencies of a level (..., entries)."""
        own: Tensor = self.heads[level](y)
        return own + self.shared_heads[level](y) @ self.likenesses[level].T if self.likenesses else own

    def outward(self, level: int) -> tuple[Tensor, Tensor]:
        """The same as one matrix (entries, width) and biases (entries,)."""
        own = self.heads[level]
        assert isinstance(own, nn.Linear)
        if not self.likenesses:
            return own.weight, own.bias
        shared = self.shared_heads[level]
        assert isinstance(shared, nn.Linear)
        return own.weight + self.likenesses[level] @ shared.weight, own.bias
