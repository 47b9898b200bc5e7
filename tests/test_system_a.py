"""What docs/system-a.md says of our deviations from the described system, each held here or where the page says."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import brainvq
from brainvq.config import override
from brainvq.data.loader import open_cache, order
from brainvq.data.sources import open_splits
from brainvq.presets import preset
from brainvq.training.experiment import train

SMALL = ("train.batch_size=4", "tokenizer.network.widths=[4,6,8]", "tokenizer.quantizer.entries=16")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def keras_adam(value: Tensor, gradients: list[Tensor], rate: float, epsilon: float) -> Tensor:
    """As TensorFlow applies it: epsilon beside the uncorrected root ("epsilon hat" of Kingma and Ba, section 2)."""
    first, second = torch.zeros_like(value), torch.zeros_like(value)
    for t, gradient in enumerate(gradients, start=1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient.square()
        corrected = rate * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t)
        value = value - corrected * first / (second.sqrt() + epsilon)
    return value


def moved(gradients: list[Tensor]) -> Tensor:
    """Where the exact preset's optimiser takes a parameter that starts at 0."""
    experiment = preset("keras_f8")
    module = torch.nn.Module()
    module.value = torch.nn.Parameter(torch.zeros_like(gradients[0]))
    config = experiment.task.optimiser  # type: ignore[attr-defined]
    optimiser = config.build(module, experiment.train.learning_rate)
    for gradient in gradients:
        module.value.grad = gradient.clone()
        optimiser.step()
    return module.value.detach()


def test_adam_differs_from_keras_only_in_where_epsilon_stands() -> None:
    generator = torch.Generator().manual_seed(0)
    for steps, scale, tolerance in ((1, 1e-2, 1e-3), (300, 1e-2, 1e-4), (300, 1e-4, 1e-2)):
        gradients = [scale * (1 + torch.rand(64, generator=generator, dtype=torch.float64)) for _ in range(steps)]
        ours, keras = moved(gradients), keras_adam(torch.zeros(64, dtype=torch.float64), gradients, 1e-3, 1e-7)
        assert torch.allclose(ours, keras, rtol=tolerance, atol=0), (steps, scale)
    tiny = [torch.full((1,), 1e-7, dtype=torch.float64)]
    assert moved(tiny) / keras_adam(torch.zeros(1, dtype=torch.float64), tiny, 1e-3, 1e-7) > 5, "the deviation itself"


def test_bf16_is_for_training_alone(slices_folder: Path, cache: Path, tmp_path: Path) -> None:
    """What is handed out is float32, and validation is what the handed out weights give in float32."""
    settings = [*SMALL, "train.precision=bf16", "train.steps=3", "train.validate_every=3"]
    run = train(override(preset("keras_f8"), settings), slices_folder, tmp_path / "run")
    assert all(v.dtype == torch.float32 for v in load_file(run / "model.safetensors").values() if v.is_floating_point())
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    logged = next(line["reconstruction"] for line in lines if line["event"] == "validate")
    splits = open_splits(slices_folder)
    x = open_cache(splits["validate"]).batch(range(len(splits["validate"])))
    x_hat, _ = brainvq.load(run, "cpu").reconstruct_batch(x)
    variance = open_cache(splits["train"]).variance
    assert logged == pytest.approx(float(F.mse_loss(x_hat, x)) / variance, rel=1e-5)


def test_the_loss_is_the_same_on_both_ranges(slices_folder: Path, cache: Path, tmp_path: Path) -> None:
    """The first step's logged loss is that of x / 2 over the variance of x / 2."""
    settings = [*SMALL, "train.precision=fp32", "train.steps=1"]
    run = train(override(preset("keras_f8"), settings), slices_folder, tmp_path / "run")
    logged = next(json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if '"train"' in line)
    images = open_cache(open_splits(slices_folder)["train"])
    half = images.batch(range(len(images))) / 2
    torch.manual_seed(0)
    model = override(preset("keras_f8"), settings).tokenizer.build()  # type: ignore[attr-defined]
    mine = half[torch.from_numpy(order(len(images), 4, 0, 0))]
    expected = F.mse_loss(model(mine * 2).x_hat / 2, mine) / half.double().var(correction=0)
    assert logged["reconstruction"] == pytest.approx(float(expected.detach()), rel=1e-4)


def same(x: Tensor, stride: int) -> Tensor:
    """Zeros as TensorFlow's "same" puts them around an image for a 3 x 3 kernel: the odd one at the end."""
    totals = [max((-(-n // stride) - 1) * stride + 3 - n, 0) for n in x.shape[2:]]
    (top, left), (bottom, right) = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return F.pad(x, (left, right, top, bottom))


@pytest.mark.parametrize("size", [(16, 24), (8, 8), (15, 17)])
def test_the_mirrored_network_is_the_one_with_same_padding(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = preset("keras_f8").tokenizer.build().double()  # type: ignore[attr-defined]
    x = torch.randn(2, 1, *size, dtype=torch.float64)
    z = x / 2
    for layer in model.encoder.layers:
        if not isinstance(layer, torch.nn.Conv2d):
            z = layer(z)
        elif layer.kernel_size == (1, 1):
            z = F.conv2d(z, layer.weight, layer.bias)
        else:
            z = F.conv2d(same(z, 2), layer.weight.flip(-2, -1), layer.bias, stride=2)
    assert torch.allclose(model.encoder(x), z, rtol=0, atol=1e-12)
    y = z
    for layer in model.decoder.layers:
        if not isinstance(layer, torch.nn.ConvTranspose2d):
            y = layer(y)
            continue
        whole = F.conv_transpose2d(y, layer.weight.flip(-2, -1), layer.bias, stride=layer.stride)  # not cropped yet
        edge, (height, width) = 2 - layer.stride[0], (n * layer.stride[0] for n in y.shape[2:])
        y = whole[..., edge : edge + height, edge : edge + width]
    assert torch.allclose(model.decoder(z), y * 2, rtol=0, atol=1e-12)
