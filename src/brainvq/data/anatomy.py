"""One synthetic head: who a subject is, how the template is bent into that head, what a T1 scanner makes of it.

Method: label maps deformed by random smooth fields and given random contrasts, after Billot et al., "SynthSeg:
Segmentation of brain MRI scans of any contrast and resolution without retraining", Medical Image Analysis 86, 2023;
noise after Gudbjartsson and Patz, "The Rician distribution of noisy MRI data", Magnetic Resonance in Medicine 34, 1995.
Deviations: one T1-like contrast; skull and scalp are grown from the distance to the brain; folds are cut where the
template has averaged them away; the walls of the ventricles move with age. All lengths are in millimetres and every
field is a function of millimetres: a subject keeps its anatomy whatever the image size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brainvq.data.fields import FIELD_OF_VIEW, Field, Space, sampled_field, shrink, single, smooth_field
from brainvq.data.template import Template

NOISE = 0.075  # standard deviation of one acquisition's complex noise, as a share of the white-matter signal: frozen
ACQUISITIONS = 3  # magnitude images averaged into one scan; OASIS-1 has three or four a session

CENTRE = (0.0, -18.0, 14.5)  # template x, y, z at the middle of the slab: the lateral ventricles
TALAIRACH = 1.06  # OASIS slices lie in the Talairach atlas, whose brain is smaller than that of MNI152 by this factor
WALL_REACH = 11.0  # distance over which the push of a ventricle wall fades
MENINGES = 1.2  # label maps end that far outside the brain's hull, as those of OASIS do
BACKGROUND, FLUID, GREY, WHITE = 0, 85, 170, 255  # values of the label maps


@dataclass(frozen=True)
class Traits:
    """What sets a subject apart besides its random fields. Lengths in millimetres, signals relative to white matter."""

    age: int
    sex: str
    widening: float  # how far the walls of the ventricles have moved outwards
    sulcus: float  # half the width of a sulcus
    stretch: NDArray[np.float64]  # x, y, z
    tilt: NDArray[np.float64]  # radians around x, y, z
    shift: NDArray[np.float64]
    fluid: float
    grey: float
    rim: float  # fluid between brain and skull
    diploe: float
    muscle: float
    scalp: float
    marrow: float  # signal of the diploe
    fat: float  # signal of the scalp
    view: float  # left-right extent of the field of view
    corner: float  # what is missing at its corners
    capsule: tuple[float, float, float, float] | None  # marker at the temple: x, y, z, radius
    lesions: int


@dataclass(frozen=True)
class Head:
    """Slices (K, R, C) of the field of view: `signal` (white matter = 1, no noise), `labels`, `lesions`."""

    signal: Field
    labels: NDArray[np.uint8]
    lesions: NDArray[np.bool_]


def draw_traits(rng: np.random.Generator, lesion_share: float) -> Traits:
    """A subject. The number of draws does not depend on `lesion_share`: lesions change nothing else of a subject."""
    normal, uniform = rng.normal, rng.uniform
    age = int(rng.integers(18, 96))
    old = (age - 18) / 77
    capsule = (normal(-78, 3), normal(60, 8), uniform(-12, 16), uniform(2.5, 4.0))
    lesions = int(rng.integers(2, 13))
    has_capsule, has_lesions = bool(uniform() < 0.5), bool(uniform() < lesion_share)
    return Traits(
        age=age,
        sex="F" if uniform() < 0.6 else "M",
        widening=float(np.clip(-0.4 + 4.2 * old**1.5 + normal(0, 0.4 + old), -1.0, 6.0)),
        sulcus=float(np.clip(0.1 + 0.9 * old + normal(0, 0.15), 0.0, 1.5)),
        stretch=normal((1.0, 0.985, 1.0), (0.03, 0.02, 0.03)),
        tilt=normal(0.0, (0.03, 0.02, 0.025)),
        shift=normal(0.0, (1.0, 1.2, 2.0)),
        fluid=uniform(0.2, 0.36),
        grey=normal(0.645, 0.025) + 0.03 * old,
        rim=uniform(0.8, 1.6) + 1.2 * old,
        diploe=uniform(2.0, 5.0),
        muscle=uniform(3.0, 8.0),
        scalp=uniform(3.5, 7.0),
        marrow=uniform(0.4, 1.0),
        fat=uniform(1.3, 1.6),
        view=uniform(158, 176),
        corner=uniform(20, 60),
        capsule=capsule if has_capsule else None,
        lesions=lesions if has_lesions else 0,
    )


def _place(traits: Traits, rng: np.random.Generator, space: Space) -> list[Field]:
    """Template x, y, z (K, R, C) of every voxel: pose and size of the head, then its shape."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(traits.tilt), np.cos(traits.tilt)
    turn = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn = turn @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rows = (turn * TALAIRACH / traits.stretch).astype(np.float32)
    offset = (np.array(CENTRE) + traits.shift).astype(np.float32)
    points = [a * space.x + b * space.y + c * space.z + o for (a, b, c), o in zip(rows, offset, strict=True)]
    return _bend(points, rng, space, spacing=60.0, amount=2.4)


