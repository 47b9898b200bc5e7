"""Both families of features: each image by itself, finite for any, true to their names; and the shipped network."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.realism_network import borders, first_half, smoothed, tissue
from brainvq.errors import InputError
from brainvq.metrics import look_features as look
from brainvq.metrics.image_statistics import NAMES, image_statistics
from brainvq.metrics.realism import FAMILIES
from heads import blurred, heads

FAMILY = pytest.mark.parametrize("features", FAMILIES.values(), ids=FAMILIES)


def named(images: NDArray[np.uint8], part: str) -> NDArray[np.float64]:
    """The columns whose name has this part."""
    return image_statistics(images)[:, [part in name for name in NAMES]]


@FAMILY
def test_each_image_by_itself(features) -> None:
    images = heads(5)
    together = features(images)
    assert together.shape[1] <= 64
    assert together.dtype == np.float64
    alone = np.concatenate([features(image[None]) for image in images])
    assert together == pytest.approx(alone, rel=1e-4, abs=1e-4)
    assert features(images[:0]).shape == (0, together.shape[1])


@FAMILY
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (130, 128), (256, 200)])
def test_every_image_of_every_size_has_features(features, size: tuple[int, int]) -> None:
    flat = [np.full(size, level, np.uint8) for level in (0, 1, 255)]
    dot = np.zeros(size, np.uint8)
    dot[0, 0] = 255
    assert np.isfinite(
        features(np.stack([*flat, dot, np.random.default_rng(0).integers(0, 256, size, np.uint8)]))
    ).all()


@FAMILY
@pytest.mark.parametrize(
    "images", [np.zeros((2, 64, 64)), np.zeros((2, 63, 64), np.uint8), np.zeros((64, 64), np.uint8)]
)
def test_other_images_are_refused(features, images) -> None:
    with pytest.raises(InputError, match="8-bit images"):
        features(images)


@FAMILY
def test_features_do_not_depend_on_what_lies_in_memory(features) -> None:
    images = heads(3)
    assert np.array_equal(features(images[:, :, ::-1].copy()), features(images[:, :, ::-1]))


def test_every_statistic_has_a_name() -> None:
    assert len(NAMES) == len(set(NAMES)) == image_statistics(heads(1)).shape[1]


def test_statistics_say_what_they_name() -> None:
    images = heads(4)
    mirrored = np.concatenate([images[:, :, :40], images[:, :, 39::-1]], axis=2)
    assert named(mirrored, "likeness of left") == pytest.approx(1, abs=0.02)
    assert (named(blurred(images, 2), "roughness at 1") < 0.5 * named(images, "roughness at 1")).all()
    assert (named(blurred(images, 1), "power, ring 0") < named(images, "power, ring 0")).all()
    assert (named(images, "levels") ** 2).sum(1) == pytest.approx(1)
    stripes = np.zeros((1, 64, 64), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = 200
    across = dict(zip([name for name in NAMES if "degrees" in name], named(stripes, "degrees")[0], strict=True))
    assert max(across, key=across.get) == "edges at 90 degrees", "gradients of rows point down"


def test_the_power_of_white_noise_is_its_variance_at_every_frequency() -> None:
    noise = np.random.default_rng(0).normal(128, 20, (8, 128, 128)).round().astype(np.uint8)
    power = named(noise, "power").mean(0)
    assert power[:5] == pytest.approx(20 / 2, rel=0.1), "of means of 2 x 2 pixels"


def test_statistics_keep_their_range_when_a_picture_is_drawn_larger() -> None:
    images = blurred(heads(4, (128, 112)), 2)
    larger = images.repeat(2, axis=1).repeat(2, axis=2)
    for part in ("levels", "degrees", "radius", "brightness", "likeness"):
        assert named(larger, part) == pytest.approx(named(images, part), rel=0.2, abs=0.08), part


def test_a_head_may_lie_anywhere() -> None:
    images = np.pad(heads(3, (96, 80)), ((0, 0), (16, 16), (24, 24)))
    moved = np.roll(images, (8, -12), axis=(1, 2))
    for part in ("levels", "degrees", "radius", "brightness", "likeness", "sparseness at 2", "roughness at 2"):
        assert named(moved, part) == pytest.approx(named(images, part), rel=0.05, abs=0.02), part


def test_statistics_are_fast() -> None:
    from time import perf_counter

    images = heads(40, (256, 256))
    image_statistics(images[:2])
    started = perf_counter()
    image_statistics(images)
    assert perf_counter() - started < 40 / 25, "200 a second on two idle cores; here on one busy one"


def test_the_shipped_network_is_small_and_says_where_it_comes_from() -> None:
    facts, content = look.facts(), look.WEIGHTS.read_bytes()
    assert hashlib.sha256(content).hexdigest() == facts["weights_sha256"]
    assert len(content) < 1_500_000
    assert facts["parameters"] == sum(weight.numel() for weight in look.shipped_look().parameters()) < 300_000
    assert facts["command"] == "python -m benchmarks.realism_network"
    unseen = facts["reached"]["validate subjects"]
    assert unseen["position_explained"] > 0.9
    assert "look.safetensors" in (look.WEIGHTS.parent / "LICENSE.md").read_text()


def test_no_model_is_shipped_by_accident() -> None:
    from brainvq.models import shipped

    assert "look" not in shipped()
    assert "src" in look.WEIGHTS.parts


def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(look.WEIGHTS.read_bytes())
    content[-1] ^= 1
    (tmp_path / "look.safetensors").write_bytes(content)
    (tmp_path / "look.json").write_text(json.dumps(look.facts()))
    monkeypatch.setattr(look, "WEIGHTS", tmp_path / "look.safetensors")
    look.shipped_look.cache_clear()
    with pytest.raises(InputError, match="damaged or was replaced"):
        look.look_features(heads(1))
    look.shipped_look.cache_clear()


def test_what_the_network_sees_is_the_whole_picture_in_a_square() -> None:
    images = heads(1, (256, 192))
    x = look.seen(images)[0, 0]
    assert x.shape == (128, 128)
    assert float(x.sum()) * 4 == pytest.approx(images.sum() / 255, rel=1e-4)
    assert not x[:, :16].any()
    assert not x[:, -16:].any()
    assert float(look.seen(heads(1, (64, 64))).max()) <= 1


def test_half_of_the_subjects_is_the_same_half_whatever_their_order() -> None:
    names = [f"{n:03}" for n in range(1, 152)]
    half = first_half(names)
    assert half == first_half([*reversed(names), *names])
    assert len(half) == 75
    assert sorted(half)[:3] == ["005", "007", "009"], "as it was when the shipped network was trained"


def test_three_means_part_three_tissues() -> None:
    generator = np.random.default_rng(0)
    images = np.concatenate([generator.normal(at, 8, 4000) for at in (40, 110, 180)]).clip(0, 255)
    low, high = borders(images.round().astype(np.uint8).reshape(1, 100, 120), np.ones((1, 100, 120), bool))
    assert (low, high) == pytest.approx((75, 145), abs=2)


def test_tissue_is_counted_by_cell_and_what_smoothing_takes_away_is_fine() -> None:
    x, head = torch.full((1, 1, 128, 128), 0.5), torch.ones(1, 1, 128, 128)
    x[..., :64, :] = 0.9
    levels = torch.tensor([[0.3, 0.7]])
    coarse = tissue(x, head, levels)[0]
    cells = coarse[:48].reshape(3, 4, 4)
    assert cells[2, :2].unique().tolist() == [1]
    assert cells[1, 2:].unique().tolist() == [1]
    x[..., ::4, ::4] = 0.1
    assert tissue(x, head, levels)[0, 48] == pytest.approx(1 / 16, abs=0.01)
    assert coarse[48:].max() < 0.03
    assert smoothed(x).mean() == pytest.approx(float(x.mean()))
