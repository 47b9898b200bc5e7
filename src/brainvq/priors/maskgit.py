"""Many codes at once: hidden codes from all that are known, and images in a dozen steps, the surest codes first.

Source: H. Chang et al., MaskGIT: Masked Generative Image Transformer, 2022 (section 3: masked training under a cosine
schedule, and decoding in parallel). Where we differ:

- A position is shown the codes around it, hidden ones as such, not its own alone.
- The network adds to the log-frequencies of the entries at each position (`histogram.py`).
- What is sure is decided among all levels at once, and sampling can begin from codes that are given (`fill`).
- `bound`: codes in random order have a likelihood (E. Hoogeboom et al., Autoregressive Diffusion Models, 2022, equation
  6), of which this is the lower bound for a share of hidden codes that is drawn evenly; sampling in few steps is no
  exact draw from it, so that it tells how well codes are filled in, and no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from brainvq.codes import Codes, CodeSpec
from brainvq.priors.base import check_wish
from brainvq.priors.conditions import Conditions, Given
from brainvq.priors.drawing import MOST_STEPS, PLAIN, Drawing
from brainvq.priors.sequence import all_around
from brainvq.priors.sequence_model import SequenceConfig, SequenceModel

SHARES = 8
"""Shares of hidden codes that `bound` looks at in each image, spread evenly."""


class Config(SequenceConfig):
    """As every transformer over codes, and

    steps: in which an image is drawn.
    wavering: how much chance has a say in which codes are sure (the temperature of the paper's choice), at first; it
        falls to nothing.
    """

    kind: Literal["priors.maskgit"] = "priors.maskgit"
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] = 12
    wavering: NonNegativeFloat = 4.5

    def build(self, spec: CodeSpec, size: Sequence[int], conditions: Conditions = ()) -> MaskGIT:
        self.refuse(spec, size)
        return MaskGIT(self, spec, size, conditions)


class MaskGIT(SequenceModel):
    has_likelihood: ClassVar[bool] = False
    can_fill: ClassVar[bool] = True

    def __init__(self, config: Config, spec: CodeSpec, size: Sequence[int], conditions: Conditions = ()) -> None:
        super().__init__(config, spec, size, conditions, all_around(spec, size))
        self.config: Config = config

    @property
    def heeds(self) -> frozenset[str]:
        return super().heeds | {"steps"}

    def loss(self, codes: Codes, given: Given | None = None) -> Tensor:
        """Bits of a hidden code, at shares of hidden codes that lean to the high, as sampling meets them."""
        share = torch.cos(math.pi / 2 * torch.rand(len(codes[0]), 1))
        given = self.partly(len(codes[0]), given)
        return self._bits(codes, given, torch.rand(len(codes[0]), self.length), share)

    @torch.no_grad()
    def bound(self, codes: Codes, given: Given | None = None) -> Tensor:
        """Bits a code of each image at most, (B,): the same at every call."""
        self.check(codes)
        found = []
        for n in range(SHARES):
            order = torch.rand(self.length, generator=torch.Generator().manual_seed(n)).expand(len(codes[0]), -1)
            found.append(self._bits(codes, given, order, torch.full((len(order), 1), (n + 0.5) / SHARES), each=True))
        return torch.stack(found).mean(0)

    def _bits(self, codes: Codes, given: Given | None, order: Tensor, share: Tensor, each: bool = False) -> Tensor:
        """Mean bits of the codes that are hidden, a `share` (B, 1) above 0: those of the lowest `order` (B, N)."""
        self.check(codes)
        count = (share * self.length).ceil()
        hidden = (order.argsort(1).argsort(1) < count).to(codes[0].device)
        logits = self.logits(self.spec.flatten(codes), hidden, self.near, self.ground(len(codes[0]), given))
        nats = torch.cat(
            [
                F.cross_entropy(part.flatten(0, 1), code.flatten(), reduction="none").view(len(code), -1)
                for part, code in zip(logits, codes, strict=True)
            ],
            dim=1,
        )
        bits = torch.where(hidden, nats, 0) / math.log(2)
        return bits.sum(1) / hidden.sum(1) if each else bits.sum() / hidden.sum()

    def logits(self, flat: Tensor, hidden: Tensor, near: Tensor, ground: Tensor) -> list[Tensor]:
        """Of each level (B, codes, entries), from the codes (B, N) that are not `hidden` (B, N), beside a `ground`."""
        ids = self.shown.ids(self.spec.unflatten(flat, self.size))
        ids = ids.masked_fill(F.pad(hidden, (0, 1)), self.shown.hidden)
        return self.logits_of(self.trunk(self.shown(ids, near) + ground, causal=False))

    def sample(
        self, generators: Sequence[torch.Generator], given: Given | None = None, drawing: Drawing = PLAIN
    ) -> Codes:
        nothing = tuple(torch.zeros(1, *grid, dtype=torch.long) for grid in self.grids)
        return self.fill(generators, nothing, torch.zeros(self.length, dtype=torch.bool), given, drawing)

    @torch.no_grad()
    def fill(
        self,
        generators: Sequence[torch.Generator],
        codes: Codes,
        kept: Tensor,
        given: Given | None = None,
        drawing: Drawing = PLAIN,
    ) -> Codes:
        """One image at a time: what a network rounds depends on the size of its batch."""
        check_wish(self, given, drawing, len(generators))
        flat, hidden = self.spec.flatten(codes).to(self.position.device), ~kept[None].to(self.position.device)
        near = self.near
        found = []
        for n, generator in enumerate(generators):
            known = None if given is None else given[n : n + 1]
            guided = drawing.guidance != 1 and known is not None
            grounds = [self.ground(1, each) for each in ((known, None) if guided else (known,))]
            found.append(self._one(generator, flat, hidden, near, grounds, drawing))
        return self.spec.unflatten(torch.cat(found), self.size)

    def _one(
        self,
        generator: torch.Generator,
        flat: Tensor,
        hidden: Tensor,
        near: Tensor,
        grounds: Sequence[Tensor],
        drawing: Drawing,
    ) -> Tensor:
        """Codes (1, N), of which those that are `hidden` (1, N) are drawn.

        `grounds`: what is known of the image; and with guidance, what is told where nothing is known.
        """
        total, steps = int(hidden.sum()), drawing.steps or self.config.steps
        for step in range(steps):
            uniform, chance = torch.rand(2, self.length, generator=generator).to(flat.device)
            if not hidden.any():
                continue
            drawn, sure = self._draw(flat, hidden, near, grounds, drawing, uniform)
            left = int(total * math.cos(math.pi / 2 * (step + 1) / steps)) if step + 1 < steps else 0
            wavering = self.config.wavering * (1 - (step + 1) / steps)
            sure = sure - wavering * (-chance.clamp(1e-20, 1 - 1e-7).log()).log()  # Gumbel
            ranks = sure.masked_fill(~hidden[0], -torch.inf).argsort(descending=True)
            chosen = torch.zeros_like(hidden)
            chosen[0, ranks[: max(1, int(hidden.sum()) - left)]] = True
            flat, hidden = torch.where(chosen & hidden, drawn, flat), hidden & ~chosen
        return flat

    def _draw(
        self, flat: Tensor, hidden: Tensor, near: Tensor, grounds: Sequence[Tensor], drawing: Drawing, uniform: Tensor
    ) -> tuple[Tensor, Tensor]:
        """For every position a code (1, N), and how likely it was (N,), in nats."""
        logits, *plain = [self.logits(flat, hidden, near, ground) for ground in grounds]
        if plain:
            logits = [b + drawing.guidance * (a - b) for a, b in zip(logits, *plain, strict=True)]
        codes, sure = [], []
        for part, numbers in zip(logits, torch.split(uniform, self.lengths), strict=True):
            code = drawing.draw(part[0], numbers)
            codes.append(code)
            sure.append(part[0].log_softmax(-1).gather(1, code[:, None])[:, 0])
        return torch.cat(codes)[None], torch.cat(sure)
