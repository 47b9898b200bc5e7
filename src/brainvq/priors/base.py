"""The contract of a prior: a distribution over the codes of images of one size.

A prior is one file of this folder that holds a `Config` and its module; the contract tests run over every file. It sees
codes alone: no image, no tokenizer. What it must know of the codebook comes as arrays (`start`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainvq.codes import Codes, CodeSpec
from brainvq.config import PartConfig
from brainvq.errors import InputError
from brainvq.priors.conditions import Conditions, Given
from brainvq.priors.drawing import PLAIN, SHARPENING, Drawing


class Prior(nn.Module):
    """p(codes) for images of `size` pixels, whose codes are those of `spec`."""

    has_likelihood: ClassVar[bool] = True
    has_bound: ClassVar[bool] = True
    can_fill: ClassVar[bool] = False
    sharpens: ClassVar[bool] = True
    """Whether it says how likely each code is, so that draws can be made likelier."""
    conditions: Conditions = ()
    takes_previous = False
    """Whether the codes of the slice before may be given."""
    takes_vectors = False
    """Whether it learns from what entries stand for."""

    def __init__(self, spec: CodeSpec, size: Sequence[int]) -> None:
        super().__init__()
        self.spec, self.size = spec, tuple(size)
        self.grids = spec.grids(size)
        self.length = sum(math.prod(grid) for grid in self.grids)
        """Codes of an image, all levels together."""
        for level, entries in enumerate(spec.entries):
            self.register_buffer(f"order_{level}", torch.full((entries,), -1))

    @torch.no_grad()
    def start(
        self, batches: Iterable[Codes], orders: Sequence[Tensor], vectors: Sequence[Tensor] | None = None
    ) -> None:
        """Before the first step of training: what a prior must know of the codes and of the codebook.

        Args:
            batches: all codes of the train split, each level (B, *grid), once each.
            orders: as the property that they become.
            vectors: what the entries of each level stand for, (entries, D), as far as they are known.
        """
        for level, order in enumerate(orders):
            self.get_buffer(f"order_{level}")[: len(order)] = order
        if vectors is not None:
            self.learn_codebook(vectors)
        self.learn_statistics(batches)

    def learn_codebook(self, vectors: Sequence[Tensor]) -> None:
        """What a prior of this kind takes from the entries' vectors; `orders` is there already."""

    def learn_statistics(self, batches: Iterable[Codes]) -> None:
        """What a prior of this kind takes from counting; `orders` is there already."""

    @property
    def orders(self) -> tuple[Tensor, ...]:
        """For each level the entries that occur in the train split, LongTensor (live entries,).

        From the one that stands for the darkest pixels to the one for the brightest: so a picture of codes is readable.
        """
        found = [self.get_buffer(f"order_{level}") for level in range(len(self.grids))]
        return tuple(order[order >= 0] for order in found)

    @property
    def heeds(self) -> frozenset[str]:
        """The fields of a `Drawing` that change what is drawn; guidance does where something is given."""
        return frozenset(SHARPENING if self.sharpens else ())

    @property
    def passes(self) -> Tensor:
        """In which pass each code is predicted, (codes,): from those of earlier passes. One after another if not told
        otherwise.
        """
        return torch.arange(self.length)

    def log_probs(self, codes: Codes, given: Given | None = None) -> Tensor:
        """Nats of each code given those of earlier `passes`, (B, codes), in the order of `CodeSpec.flatten`.

        Only where `has_likelihood`. `given`: what is known of the images; None: nothing.

        Raises:
            InputError: the codes are not of this spec and size.
        """
        raise NotImplementedError

    def log_prob(self, codes: Codes, given: Given | None = None) -> Tensor:
        """Nats of each image's codes, (B,)."""
        return self.log_probs(codes, given).sum(1)

    def bound(self, codes: Codes, given: Given | None = None) -> Tensor:
        """Bits a code of each image, (B,): exact where `has_likelihood`, else at most so many.

        Only where `has_bound`.
        """
        return -self.log_probs(codes, given).mean(1) / math.log(2)

    def loss(self, codes: Codes, given: Given | None = None) -> Tensor:
        """What training brings down: the mean number of bits a code."""
        return self.bound(codes, given).mean()

    def forward(self, codes: Codes, given: Given | None = None) -> Tensor:
        """`loss`, for the wrappers of training."""
        return self.loss(codes, given)

    def sample(
        self, generators: Sequence[torch.Generator], given: Given | None = None, drawing: Drawing = PLAIN
    ) -> Codes:
        """One sample for each generator (on the CPU), each a function of its own generator alone.

        So a sample of a seed is the same in whatever batch it is drawn. `given`: what each of them is to be.

        Raises:
            InputError: this prior takes no conditions, or cannot draw so.
        """
        raise NotImplementedError

    def fill(
        self,
        generators: Sequence[torch.Generator],
        codes: Codes,
        kept: Tensor,
        given: Given | None = None,
        drawing: Drawing = PLAIN,
    ) -> Codes:
        """As `sample`, with those of the `codes` of one image that are `kept`, (N,) bool in the order of
        `CodeSpec.flatten`, in every sample. Only where `can_fill`.
        """
        raise NotImplementedError

    def entropy(self) -> tuple[str, dict[str, NDArray[Any]]] | None:
        """Kind and integer arrays of the codec's entropy model that says the same, or None where there is none.

        A function of the weights alone, the same on every machine.
        """
        return None

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


