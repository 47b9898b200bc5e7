"""Each measure against an independent oracle, and the known traps of SSIM."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from brainvq.errors import InputError
from brainvq.head import head_mask
from brainvq.metrics.definitions import MEASURES
from brainvq.metrics.distortion import MS_SSIM_WEIGHTS, Distortion, distortion, ssim, ssim_shifted, to_uint8
from heads import blurred, heads, to_x

ORACLE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
BRAIN = {"ssim_brain", "psnr_brain"}


def oracle(x: NDArray, y: NDArray, data_range: float = 255) -> list[float]:
    return [structural_similarity(a, b, data_range=data_range, **ORACLE) for a, b in zip(x, y, strict=True)]


def noisy(images: NDArray, sigma: float = 12) -> NDArray:
    noise = np.random.default_rng(7).normal(0, sigma, images.shape)
    return (images + noise).round().clip(0, 255).astype(np.uint8)


PAIRS: dict[str, Callable[[NDArray], NDArray]] = {
    "blurred": lambda images: blurred(images, 1.2),
    "noisy": noisy,
    "black": np.zeros_like,
    "white": lambda images: np.full_like(images, 255),
    "inverted": lambda images: 255 - images,
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("size", [(96, 80), (11, 11), (33, 128)])
def test_ssim_is_that_of_scikit_image(pair: str, size: tuple[int, int]) -> None:
    x = heads(2, size)
    y = PAIRS[pair](x)
    np.testing.assert_allclose(ssim(to_x(x), to_x(y)), oracle(x, y), atol=1e-9)
    np.testing.assert_allclose(
        ssim_shifted(to_x(x), to_x(y)), oracle(x / 255 - 0.5, y / 255 - 0.5, 1), atol=1e-5, rtol=1e-5
    )


def test_cancellation_is_harmless_on_bright_flat_images() -> None:
    x = np.full((1, 40, 40), 254, np.uint8)
    y = x + np.random.default_rng(0).integers(0, 2, x.shape).astype(np.uint8)
    np.testing.assert_allclose(ssim(to_x(x), to_x(y)), oracle(x, y), atol=1e-9)


def test_ssim_is_that_of_torchmetrics_away_from_its_padding() -> None:
    x, y = heads(2), blurred(heads(2), 1)
    _, full = structural_similarity_index_measure(
        torch.from_numpy(y).double()[:, None],
        torch.from_numpy(x).double()[:, None],
        sigma=1.5,
        data_range=255.0,
        return_full_image=True,
    )
    inner = full[..., 5:-5, 5:-5] if full.shape[-1] == x.shape[-1] else full[..., 10:-10, 10:-10]
    np.testing.assert_allclose(ssim(to_x(x), to_x(y)), inner.flatten(1).mean(1), atol=1e-9)


def test_golden_values() -> None:
    """A picture anyone can write down; the numbers were checked against the oracles of this file when they were set."""
    rows, columns = np.mgrid[:256, :256]
    x = (127.5 + 80 * np.sin(rows / 9) * np.cos(columns / 13)).round().astype(np.uint8)[None]
    x[:, np.hypot(rows - 128, columns - 128) > 100] = 0
    y = (x // 32 * 32 + 8).astype(np.uint8)
    found = distortion(to_x(x), to_x(y)).columns()
    golden = {
        "ssim": 0.44196,
        "ssim_foreground": 0.71862,
        "ms_ssim": 0.97258,
        "psnr": 27.97472,
        "psnr_foreground": 26.50975,
        "mae": 8.92972,
        "gmsd": 0.13506,
        "spectrum_error": 7.7879,
        "ssim_shifted": 0.79408,
    }
    assert {name for name in found if not math.isnan(found[name][0])} == golden.keys()
    for name, value in golden.items():
        assert found[name][0] == pytest.approx(value, abs=2e-4), name


def test_equal_images() -> None:
    found = distortion(to_x(heads()), to_x(heads())).columns()
    for name in ("ssim", "ssim_shifted", "ssim_foreground", "ms_ssim"):
        np.testing.assert_allclose(found[name], 1, atol=1e-12)
    for name in ("mae", "gmsd", "spectrum_error"):
        np.testing.assert_allclose(found[name], 0, atol=1e-6)
    for name in ("psnr", "psnr_foreground"):
        np.testing.assert_allclose(found[name], 10 * math.log10(255**2 * 12), atol=1e-9)


def test_every_measure_ranks_blur() -> None:
    x = heads(3, (176, 176))
    found = [distortion(to_x(x), to_x(blurred(x, sigma))).columns() for sigma in (0.6, 1.2, 2.4)]
    for name, measure in MEASURES.items():
        if name not in BRAIN:
            steps = np.diff([columns[name] for columns in found], axis=0)
            assert (steps < 0 if measure.better == "higher" else steps > 0).all(), name


def test_a_black_image_is_not_nearly_right() -> None:
    """SSIM with the range of another scale, or one window over the image, reads 0.97 and more here."""
    x = heads(4, (128, 128))
    black = np.zeros_like(x)
    found = distortion(to_x(x), to_x(black)).columns()
    assert (found["ssim"] > 0.2).all()
    assert (found["ssim"] < 0.6).all()
    assert (found["ssim_foreground"] < 0.05).all()
    assert min(oracle(x / 255, black / 255, 255)) > 0.97, "the trap itself"


def test_a_blurred_image_with_the_wrong_range_would_look_perfect() -> None:
    x = heads(2, (128, 128))
    y = blurred(x, 3)
    assert (ssim(to_x(x), to_x(y)) < 0.75).all()
    assert min(oracle(x / 255, y / 255, 255)) > 0.99, "the trap itself"


def test_the_shifted_scale_forgives_the_background() -> None:
    x = heads(2, (128, 128))
    y = np.where(head_mask(x), x, x + 6).astype(np.uint8)
    assert (ssim_shifted(to_x(x), to_x(y)) > ssim(to_x(x), to_x(y)) + 0.1).all()


def test_images_are_compared_as_8_bit_but_shifted_is_not_clipped() -> None:
    x = to_x(heads())
    within = x + 0.4 / 127.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert torch.equal(ssim(x, within), torch.ones(3, dtype=torch.float64))
    beyond = torch.where(x > 0.5, x + 1, x)
    clipped = beyond.clamp(-1, 1)
    assert torch.equal(ssim(x, beyond), ssim(x, clipped))
    assert (ssim_shifted(x, beyond) < ssim_shifted(x, clipped)).all()


def test_every_grey_level_survives_the_model_range() -> None:
    levels = torch.arange(256.0)
    assert torch.equal(to_uint8(levels / 127.5 - 1), levels)
    assert torch.equal(to_uint8(torch.tensor([-3.0, 7.0])), torch.tensor([0.0, 255.0]))


def test_foreground_is_the_map_inside_the_mask() -> None:
    x, y = heads(3), blurred(heads(3), 1)
    head = head_mask(x)
    brain = ndimage.binary_erosion(head, iterations=6, axes=(1, 2))
    found = distortion(to_x(x), to_x(y), brain=brain).columns()
    inner = (slice(5, -5), slice(5, -5))
    for i in range(3):
        full = structural_similarity(x[i], y[i], data_range=255, full=True, **ORACLE)[1]
        error = np.square(x[i].astype(float) - y[i])
        for mask, name in ((head[i], "foreground"), (brain[i], "brain")):
            assert found[f"ssim_{name}"][i] == pytest.approx(full[inner][mask[inner]].mean(), abs=1e-9)
            assert found[f"psnr_{name}"][i] == pytest.approx(10 * math.log10(255**2 / error[mask].mean()), abs=1e-9)
        assert found["mae"][i] == pytest.approx(np.abs(x[i].astype(float) - y[i]).mean())
        assert found["psnr"][i] == pytest.approx(10 * math.log10(255**2 / error.mean()))


def test_ms_ssim_is_the_product_over_scales() -> None:
    for size, scales in (((176, 192), 5), ((128, 140), 4), ((24, 40), 2), ((16, 16), 1)):
        x, y = heads(1, size), noisy(heads(1, size))
        expected = slow_ms_ssim(x[0].astype(float), y[0].astype(float), scales)
        assert distortion(to_x(x), to_x(y)).ms_ssim[0] == pytest.approx(expected, abs=1e-9)


def slow_ms_ssim(x: NDArray, y: NDArray, scales: int) -> float:
    def mean(image: NDArray) -> NDArray:
        return ndimage.gaussian_filter(image, 1.5, truncate=3.5)[5:-5, 5:-5]

    score, weights = 1.0, np.array(MS_SSIM_WEIGHTS[:scales]) / sum(MS_SSIM_WEIGHTS[:scales])
    for scale in range(scales):
        covariance = mean(x * y) - mean(x) * mean(y)
        variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
        factor = (2 * covariance + 7.65**2) / (variances + 7.65**2)
        if scale == scales - 1:
            factor *= (2 * mean(x) * mean(y) + 2.55**2) / (mean(x) ** 2 + mean(y) ** 2 + 2.55**2)
        score *= max(factor.mean(), 0) ** weights[scale]
        x, y = (v[: len(v) // 2 * 2, : v.shape[1] // 2 * 2] for v in (x, y))
        x, y = (v.reshape(len(v) // 2, 2, -1, 2).mean((1, 3)) for v in (x, y))
    return score


def test_gmsd_is_that_of_its_paper() -> None:
    x, y = heads(1)[0].astype(float), blurred(heads(1), 1)[0].astype(float)
    prewitt = np.array([[1, 0, -1]] * 3) / 3

    def magnitude(image: NDArray) -> NDArray:
        small = image.reshape(48, 2, 40, 2).mean((1, 3))
        return np.hypot(ndimage.convolve(small, prewitt), ndimage.convolve(small, prewitt.T))[1:-1, 1:-1]

    a, b = magnitude(x), magnitude(y)
    expected = ((2 * a * b + 170) / (a**2 + b**2 + 170)).std()
    found = distortion(to_x(heads(1)), to_x(blurred(heads(1), 1))).gmsd[0]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (49, 66)])
def test_halving_the_contrast_is_six_decibels_at_every_frequency(size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).integers(28, 228, (1, *size)) // 2 * 2
    y = (x - 128) // 2 + 128
    found = distortion(to_x(x.astype(np.uint8)), to_x(y.astype(np.uint8))).spectrum_error[0]
    assert found == pytest.approx(20 * math.log10(2), abs=0.01)


@pytest.mark.parametrize("size", [(64, 64), (49, 66)])
def test_the_spectrum_is_that_of_a_whole_transform(size: tuple[int, int]) -> None:
    x, y = heads(1, size), blurred(heads(1, size), 1)

    def power(image: NDArray) -> NDArray:
        window = np.outer(*(np.hanning(length + 1)[:-1] for length in size))
        spectrum = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
        radius = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1])[None]) * min(size)
        rings = [spectrum[np.rint(radius) == ring].mean() for ring in range(1, min(size) // 2 + 1)]
        return 10 * np.log10(np.array(rings) + (window**2).sum() / 12)

    expected = np.abs(power(x[0]) - power(y[0])).mean()
    assert distortion(to_x(x), to_x(y)).spectrum_error[0] == pytest.approx(expected, abs=1e-3)


def test_an_image_is_measured_alone() -> None:
    x, y = to_x(heads(4)), to_x(noisy(heads(4)))
    together, apart = distortion(x, y).columns(), distortion(x[2:3], y[2:3]).columns()
    for name in together:
        np.testing.assert_allclose(together[name][2:3], apart[name], rtol=1e-6, err_msg=name)


def test_empty_masks_are_nan_and_nothing_else_is() -> None:
    x, y = heads(2), noisy(heads(2))
    x[1] = 0
    found = distortion(to_x(x), to_x(y)).columns()
    for name, column in found.items():
        inside = name in BRAIN or (name in {"ssim_foreground", "psnr_foreground"})
        assert np.isnan(column[1]) == inside, name
        assert np.isnan(column[0]) == (name in BRAIN), name


@pytest.mark.parametrize("measure", [ssim, ssim_shifted, distortion])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nan_and_infinity_are_refused(measure: Callable[..., Distortion], value: float) -> None:
    y = to_x(heads())
    y[1, 0, 3, 3] = value
    with pytest.raises(InputError, match="NaN"):
        measure(to_x(heads()), y)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="at least 11 x 11"):
        ssim(torch.zeros(1, 1, 10, 64), torch.zeros(1, 1, 10, 64))
    with pytest.raises(ValueError, match="both must"):
        ssim(torch.zeros(1, 1, 64, 64), torch.zeros(2, 1, 64, 64))
    with pytest.raises(ValueError, match="both must"):
        ssim(torch.zeros(64, 64), torch.zeros(64, 64))


def test_every_measure_is_defined() -> None:
    assert list(MEASURES) == list(distortion(to_x(heads(1)), to_x(heads(1))).columns())


def test_known_scores_of_real_slices(shared: Path) -> None:
    """OASIS validate, every 29th slice: what a black image and the previous slice of the same subject score there."""
    folder = shared / "oasis/keras_png_slices_data/keras_png_slices_validate"
    paths = sorted(folder.glob("*.png"), key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])
    picked = [i for i in range(1, len(paths), 29) if i % 32]
    images, previous = (np.stack([np.asarray(Image.open(paths[i - back])) for i in picked]) for back in (0, 1))
    assert head_mask(images).mean() == pytest.approx(0.40, abs=0.02)
    scores = {
        name: {measure: column.mean() for measure, column in distortion(to_x(images), to_x(other)).columns().items()}
        for name, other in (("previous", previous), ("black", np.zeros_like(images)))
    }
    for name, measure, value, tolerance in (
        ("previous", "ssim", 0.951, 0.005),
        ("previous", "ssim_foreground", 0.897, 0.01),
        ("previous", "psnr", 31.8, 0.5),
        ("previous", "psnr_foreground", 27.9, 0.5),
        ("black", "ssim", 0.47, 0.03),
        ("black", "ssim_foreground", 0.001, 0.001),
        ("black", "ssim_shifted", 0.59, 0.01),
        ("black", "psnr", 12.8, 0.4),
    ):
        assert scores[name][measure] == pytest.approx(value, abs=tolerance), (name, measure)
