"""Losses of a reconstruction against the measures they stand for, and what a tokenizer's task does to its images."""

from typing import Any

import pytest
import torch
from torch import Tensor

from brainvq.metrics.distortion import ssim
from brainvq.networks import pixel_shuffle
from brainvq.quantizers import vq
from brainvq.tokenizers import vqvae
from brainvq.training.devices import accelerator
from brainvq.training.losses import dissimilarity, forgiven
from brainvq.training.tokenizer import Config, TokenizerTask, trained_size


def smooth(batch: int = 2, height: int = 48, width: int = 64, seed: int = 0) -> Tensor:
    noise = torch.rand(batch, 1, height // 4, width // 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(noise, scale_factor=4, mode="bilinear")


def test_dissimilarity_is_one_minus_ssim_but_for_rounding_and_every_other_window() -> None:
    x = smooth()
    x_hat = (x + 0.1 * smooth(seed=1)).clamp(-1, 1)
    assert float(dissimilarity(x, x)) == pytest.approx(0, abs=1e-5)
    assert float(dissimilarity(x, x_hat)) == pytest.approx(1 - float(ssim(x, x_hat).mean()), abs=0.01)


def test_dissimilarity_falls_along_its_gradient() -> None:
    x, x_hat = smooth(), smooth(seed=1).requires_grad_()
    before = dissimilarity(x, x_hat)
    (slope,) = torch.autograd.grad(before, x_hat)
    assert dissimilarity(x, x_hat - 0.1 * slope / slope.abs().max()) < before


def test_what_clipping_removes_is_forgiven_and_nothing_else() -> None:
    x = torch.tensor([-1.0, -1.0, -1.0, 1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 1, 7)
    x_hat = torch.tensor([-1.5, -1.0, -0.9, 1.5, 0.9, -1.5, 1.5]).reshape(1, 1, 1, 7).requires_grad_()
    held = forgiven(x, x_hat)
    assert held.flatten().tolist() == pytest.approx([-1.0, -1.0, -0.9, 1.0, 0.9, -1.5, 1.5])
    (slope,) = torch.autograd.grad((held - x).square().sum(), x_hat)
    assert (slope.flatten() != 0).tolist() == [False, False, True, False, True, True, True]


def task(**settings: Any) -> TokenizerTask:
    torch.manual_seed(0)
    network = pixel_shuffle.Config(patch=4, widths=(4, 6), encoder_blocks=(0, 0), decoder_blocks=(0, 0), dim=3)
    tokenizer = vqvae.Config(network=network, quantizer=vq.Config(entries=8)).build()
    return TokenizerTask(Config(**settings), tokenizer, accelerator("fp32"), learning_rate=1e-3, variance=0.5)


def test_a_step_names_each_term_and_they_add_up() -> None:
    found = task(absolute=0.5, structural=2.0, forgive=True).step(smooth(), 0, 10)
    assert set(found) == {"loss", "reconstruction", "absolute", "structural", "commitment"}
    assert float(found["loss"]) == pytest.approx(sum(float(found[name]) for name in found if name != "loss"), rel=1e-5)
    assert set(task().step(smooth(), 0, 10)) == {"loss", "reconstruction", "commitment"}


@pytest.mark.parametrize("crop", [0.1, 0.5, 0.7, 1.0])
def test_crops_are_pieces_of_their_image_of_a_legal_size(crop: float) -> None:
    """Each pixel's value says where it was, so that a piece tells its place."""
    size = (48, 64)
    x = torch.arange(48.0 * 64).reshape(1, 1, *size).expand(5, 1, *size) / (48 * 64)
    torch.manual_seed(0)
    found = task(crop=crop)._varied(x)
    height, width = found.shape[2:]
    assert (height, width) == trained_size(crop, size, (8, 8)) == tuple(max(1, round(crop * n / 8)) * 8 for n in size)
    for image in found:
        top, left = divmod(round(float(image[0, 0, 0]) * 48 * 64), 64)
        assert torch.equal(image, x[0, :, top : top + height, left : left + width])
    if crop < 0.7:
        assert len({float(image[0, 0, 0]) for image in found}) > 1


@pytest.mark.parametrize(("lying", "axis"), [(False, -1), (True, -2)])
def test_mirror_images_are_about_half_and_exact(lying: bool, axis: int) -> None:
    x = torch.rand(64, 1, 8, 8)
    torch.manual_seed(0)
    found = task(mirror=True, lying=lying)._varied(x)
    same = (found == x).flatten(1).all(1)
    flipped = (found == x.flip(axis)).flatten(1).all(1)
    assert (same ^ flipped).all()
    assert 16 < int(same.sum()) < 48


def test_validation_sees_whole_images() -> None:
    one, other = task(), task(crop=0.5, mirror=True)
    x = smooth()
    assert one.validate([x]) == other.validate([x])
