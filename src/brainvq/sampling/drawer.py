"""What is wished of samples, and the sequence of samples that a seed then starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.codes import Codes
from brainvq.data.columns import SLICE
from brainvq.errors import InputError
from brainvq.pipeline import Generator
from brainvq.priors.base import check_drawing
from brainvq.priors.drawing import PLAIN, Drawing
from brainvq.sampling.kept import Kept, kept


@dataclass(frozen=True)
class Wish:
    """Args:
    conditions: values by name; what is not named is drawn evenly from what training has seen, or where a part of an
        image is kept, left unsaid.
    drawing: how codes are drawn.
    heads: whole heads, slice after slice, instead of single images.
    keep: a mask and an image of which samples keep what is white in the mask.
    grain: whether images get the grain of their tokenizer, where that was measured.
    """

    conditions: Mapping[str, str] = field(default_factory=dict)
    drawing: Drawing = PLAIN
    heads: bool = False
    keep: tuple[Path, Path] | None = None
    grain: bool = True

    def options(self) -> list[str]:
        """As they stand on the command line, for the record; of paths only the last part."""
        words = [word for name, value in self.conditions.items() for word in ("--cond", f"{name}={value}")]
        for name, value in asdict(self.drawing).items():
            if value != getattr(PLAIN, name):
                words += ["--" + name.replace("_", "-"), str(value)]
        words += ["--heads"] if self.heads else []
        words += [] if self.grain else ["--no-grain"]
        return words + (["--keep", *(path.name for path in self.keep)] if self.keep else [])


ANYTHING = Wish()


class Drawer:
    """Image i of the sequence is a function of model, wish, seed and i alone.

    Raises:
        InputError: the prior cannot do what is wished.
    """

    def __init__(self, generator: Generator, seed: int, wish: Wish) -> None:
        self.generator, self.seed, self.wish = generator, seed, wish
        if wish.heads and (SLICE in wish.conditions or wish.keep):
            raise InputError(f"--heads draws all slices: leave --keep and --cond {SLICE}=... out.")
        generator.conditions(seed, 0, wish.conditions)
        names = [one.name for one in generator.prior.conditions if one.name not in wish.conditions]
        told = wish.conditions if wish.keep else generator.prior.conditions
        check_drawing(generator.prior, wish.drawing, told=bool(told))
        if wish.keep and names and not generator.config["experiment"]["prior"].get("forget", 0):
            raise InputError(
                f"this prior was always told {', '.join(names)} in training (prior.forget=0): say "
                f"{'it' if len(names) == 1 else 'them'} by --cond, for --keep leaves unsaid what is not said."
            )
        self.images = len(generator.slices) if wish.heads else 1
        """Of what is asked for one by one."""
        self.kept: Kept | None = kept(generator, *wish.keep) if wish.keep else None

    def codes(self, first: int, count: int) -> Codes:
        """Of images `first` .. `first + count - 1`, each level (count, *grid); of heads, whole ones."""
        wish = self.wish
        if not wish.heads:
            keep = None if self.kept is None else (self.kept.codes, self.kept.which)
            return self.generator.codes(
                count, seed=self.seed, first=first, wanted=wish.conditions, drawing=wish.drawing, keep=keep
            )
        heads = range(first // self.images, (first + count) // self.images)
        return self.generator.heads(heads, seed=self.seed, wanted=wish.conditions, drawing=wish.drawing)

    def image(self, codes: Codes) -> NDArray[np.uint8]:
        """Codes of one image, each level (1, *grid) -> (H, W)."""
        image = self.generator.images(codes, grain=self.wish.grain)[0]
        return image if self.kept is None else self.kept.onto(image)

    def told(self, i: int) -> dict[str, str]:
        """The conditions of image i."""
        if self.kept is not None:
            return dict(self.wish.conditions)
        if not self.wish.heads:
            return self.generator.conditions(self.seed, i, self.wish.conditions)
        head, place = divmod(i, self.images)
        conditions = self.generator.conditions(self.seed, head, self.wish.conditions)
        return {**conditions, SLICE: str(self.generator.slices[place])}

    def about(self) -> dict[str, Any]:
        """What tells these samples from others of the same model and seed; nothing where nothing is wished."""
        wish, grain = self.wish, self.generator.pipeline.grain
        found: dict[str, Any] = {
            "conditions": dict(wish.conditions),
            "drawing": {k: v for k, v in asdict(wish.drawing).items() if v != getattr(PLAIN, k)},
            "heads": wish.heads,
            "kept_sha256": self.kept.digest if self.kept else None,
            "grain_sha256": grain.sha256 if grain and wish.grain else None,
        }
        return {name: value for name, value in found.items() if value}