def _bend(points: list[Field], rng: np.random.Generator, space: Space, spacing: float, amount: float) -> list[Field]:
    return [p + np.float32(amount) * smooth_field(rng, space, spacing) for p in points]


def _tissue(
    template: Template, points: list[Field], depth: Field, traits: Traits, rng: np.random.Generator, space: Space
) -> Field:
    """Tissue level (K, R, C) from 0 fluid to 2 white matter: gyri are bent, ventricle walls moved, sulci cut."""
    points = _bend(_bend(points, rng, space, spacing=22.0, amount=1.7), rng, space, spacing=11.0, amount=1.0)
    way = np.float32(traits.widening) * (1 + np.float32(0.25) * smooth_field(rng, space, 40.0))
    walls = template.sample(template.walls, points)
    way = np.minimum(way * np.exp(-((walls / WALL_REACH) ** 2)), np.clip(walls + 1, 0, None))  # never past a ventricle
    points = [p - way * template.sample(axis, points) for p, axis in zip(points, template.outwards, strict=True)]
    tissue = template.sample(template.tissue, points)
    tissue -= np.float32(0.12 * traits.sulcus) * np.clip(np.float32(1.4) - tissue, 0, 1)
    return np.minimum(tissue, _folds(points, depth, traits, rng, space))


def _folds(points: list[Field], depth: Field, traits: Traits, rng: np.random.Generator, space: Space) -> Field:
    """Tissue level (K, R, C) around sulci: sheets at right angles to the hull, along the zeros of a random field."""
    outwards = (1 + np.clip(depth, 0, 30) / np.float32(60)) / np.float32(TALAIRACH)
    centred = [p - np.float32(c) for p, c in zip(points, CENTRE, strict=True)]
    field = sampled_field(rng, 12.5, [p * outwards for p in _bend(centred, rng, space, spacing=16.0, amount=1.2)])
    reach = 11 + 5 * smooth_field(rng, space, 22.0)
    away = 6 * np.abs(field) + np.float32(0.6) * np.clip(depth - reach, 0, None)
    half = traits.sulcus
    return single(np.interp(away, (half - 0.6, half + 1.0, half + 2.5, half + 3.8), (0, 1, 1, 2)))


def _ramp(distance: Field, at: Field | float, width: float) -> Field:
    """0 below `at`, 1 above it, rising over `width` millimetres."""
    return single(np.clip((distance - at) / np.float32(width) + np.float32(0.5), 0, 1))


def _layers(hull: Field, traits: Traits, rng: np.random.Generator, space: Space) -> Field:
    """Signal (K, R, C) outside the brain by distance: fluid, inner table, diploe, outer table, muscle, scalp, air."""
    side = np.clip(np.abs(space.x) / np.float32(70), 0, 1) ** 3
    temple = np.exp(-(((space.y - 32) / 24) ** 2)) * side * np.clip(np.float32(0.7) - space.z / 30, 0, 1.3)
    uneven, speckle = smooth_field(rng, space, 30.0), smooth_field(rng, space, 3.5)
    edge = np.float32(traits.rim) * (1 + np.float32(0.4) * uneven)
    signal = np.full_like(hull, traits.fluid)
    scalp_signal = traits.fat * np.exp(np.float32(0.1) * speckle + np.float32(0.1) * smooth_field(rng, space, 40.0))
    for value, thickness, width in (
        (0.17, 1.8, 1.5),
        (traits.marrow * (1 + np.float32(0.2) * speckle), traits.diploe * (1 - 0.7 * side) * (1 + 0.35 * uneven), 1.5),
        (0.2, 1.8, 1.5),
        (0.5, traits.muscle * temple, 1.0),
        (scalp_signal, traits.scalp * (1 - 0.35 * temple) * (1 + 0.25 * smooth_field(rng, space, 50.0)), 2.0),
        (0.0, 0.0, 3.0),
    ):
        signal += (np.asarray(value, dtype=np.float32) - signal) * _ramp(hull, edge, width)
        edge = edge + np.maximum(np.asarray(thickness, dtype=np.float32), 0)
    return signal


