"""Pictures that a prior's report shows: the first samples, real images that went through the same tokenizer, and the
training images nearest to the samples.

The nearest and the real ones are the user's images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from brainvq.codes import Codes
from brainvq.errors import InputError
from brainvq.report.kept import FILE, Kept, Pixels, is_grid, keep, load_about, load_picture
from brainvq.report.prior_stored import Neighbour

SHOWN = 12
Entry = Annotated[int, Field(ge=0, lt=1 << 24)]
Grids = list[list[list[Entry]]]
"""Of one image: each level as rows of a grid."""


class StoredPrior(Kept):
    """`orders`: of each level, the entries that occur in train, from dark to bright; `samples`, `real`: codes of
    each image; `nearest`: of each sample, the training image beside it."""

    kind: Literal["prior"]
    seed: int
    orders: list[list[Entry]]
    samples: list[Grids]
    real: list[Grids]
    nearest: list[Neighbour]


@dataclass(frozen=True, eq=False)
class PriorExamples:
    """Pictures (H, W) uint8, in the order of `about`."""

    about: StoredPrior
    samples: tuple[Pixels, ...]
    real: tuple[Pixels, ...]
    nearest: tuple[Pixels, ...]

    def ranks(self, level: int) -> list[float | None]:
        """For each entry its place from dark to bright, None where it does not occur in train; the last one stands for
        all after it."""
        order = self.about.orders[level]
        found: list[float | None] = [None] * (2 + max(order))
        for rank, entry in enumerate(order):
            found[entry] = float(rank)
        return found


def save_prior_examples(
    folder: Path,
    result: Mapping[str, Any],
    *,
    codes: Codes,
    images: Pixels,
    nearest: Pixels,
    real_codes: Codes,
    real_images: Pixels,
    orders: Sequence[Tensor],
) -> Path:
    """Keep what the report draws of the evaluation `result` of a prior in its run `folder`; where it lies.

    The first 12 of each are kept: no sample is picked by eye.

    Args:
        result: what evaluation/SPLIT.json holds; sample i is that of `per_sample[i]`.
        codes, images: samples, each level (n, *grid), and what they decode to, (n, H, W).
        nearest: for each sample the training image that `per_sample` names, (n, H, W).
        real_codes, real_images: of images of the split, of every subject in turn, and what they decode to.
        orders: for each level the entries that occur in train, from dark to bright.
    """
    about = StoredPrior(
        format=1,
        kind="prior",
        split=result["split"],
        fingerprint=result["data"]["fingerprint"],
        weights_sha256=result["model"].get("weights_sha256"),
        seed=result["samples"]["seed"],
        orders=[order.tolist() for order in orders],
        samples=_grids(codes),
        real=_grids(real_codes),
        nearest=[Neighbour.model_validate(found["nearest_train"]) for found in result["per_sample"][:SHOWN]],
    )
    kinds = (("sample", images), ("real", real_images), ("nearest", nearest))
    shown = {f"{kind}_{i:02}": pixels for kind, pictures in kinds for i, pixels in enumerate(pictures[:SHOWN])}
    return keep(folder, about, shown)


def load_prior_examples(folder: Path) -> PriorExamples:
    """What `save_prior_examples` wrote into `folder`.

    Raises:
        InputError: missing or damaged; the file is named.
    """
    path, about = folder / FILE, load_about(StoredPrior, folder)
    levels = len(about.orders)
    if not about.samples or len(about.nearest) != len(about.samples) or not all(about.orders):
        raise InputError(f"{path}: it holds no samples, or not a neighbour for each.")
    if any(len(grids) != levels or not all(map(is_grid, grids)) for grids in about.samples + about.real):
        raise InputError(f"{path}: codes are not {levels} grids an image.")
    return PriorExamples(
        about,
        tuple(load_picture(folder / f"sample_{i:02}.png") for i in range(len(about.samples))),
        tuple(load_picture(folder / f"real_{i:02}.png") for i in range(len(about.real))),
        tuple(load_picture(folder / f"nearest_{i:02}.png") for i in range(len(about.nearest))),
    )


def _grids(codes: Codes) -> list[Grids]:
    """The first images, each as its levels."""
    return [list(levels) for levels in zip(*(code[:SHOWN].tolist() for code in codes), strict=True)]
