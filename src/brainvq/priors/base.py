"""The contract of a prior: a distribution over the codes of images of one size.

A prior is one file of this folder that holds a `Config` and its module; the contract tests run over every file. It sees
codes alone: no image, no tokenizer. What it must know of the codebook comes as arrays (`start`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from brainvq.codes import Codes, CodeSpec
from brainvq.config import PartConfig
from brainvq.errors import InputError


class Prior(nn.Module):
    """p(codes) for images of `size` pixels, whose codes are those of `spec`."""

    has_likelihood: ClassVar[bool] = True

    def __init__(self, spec: CodeSpec, size: Sequence[int]) -> None:
        super().__init__()
        self.spec, self.size = spec, tuple(size)
        self.grids = spec.grids(size)
        self.length = sum(math.prod(grid) for grid in self.grids)
        """Codes of an image, all levels together."""
        for level, entries in enumerate(spec.entries):
            self.register_buffer(f"order_{level}", torch.full((entries,), -1))

    @torch.no_grad()
    def start(self, batches: Iterable[Codes], orders: Sequence[Tensor]) -> None:
        """Before the first step of training: what a prior must know of the codes and of the codebook.

        Args:
            batches: all codes of the train split, each level (B, *grid), once each.
            orders: as the property that they become.
        """
        for level, order in enumerate(orders):
            self.get_buffer(f"order_{level}")[: len(order)] = order
        self.learn_statistics(batches)

    def learn_statistics(self, batches: Iterable[Codes]) -> None:
        """What a prior of this kind takes from counting; `orders` is there already."""

    @property
    def orders(self) -> tuple[Tensor, ...]:
        """For each level the entries that occur in the train split, LongTensor (live entries,).

        From the one that stands for the darkest pixels to the one for the brightest: so a picture of codes is readable.
        """
        found = [self.get_buffer(f"order_{level}") for level in range(len(self.grids))]
        return tuple(order[order >= 0] for order in found)

    def log_probs(self, codes: Codes) -> Tensor:
        """Nats of each code given those before it, (B, codes), in the order of `CodeSpec.flatten`.

        Only where `has_likelihood`.

        Raises:
            InputError: the codes are not of this spec and size.
        """
        raise NotImplementedError

    def log_prob(self, codes: Codes) -> Tensor:
        """Nats of each image's codes, (B,)."""
        return self.log_probs(codes).sum(1)

    def loss(self, codes: Codes) -> Tensor:
        """What training brings down: the mean number of bits a code."""
        return -self.log_probs(codes).mean() / math.log(2)

    def forward(self, codes: Codes) -> Tensor:
        """`loss`, for the wrappers of training."""
        return self.loss(codes)

    def sample(self, generators: Sequence[torch.Generator]) -> Codes:
        """One sample for each generator (on the CPU), each a function of its own generator alone.

        So a sample of a seed is the same in whatever batch it is drawn.
        """
        raise NotImplementedError

    def check(self, codes: Codes) -> None:
        """Refuse codes of another tokenizer or size.

        Raises:
            InputError: both sides are named.
        """
        grids = tuple(tuple(code.shape[1:]) for code in codes)
        if len(codes) == len(self.grids) and grids != self.grids:
            level = next(i for i, (mine, theirs) in enumerate(zip(self.grids, grids, strict=True)) if mine != theirs)
            raise InputError(
                f"codes[{level}] has grid {grids[level]}; this prior was trained on {self.grids[level]}. "
                "Give images of the size that it was trained on."
            )
        self.spec.check(codes, self.size)


class PriorConfig(PartConfig):
    """Derive `Config` of a prior file from this."""

    def build(self, spec: CodeSpec, size: Sequence[int]) -> Prior:
        """A prior of the codes of images of `size` pixels.

        Raises:
            InputError: this kind of prior cannot model such codes.
        """
        raise NotImplementedError
