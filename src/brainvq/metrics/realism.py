"""How real a set of images looks: its distance from held-out real images, in two families of features, beside a floor.

The families know nothing of each other: `image_statistics.py` was never trained, `look_features.py` was trained here.
The measures and their intervals are those of `set_distances.py`. What keeps them from flattering:

- The reference is held-out subjects, never what a prior was trained on: a copier would meet its own originals there. A
  reference that shares a subject with the training images, or an image with a set, is refused.
- The floor is the training images themselves, held against that reference: real images of other subjects. Whatever
  hands out training images, or copies of them, is at best another draw of the floor, so that no memoriser can beat it.
  A floor of held-out subjects against each other would be easier to beat: half as many subjects are a worse likeness of
  all.
- All sets are of one size: each measure depends on it. Real ones are spread evenly over subjects and over the slices of
  each; of samples the content of the images decides which are taken, whatever their order.
- Features are standardised by the reference alone, z = asinh((f - mean) / deviation): as it is near the reference, and
  logarithmic beyond, so that one band that is forty deviations off does not drown all the others.
- Precision and density reward a set that shows the usual again and again; above the floor they are called too typical,
  never better. Where anything else is better than the floor by more than chance, the result says that too: something is
  wrong. None of the measures can tell a copy from a new image; that is an audit's work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.errors import InputError
from brainvq.metrics.definitions import Measure
from brainvq.metrics.generation import Advance, Images, spread_over_subjects
from brainvq.metrics.image_statistics import image_statistics
from brainvq.metrics.look_features import look_features
from brainvq.metrics.set_distances import TYPICAL, Estimate, Matrix, Measured, Points, measure, points

LEAST = 100
"""Images of a set: fewer do not fill the space of a family."""

FAMILIES: dict[str, Callable[[NDArray[np.uint8]], Matrix]] = {
    "statistics": image_statistics,
    "look": look_features,
}
FAMILY_LABELS = {
    "statistics": "Image statistics",
    "look": "Trained look",
}
REALISM = {
    "frechet": Measure(
        "Frechet distance",
        "",
        "lower",
        "Squared Frechet distance of the Gaussians fitted to the features of the set and of as many held-out images "
        "(Heusel 2017); never 0 for finite sets: read it beside the floor.",
    ),
    "kernel": Measure(
        "Kernel distance",
        "",
        "lower",
        "Unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3 (Binkowski 2018), over pairs of "
        "different subjects; 0 on average for real images, and as often below.",
    ),
    "precision": Measure(
        "Precision",
        "",
        "as real",
        "Share of the set inside a ball around any held-out image that reaches to its third neighbour of another "
        "subject (Kynkaanniemi 2019); above the floor where samples are more typical than real ones.",
    ),
    "recall": Measure(
        "Recall",
        "",
        "as real",
        "Share of the held-out images inside a ball around any image of the set that reaches to its third neighbour "
        "(of another subject where it has subjects; Kynkaanniemi 2019).",
    ),
    "density": Measure(
        "Density",
        "",
        "as real",
        "Balls around held-out images, to the fifth neighbour of another subject, that an image of the set lies in, on "
        "average, divided by five (Naeem 2020).",
    ),
    "coverage": Measure(
        "Coverage",
        "",
        "higher",
        "Share of those balls that hold an image of the set (Naeem 2020).",
    ),
}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images (N, H, W) uint8, and whom each shows. `subjects` None: samples of a prior, each a draw by itself."""

    images: Images
    subjects: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.subjects is not None and len(self.subjects) != len(self.images):
            raise ValueError(f"{len(self.images)} images and {len(self.subjects)} subjects; expected one each")


@dataclass(frozen=True)
class Compared:
    """A set's measures, and each less that of the floor.

    `better_than_floor`: distances, recall or coverage that are better by more than chance: something is wrong, for
    nothing real is. `too_typical`: precision or density above the floor by more than chance: the set keeps to what is
    usual.
    """

    measures: dict[str, Estimate]
    above_floor: dict[str, Estimate]
    better_than_floor: tuple[str, ...]
    too_typical: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """Of one family of features."""

    dimensions: int
    floor: dict[str, Estimate]
    sets: dict[str, Compared]


