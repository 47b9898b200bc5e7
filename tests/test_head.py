"""The head mask: what is head, what is not, and that an empty image has none."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.filters import threshold_otsu

from brainvq.head import _fill_holes, head_mask, otsu
from heads import heads


def disc(size: int, centre: tuple[int, int], radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return np.hypot(rows - centre[0], columns - centre[1]) <= radius


def test_holes_are_filled_and_specks_left_out() -> None:
    whole, hole, speck = disc(128, (64, 64), 40), disc(128, (64, 64), 15), disc(128, (8, 8), 5)
    image = ((whole & ~hole) * 200 + speck * 250).astype(np.uint8)
    mask = head_mask(image[None])[0]
    assert mask[64, 64]
    assert not mask[:20, :20].any()
    assert mask[whole].all(), "the mask lost part of the head"
    assert abs(mask.sum() / whole.sum() - 1) < 0.15


def test_faint_noise_is_not_head() -> None:
    images = heads(4)
    masks = head_mask(images)
    noise = images.astype(int) + np.random.default_rng(1).integers(0, 4, images.shape)
    changed = head_mask(noise.clip(0, 255).astype(np.uint8)) != masks
    assert changed.mean() < 0.01
    assert 0.2 < masks.mean() < 0.6


@pytest.mark.parametrize("level", [0, 7, 255])
def test_one_grey_level_has_no_head(level: int) -> None:
    assert not head_mask(np.full((2, 32, 32), level, np.uint8)).any()


def test_masks_do_not_depend_on_neighbours_in_the_batch() -> None:
    images = heads(3)
    assert np.array_equal(head_mask(images)[2], head_mask(images[2:])[0])
    assert head_mask(images[:0]).shape == (0, 96, 80)


def test_otsu_is_otsu() -> None:
    for image in heads(3):
        assert np.array_equal(image > otsu(image), image > threshold_otsu(image))
    assert otsu(np.array([[10, 10, 10, 200]], np.uint8)) == (10 + 199) / 2


def test_filling_agrees_with_scipy() -> None:
    for seed in range(5):
        mask = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(50, 40)), 1.5) > 0
        assert np.array_equal(_fill_holes(mask), ndimage.binary_fill_holes(mask))


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8), np.float32), np.zeros((8, 8), np.uint8)])
def test_anything_but_a_batch_of_8_bit_slices_is_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        head_mask(images)
