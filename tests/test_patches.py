"""Patch discriminators of a tokenizer's training: they tell blur from sharpness, and push as hard as they should."""

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from brainvq.networks.patch_discriminator import PatchDiscriminator, PatchDiscriminators
from brainvq.training.patches import GROWING, PatchConfig, Patches


def patches(**settings) -> Patches:
    torch.manual_seed(0)
    return Patches(PatchConfig(widths=(8, 16), **{"scales": 1, **settings}), Accelerator(cpu=True))


def test_each_patch_is_judged_and_each_image_by_itself():
    judge = PatchDiscriminator((4, 8)).eval()
    x = torch.rand(3, 1, 32, 48) * 2 - 1
    logits = judge(x)
    assert logits.shape == (3, 1, 4, 6)
    torch.testing.assert_close(judge(x[1:2]), logits[1:2])


def test_each_scale_sees_half_as_much_detail_as_the_one_before():
    judges = PatchDiscriminators((4, 8), scales=3).eval()
    x = torch.rand(2, 1, 64, 64) * 2 - 1
    finest, middle, _ = (logits.shape[-1] for logits in judges(x))
    assert (finest, middle) == (8, 4)
    noisy = x + 0.5 * torch.tensor([1.0, -1.0]).repeat(32)  # whose means of two pixels are those of x
    changed = [not torch.allclose(a, b, atol=1e-6) for a, b in zip(judges(x), judges(noisy), strict=True)]
    assert changed == [True, False, False]


def test_no_scale_drowns_another():
    one = patches(scales=2, weight=1.0)
    x_hat = (torch.rand(2, 1, 64, 64) - 0.5).requires_grad_()
    shares = []
    for scale in range(2):
        doubt = -one.updates.module.judged(x_hat, scale).mean()
        (wanted,) = torch.autograd.grad(doubt, x_hat)
        shares.append(wanted / wanted.norm())
    others = x_hat.square().mean()
    (known,) = torch.autograd.grad(others, x_hat, retain_graph=True)
    term, _ = one.term(x_hat, others, GROWING)
    (push,) = torch.autograd.grad(term, x_hat)
    torch.testing.assert_close(push, known.norm() / 2 * sum(shares), rtol=1e-3, atol=1e-6)


def test_who_knows_nothing_yet_has_no_say() -> None:
    one, pushes = patches(), []
    for step in (0, GROWING // 4, GROWING, 3 * GROWING):
        x_hat = torch.full((1, 1, 32, 32), 0.25, requires_grad=True)
        term, _ = one.term(x_hat, x_hat.square().mean(), step)
        (push,) = torch.autograd.grad(term, x_hat)
        pushes.append(float(push.norm()))
    assert pushes[0] == 0
    assert pushes[1] == pytest.approx(pushes[2] / 4, rel=1e-3)
    assert pushes[2] == pytest.approx(pushes[3], rel=1e-3)


@pytest.mark.parametrize("weight", [0.25, 2.0])
def test_the_push_is_a_share_of_the_other_gradients_and_its_term_is_zero(weight):
    x_hat = (torch.rand(2, 1, 32, 32) * 2 - 1).requires_grad_()
    others = (3 * x_hat).square().mean()
    (known,) = torch.autograd.grad(others, x_hat, retain_graph=True)
    term, doubt = patches(weight=weight).term(x_hat, others, GROWING)
    assert float(term.detach()) == 0
    assert doubt.isfinite()
    term.backward()
    assert float(x_hat.grad.norm() / known.norm()) == pytest.approx(weight, rel=1e-4)


def test_following_the_push_makes_an_image_more_believable():
    one = patches()
    x_hat = (torch.rand(2, 1, 32, 32) - 0.5).requires_grad_()
    term, before = one.term(x_hat, x_hat.square().mean(), GROWING)
    term.backward()
    moved = (x_hat - 1e-2 * x_hat.grad / x_hat.grad.norm()).detach().requires_grad_()
    assert one.term(moved, moved.square().mean(), GROWING)[1] < before


def test_it_learns_to_tell_blur_and_training_it_moves_no_reconstruction():
    one = patches(learning_rate=2e-3)
    losses = []
    for step in range(60):
        x = (torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(step)) * 2 - 1).round()
        blurred = F.avg_pool2d(x, 5, stride=1, padding=2).requires_grad_()
        losses.append(float(one.learn(x, blurred, step, 60)))
        assert blurred.grad is None
    assert losses[-1] < 0.5 * losses[0]


def test_what_is_beyond_the_range_of_pixels_is_not_seen():
    one = patches()
    x_hat = torch.full((1, 1, 32, 32), 3.0, requires_grad=True)
    term, _ = one.term(x_hat, x_hat.square().mean(), GROWING)
    term.backward()
    assert not x_hat.grad.any(), "a saved image is clipped there"


def test_images_that_leave_no_patch_are_refused_before_a_run_is_made(call, slices_folder, tmp_path):
    words = ("train", "keras_f8_ema", "--data", slices_folder, "--out", tmp_path / "run")
    for widths, said in (("[]", "at least 1 item"), ("[4, 4, 4, 4, 4, 4]", "at least 512 x 512 pixels")):
        code, out, err = call(*words, "--set", f'task.patches={{"widths": {widths}}}')
        assert (code, out) == (2, "")
        assert said in " ".join(err.split())
        assert not (tmp_path / "run").exists()