def check_drawing(prior: Prior, drawing: Drawing, *, told: bool) -> None:
    """Raises InputError where something is asked for that changes nothing in what `prior` draws, which is `told`
    something or not."""
    heeds = prior.heeds | {"guidance"} if told else prior.heeds
    asked = [field.name for field in fields(drawing) if getattr(drawing, field.name) != getattr(PLAIN, field.name)]
    idle = [name.replace("_", "-") for name in asked if name not in heeds]
    if idle:
        kind = type(prior).__module__.removeprefix("brainvq.")
        known = ", ".join(name.replace("_", "-") for name in sorted(heeds)) or "nothing of this kind"
        raise InputError(
            f"{kind}{'' if told else ', told nothing,'} does not know what to do with {', '.join(idle)}: it heeds "
            f"{known}. Leave {'it' if len(idle) == 1 else 'them'} out."
        )


def check_wish(prior: Prior, given: Given | None, drawing: Drawing, images: int) -> None:
    """Raises InputError unless `given` is of so many images and of the conditions of `prior`; or as `check_drawing`."""
    check_drawing(prior, drawing, told=given is not None)
    if given is None:
        return
    if given.values.shape != (images, len(prior.conditions)):
        raise InputError(
            f"values of conditions have shape {tuple(given.values.shape)}; expected ({images}, "
            f"{len(prior.conditions)}): a column for each condition of this prior."
        )
    if given.previous is not None:
        if not prior.takes_previous:
            raise InputError(
                "this prior was not trained on the slice before. Train one with --set prior.previous=true."
            )
        prior.check(tuple(level.clamp(min=0) for level in given.previous))


def refuse_conditions(config: PriorConfig, conditions: Conditions) -> None:
    """For kinds of priors that take none. Raises InputError where there are some."""
    if conditions:
        names = ", ".join(condition.name for condition in conditions)
        raise InputError(
            f"{config.kind} takes no conditions ({names}). Leave them out, or use priors.autoregressive or "
            "priors.maskgit."
        )


class PriorConfig(PartConfig):
    """Derive `Config` of a prior file from this."""

    def build(self, spec: CodeSpec, size: Sequence[int], conditions: Conditions = ()) -> Prior:
        """A prior of the codes of images of `size` pixels.

        Raises:
            InputError: this kind of prior cannot model such codes.
        """
        raise NotImplementedError
