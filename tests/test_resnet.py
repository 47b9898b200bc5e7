"""System B's network against the definition with in-place ReLUs, and the hand-written gradient of its doubling."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from brainvq.networks.resnet import Config, Residual

WIDTH = 6


class PlainResidual(nn.Module):
    """The block as described: what is added to the branch is what the first ReLU has left in the input's place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1),
            nn.BatchNorm2d(width),
        )

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = z + self.block(z)
        return y


def plain_encoder(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 4, 2, 1),
        PlainResidual(width),
        PlainResidual(width),
    )


def plain_decoder(width: int) -> nn.Sequential:
    return nn.Sequential(
        PlainResidual(width),
        PlainResidual(width),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(width, width, 4, 2, 1),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(width, 1, 4, 2, 1),
        nn.Tanh(),
    )


def scattered(module: nn.Module) -> nn.Module:
    """Every weight, bias, scale and running statistic away from its start, so that each can be seen."""
    generator = torch.Generator().manual_seed(1)
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif value.is_floating_point():
            value.add_(torch.rand(value.shape, generator=generator, dtype=value.dtype).sub_(0.5).mul_(0.6))
    return module


def copied(ours: nn.Module, plain: nn.Module) -> nn.Module:
    """`plain` with our values, layer by layer in their order."""
    values = ours.state_dict().values()
    names = plain.state_dict().keys()
    plain.load_state_dict(dict(zip(names, values, strict=True)))
    return plain


def convolutions(module: nn.Module) -> Iterator[nn.Conv2d | nn.ConvTranspose2d]:
    yield from (m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_the_network_is_the_definition_in_value_statistics_and_gradient(part: str, training: bool) -> None:
    ours = scattered(getattr(Config(width=WIDTH).build(), part).double()).train(training)
    plain = copied(ours, {"encoder": plain_encoder, "decoder": plain_decoder}[part](WIDTH).double()).train(training)
    shape = (3, 1, 16, 24) if part == "encoder" else (3, WIDTH, 4, 6)
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mine, theirs = (x.clone().requires_grad_() for _ in range(2))
    found, expected = ours(mine), plain(theirs * 1)  # the plain one may write over a copy
    weights = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).reshape(found.shape)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert mine.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(mine.grad, theirs.grad, rtol=0, atol=1e-12)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=1e-10, atol=1e-10)
    for one, other in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=0, atol=1e-12), "running statistics"


def test_the_skip_carries_what_the_relu_left_and_the_input_stays_as_it_was() -> None:
    block = Residual(WIDTH).eval()
    nn.init.zeros_(block.branch[-1].weight)  # type: ignore[arg-type]
    z = torch.randn(2, WIDTH, 3, 5)
    before = z.clone()
    assert torch.equal(block(z), before.relu()), "a textbook block, with the identity on its skip, would give z"
    assert torch.equal(z, before)


@pytest.mark.parametrize("size", [(4, 4), (16, 24), (64, 8)])
def test_shapes(size: tuple[int, int]) -> None:
    built = Config(width=WIDTH).build()
    z = built.encoder(torch.zeros(2, 1, *size))
    assert z.shape == (2, WIDTH, size[0] // 4, size[1] // 4)
    assert built.decoder(z).shape == (2, 1, *size)
    assert (built.dim, built.stride) == (WIDTH, (4, 4))


@pytest.mark.parametrize("width", [WIDTH, 64, 256])
def test_parameters_are_those_counted_by_hand(width: int) -> None:
    """W: width. A k x k convolution of a to b channels has k k a b + b numbers, a BatchNorm of W channels 2 W."""
    w = width
    residual = (9 * w * w + w) + 2 * w + (w * w + w) + 2 * w
    encoder = (16 * w + w) + 2 * w + (16 * w * w + w) + 2 * residual
    decoder = 2 * residual + (16 * w * w + w) + 2 * w + (16 * w + 1)
    if width == 256:
        assert (residual, encoder, decoder) == (656_896, 2_367_488, 2_367_233)
    built = Config(width=width).build()
    assert sum(p.numel() for p in built.encoder.parameters()) == encoder
    assert sum(p.numel() for p in built.decoder.parameters()) == decoder


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_kernels_are_glorot_uniform_and_biases_zero(part: str) -> None:
    torch.manual_seed(0)
    found = list(convolutions(getattr(Config(width=64).build(), part)))
    assert len(found) == 6
    for layer in found:
        assert layer.bias is not None
        assert (layer.bias == 0).all()
        one, other, height, width = layer.weight.shape
        limit = (6 / ((one + other) * height * width)) ** 0.5
        assert 0.97 * limit < layer.weight.abs().max() <= limit
        assert abs(layer.weight.std() / (limit / 3**0.5) - 1) < 0.1


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_default_initialisation_is_pytorchs(part: str) -> None:
    """Uniform within 1 / sqrt(fan in) of what is the input of a convolution, biases likewise; other than Glorot's."""
    torch.manual_seed(0)
    for layer in convolutions(getattr(Config(width=64, initialisation="default").build(), part)):
        fan_in = layer.weight[0].numel()
        limit = fan_in**-0.5
        glorot = (6 / ((layer.weight.shape[0] + layer.weight.shape[1]) * layer.weight[0, 0].numel())) ** 0.5
        assert layer.bias is not None
        assert layer.bias.any()
        assert layer.bias.abs().max() <= limit
        assert 0.97 * limit < layer.weight.abs().max() <= limit
        assert abs(glorot / limit - 1) > 0.2


def test_normalisation_starts_as_the_identity_in_either() -> None:
    for initialisation in ("glorot", "default"):
        built = Config(width=WIDTH, initialisation=initialisation).build()  # type: ignore[arg-type]
        norms = [m for part in (built.encoder, built.decoder) for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(norms) == 10
        for norm in norms:
            assert (norm.weight == 1).all()
            assert (norm.bias == 0).all()


def test_the_output_lies_within_one() -> None:
    decoder = scattered(Config(width=WIDTH).build().decoder).eval()
    x_hat = decoder(100 * torch.randn(2, WIDTH, 8, 8))
    assert x_hat.abs().max() <= 1
    assert x_hat.min() < -0.9
    assert x_hat.max() > 0.9
    z = torch.randn(2, WIDTH, 8, 8)
    assert torch.allclose(decoder(z), decoder.layers[:-1](z).tanh())  # type: ignore[index, operator]