@dataclass(frozen=True)
class Realism:
    """`images`: of each set, of the floor and of the reference."""

    images: int
    held_out_subjects: int
    train_subjects: int
    seed: int
    families: dict[str, Family]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with the definitions that it was measured by."""
        return {**asdict(self), "definitions": {name: each.definition for name, each in REALISM.items()}}


def realism(
    sets: Mapping[str, ImageSet],
    *,
    held_out: ImageSet,
    train: ImageSet,
    seed: int = 0,
    advance: Advance = lambda images: None,
) -> Realism:
    """Each of `sets` against real images of `held_out`, in both families, beside the floor of `train`.

    Args:
        sets: samples of priors, without subjects; or real images that something was done to, with theirs. The training
            images as the tokenizer reconstructs them belong here: no prior over its codes can do better.
        held_out: subjects that no prior, and no image of `sets`, comes from.
        train: the images that the priors were trained on.
        seed: of the images that are taken where a set has more than the smallest, and of the groups of the intervals.
        advance: told the number of images after each set and family.

    Raises:
        InputError: fewer than 100 images or 5 subjects; subjects or images that the reference shares with others;
            images that are not uint8, of one size, at least 64 x 64.
    """
    _refuse_shared_subjects(sets, held_out, train)
    everything = {"held-out images": held_out, "training images": train, **sets}
    n = min(len(each.images) for each in everything.values())
    if n < LEAST:
        least = min(everything, key=lambda name: len(everything[name].images))
        raise InputError(f"{least}: {n} images; realism needs at least {LEAST} of each set.")
    taken = {name: _taken(each, n, seed) for name, each in everything.items()}
    _refuse_shared_images(taken)
    families = {name: _family(features, taken, seed, advance) for name, features in FAMILIES.items()}
    reference, floor = (set(taken[name].subjects or ()) for name in ("held-out images", "training images"))
    return Realism(n, len(reference), len(floor), seed, families)


def _refuse_shared_subjects(sets: Mapping[str, ImageSet], held_out: ImageSet, train: ImageSet) -> None:
    if held_out.subjects is None or train.subjects is None:
        raise ValueError("held-out and training images are of people: their subjects are needed")
    if taken := {"held-out images", "training images"} & set(sets):
        raise ValueError(f"a set is called {taken.pop()!r}; that name is the reference's or the floor's")
    for name, each in {"the training images": train, **sets}.items():
        if shared := set(each.subjects or ()) & set(held_out.subjects):
            raise InputError(
                f"{name}: subject {min(shared)} is also among the held-out images. Realism is measured against "
                "subjects that nothing else was made from."
            )


def _refuse_shared_images(taken: Mapping[str, _Taken]) -> None:
    others = dict(taken)
    reference = others.pop("held-out images")
    known = {key for key, image in zip(reference.keys, reference.images, strict=True) if image.min() < image.max()}
    for name, each in others.items():
        if each.images.shape != reference.images.shape:
            raise InputError(
                f"{name}: images of {each.images.shape[1:]} pixels, and held-out ones of {reference.images.shape[1:]}. "
                "Compare images of one size."
            )
        if shared := sum(key in known for key in each.keys):
            raise InputError(f"{name}: {shared} of the images are among the held-out ones, to the bit.")


@dataclass(frozen=True, eq=False)
class _Taken:
    """Images (n, H, W), their subjects, and the hash of each."""

    images: NDArray[np.uint8]
    subjects: list[str] | None
    keys: list[bytes]


def _taken(source: ImageSet, n: int, seed: int) -> _Taken:
    if source.subjects is not None:
        picks = np.sort(spread_over_subjects(source.subjects, n, seed=seed))
        images = np.asarray(source.images[picks])
        return _Taken(images, [source.subjects[i] for i in picks], _keys(images))
    keys = _keys(np.asarray(source.images[np.arange(len(source.images))]))
    picks = np.array(sorted(range(len(keys)), key=lambda i: keys[i]))
    picks = picks[np.sort(np.random.default_rng(seed).permutation(len(picks))[:n])]
    return _Taken(np.asarray(source.images[picks]), None, [keys[i] for i in picks])


def _keys(images: NDArray[np.uint8]) -> list[bytes]:
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def _family(
    features: Callable[[NDArray[np.uint8]], Matrix], taken: Mapping[str, _Taken], seed: int, advance: Advance
) -> Family:
    found = {}
    for name, each in taken.items():
        found[name] = features(each.images)
        advance(len(each.images))
    reference = found["held-out images"]
    placed = {name: points(standardised(found[name], reference), each.subjects) for name, each in taken.items()}
    real, train = placed.pop("held-out images"), placed.pop("training images")
    floor = measure(train, real, seed=seed)
    sets = {name: _compared(each, real, floor, seed) for name, each in placed.items()}
    return Family(reference.shape[1], floor.estimates(), sets)


def _compared(found: Points, reference: Points, floor: Measured, seed: int) -> Compared:
    measured = measure(found, reference, seed=seed)
    beyond = measured.beyond(floor)
    better, typical = (tuple(name for name in beyond if (name in TYPICAL) is side) for side in (False, True))
    return Compared(measured.estimates(), measured.above(floor), better, typical)


def standardised(features: Matrix, reference: Matrix) -> Matrix:
    """By the mean and deviation of the reference, logarithmic where it is far; a feature in which the whole reference
    agrees keeps its unit."""
    deviation = reference.std(0)
    return np.asarray(np.arcsinh((features - reference.mean(0)) / np.where(deviation > 1e-9, deviation, 1)))