def _lesions(tissue: Field, traits: Traits, rng: np.random.Generator, space: Space) -> Field:
    """Weight (K, R, C) in [0, 1] of lesions: soft balls centred in white matter."""
    weight = np.zeros_like(tissue)
    inside = np.argwhere(tissue > 1.9)
    for _ in range(traits.lesions if len(inside) else 0):
        k, r, c = inside[rng.integers(len(inside))]
        squared = (space.z - space.z[k]) ** 2 + (space.x - space.x[:, r]) ** 2 + (space.y - space.y[:, :, c]) ** 2
        weight = np.maximum(weight, 1 - _ramp(np.sqrt(squared), rng.uniform(1.5, 4.5), 1.5))
    return weight * _ramp(tissue, 1.6, 0.3)


def make_head(template: Template, traits: Traits, rng: np.random.Generator, slices: int, size: int) -> Head:
    """A head without noise at `size` pixels to 256 mm. Up to 128 a pixel is the mean of four voxels."""
    factor = 2 if size <= 128 else 1
    space = Space(slices, size, factor)
    points = _place(traits, rng, space)
    hull = template.sample(template.hull, points)
    tissue = _tissue(template, points, -hull, traits, rng, space)
    signal = single(np.interp(tissue, (0.25, 0.8, 1.15, 1.8), (traits.fluid, traits.grey, traits.grey, 1)))
    signal *= 1 + np.float32(0.02) * smooth_field(rng, space, 4.0)
    outside = _ramp(hull, 0.0, 1.0)
    signal += (_layers(hull, traits, rng, space) - signal) * outside
    signal *= np.exp(np.float32(0.07) * smooth_field(rng, space, 70.0))
    if traits.capsule is not None:
        x, y, z, radius = traits.capsule
        ball = 1 - _ramp(np.sqrt((space.x - x) ** 2 + (space.y - y) ** 2 + (space.z - z) ** 2), radius, 1.5)
        signal = np.maximum(signal, np.float32(1.5) * ball.astype(np.float32))
    lesion = _lesions(tissue, traits, rng, space) * (1 - outside)
    signal *= 1 - np.float32(0.4) * lesion
    signal, tissue, hull, lesion = (shrink(v, factor) for v in (signal, tissue, hull, lesion))
    labels = np.select([hull > MENINGES, tissue < 0.5, tissue < 1.5], [BACKGROUND, FLUID, GREY], WHITE).astype(np.uint8)
    return Head(signal, labels, (lesion > 0.5) & (labels == WHITE))


def scan(signal: Field, traits: Traits, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """What the scanner stores: slices (K, size, size), each scaled to 0..255 by its own maximum, as OASIS slices are.

    Magnitudes of complex noise (`NOISE`, Rician) are averaged over `ACQUISITIONS`; resampling into the atlas, which
    makes the noise of neighbours alike, is a small blur of the noise. Outside the field of view pixels are zero.
    """
    noisy = np.zeros_like(signal)
    for _ in range(ACQUISITIONS):
        real, imaginary = rng.standard_normal((2, *signal.shape), dtype=np.float32) * np.float32(NOISE)
        noisy += np.hypot(signal + real, imaginary)
    noisy = signal + ndimage.gaussian_filter(noisy / ACQUISITIONS - signal, 0.5)
    space = Space(signal.shape[0], size)
    half_x, half_y = (extent / 2 for extent in FIELD_OF_VIEW)
    seen = (np.abs(space.x) <= traits.view / 2) & (half_x - np.abs(space.x) + half_y - np.abs(space.y) > traits.corner)
    noisy = np.clip(noisy, 0, None) * seen
    pixels: NDArray[np.uint8] = np.rint(255 * noisy / noisy.max((1, 2), keepdims=True)).astype(np.uint8)
    return pixels
