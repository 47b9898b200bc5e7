"""What docs/system-b.md says of the tokenizer's settings and of our deviations from the description."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import brainvq
from brainvq.config import override
from brainvq.data.loader import open_cache, order
from brainvq.data.scan import read
from brainvq.data.sources import open_splits
from brainvq.networks import resnet
from brainvq.presets import preset
from brainvq.tokenizers.vqvae import VQVAE
from brainvq.training.experiment import train

SMALL = ("train.batch_size=4", "tokenizer.network.width=6", "tokenizer.quantizer.entries=16")
EXACT, CURED = ("resnet_f4", "resnet_f4_narrow"), ("resnet_f4_ema", "resnet_f4_narrow_ema")


def built(name: str, *settings: str) -> VQVAE:
    torch.manual_seed(0)
    model = override(preset(name), list(settings)).tokenizer.build()  # type: ignore[attr-defined]
    assert isinstance(model, VQVAE)
    return model


@pytest.mark.parametrize("name", EXACT)
def test_the_quantizer_is_the_described_one(name: str) -> None:
    model = built(name)
    quantizer, width = model.quantizer, 256 if name == "resnet_f4" else 64
    codebook = quantizer.codebook
    assert isinstance(codebook, nn.Parameter), "learned by gradient"
    assert codebook.shape == (512, width)
    assert 0.97 / 512 < codebook.abs().max() <= 1 / 512
    assert abs(codebook.std() * 512 * 3**0.5 - 1) < 0.02, "uniform"
    z = torch.randn(2, width, 3, 5)
    found = quantizer.train()(z)
    squared = F.mse_loss(quantizer.decode(found.codes), z).detach()
    assert torch.allclose(found.losses["commitment"], squared), "with weight 1"
    assert torch.allclose(found.losses["codebook"].detach(), squared)
    assert torch.equal(quantizer.codebook, codebook), "and by nothing else: no averages, no revival"
    assert model.spec.bits((256, 256)) == 64 * 64 * 9 == 36_864


@pytest.mark.parametrize("name", EXACT)
def test_training_is_the_described_one(name: str) -> None:
    experiment = preset(name)
    adam = experiment.task.optimiser.build(nn.Linear(2, 2), experiment.train.learning_rate)  # type: ignore[attr-defined]
    assert type(adam) is torch.optim.Adam
    group = adam.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (3e-4, (0.9, 0.999), 1e-8, 0)
    rates = [experiment.task.optimiser.learning_rate(3e-4, step, 100) for step in (0, 50, 99)]  # type: ignore[attr-defined]
    assert rates == [3e-4] * 3
    assert (experiment.train.batch_size, experiment.train.epochs, experiment.train.steps) == (32, 20, None)
    assert experiment.train.total(9_664) == 20 * 302
    assert experiment.train.keep == "last", "nothing is chosen by looking"


@pytest.mark.parametrize(("narrow", "wide"), [(EXACT[1], EXACT[0]), (CURED[1], CURED[0])])
def test_narrow_is_narrow_and_nothing_else(narrow: str, wide: str) -> None:
    one, other = override(preset(wide), ["tokenizer.network.width=64"]), preset(narrow)
    assert one.model_copy(update={"preset": narrow}) == other


@pytest.mark.parametrize("name", CURED)
def test_cured_has_the_network_and_the_bits_of_the_exact_one(name: str) -> None:
    exact, cured = preset(name.removesuffix("_ema")), preset(name)
    assert cured.tokenizer.network == exact.tokenizer.network  # type: ignore[attr-defined]
    assert built(name).spec == built(name.removesuffix("_ema")).spec


def test_one_channel_is_three_equal_ones_with_their_kernels_summed() -> None:
    """So nothing but the start differs: three Glorot kernels summed are 1.7 times as wide as one."""
    ours = built("resnet_f4_narrow").encoder.layers[0]
    theirs = nn.Conv2d(3, 64, 4, 2, 1).apply(resnet.glorot)
    x = torch.rand(2, 1, 8, 12) * 2 - 1
    same = nn.Conv2d(1, 64, 4, 2, 1)
    same.load_state_dict({"weight": theirs.weight.detach().sum(1, keepdim=True), "bias": theirs.bias.detach()})
    assert torch.allclose(theirs(x.expand(-1, 3, -1, -1)), same(x), atol=1e-5)
    wider = float((same.weight.std() / ours.weight.std()).detach())
    assert wider == pytest.approx(((64 + 1) / (64 + 3) * 3) ** 0.5, rel=0.1)


@pytest.fixture
def trained(slices_folder: Path, cache: Path, tmp_path: Path) -> Path:
    settings = [*SMALL, "train.precision=bf16", "train.steps=6", "train.validate_every=6"]
    return train(override(preset("resnet_f4"), settings), slices_folder, tmp_path / "run")


def test_an_image_does_not_depend_on_its_neighbours(trained: Path, slices_folder: Path) -> None:
    """Through the front door, where the description's BatchNorm looked at the whole batch."""
    model = brainvq.load(trained, "cpu")
    norms = [m for m in model.tokenizer.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(int(norm.num_batches_tracked) == 6 and norm.running_mean.any() for norm in norms), "training is counted"  # type: ignore[arg-type, union-attr]
    paths = sorted((slices_folder / "keras_png_slices_validate").glob("*.png"))[:3]
    x = torch.stack([torch.from_numpy(read(path).voxels).float() for path in paths])[:, None] / 127.5 - 1
    others = torch.cat([x[:1], -x[1:] * 0.3])
    (whole, codes), (beside, _), (alone, mine) = (model.reconstruct_batch(batch) for batch in (x, others, x[:1]))
    assert torch.equal(codes[0][:1], mine[0])
    assert torch.allclose(whole[:1], alone, rtol=0, atol=1e-6)
    assert torch.allclose(beside[:1], alone, rtol=0, atol=1e-6)
    trap = model.tokenizer.train()
    with torch.no_grad():
        assert not torch.allclose(trap(x).x_hat[:1], trap(others).x_hat[:1], atol=1e-3), "the trap itself"


def test_validation_is_of_what_is_handed_out_in_eval_mode(trained: Path, slices_folder: Path) -> None:
    """Neither batch statistics nor bf16, in which it was trained."""
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    logged = next(line["reconstruction"] for line in lines if line["event"] == "validate")
    split = open_splits(slices_folder)["validate"]
    x = open_cache(split).batch(range(len(split)))
    assert logged == pytest.approx(float(F.mse_loss(brainvq.load(trained, "cpu").reconstruct_batch(x)[0], x)), rel=1e-5)


def test_the_loss_is_the_squared_error_itself(slices_folder: Path, cache: Path, tmp_path: Path) -> None:
    """Not divided by the variance of the pixels, on [-1, 1]; the quantizer's two terms are added with weight 1."""
    settings = [*SMALL, "train.precision=fp32", "train.steps=1"]
    run = train(override(preset("resnet_f4"), settings), slices_folder, tmp_path / "run")
    logged = next(json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if '"train"' in line)
    images = open_cache(open_splits(slices_folder)["train"])
    x = images.batch(range(len(images)))[torch.from_numpy(order(len(images), 4, 0, 0))]
    found = built("resnet_f4", *settings).train()(x)
    squared = float(F.mse_loss(found.x_hat.detach(), x))
    assert logged["reconstruction"] == pytest.approx(squared, rel=1e-4)
    assert logged["loss"] == pytest.approx(
        squared + sum(float(loss.detach()) for loss in found.losses.values()), rel=1e-4
    )
