"""System A's network against the definition, written out as TensorFlow computes it, and its hand-written gradient."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from brainvq.networks.keras_conv import Config, Decoder, Encoder, mirror

SMALL = Config(widths=(3, 5), dim=4)


def same_padding(x: Tensor, stride: int) -> Tensor:
    """TensorFlow's "same" for a kernel of 3: what is odd of the padding goes to the end."""
    ends: list[int] = []
    for n in (x.shape[-1], x.shape[-2]):
        total = max((-(-n // stride) - 1) * stride + 3 - n, 0)
        ends += [total // 2, total - total // 2]
    return F.pad(x, ends)


def textbook_encoder(encoder: Encoder, x: Tensor) -> Tensor:
    z = x / 2
    *strided, last = [layer for layer in encoder.layers if isinstance(layer, nn.Conv2d)]
    for layer in strided:
        z = F.conv2d(same_padding(z, 2), mirror(layer.weight), layer.bias, stride=2).relu()
    return F.conv2d(z, last.weight, last.bias)


def textbook_decoder(decoder: Decoder, z: Tensor) -> Tensor:
    """Transposed convolutions without padding, cropped: of 2n + 1 rows the last, of n + 2 the first and the last."""
    *strided, last = [layer for layer in decoder.layers if isinstance(layer, nn.ConvTranspose2d)]
    for layer in strided:
        z = F.conv_transpose2d(z, mirror(layer.weight), layer.bias, stride=2)[..., :-1, :-1].relu()
    return 2 * F.conv_transpose2d(z, mirror(last.weight), last.bias)[..., 1:-1, 1:-1]


def with_biases(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    made = Encoder(SMALL)
    with_biases(made)
    return made


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    made = Decoder(SMALL)
    with_biases(made)
    return made


def test_parameters_are_those_of_the_published_system() -> None:
    built = Config().build()
    assert sum(p.numel() for p in built.encoder.parameters()) == 96_542
    assert sum(p.numel() for p in built.decoder.parameters()) == 127_233
    assert (built.dim, built.stride) == (30, (8, 8))
    x = torch.zeros(1, 1, 32, 16)
    z = built.encoder(x)
    assert z.shape == (1, 30, 4, 2)
    assert built.decoder(z).shape == x.shape


@pytest.mark.parametrize("size", [(8, 8), (16, 12), (7, 9), (13, 8), (5, 6), (1, 3), (10, 11)])
def test_the_encoder_is_the_definition_for_even_and_odd_sizes(encoder: Encoder, size: tuple[int, int]) -> None:
    x = torch.rand(2, 1, *size) * 2 - 1
    torch.testing.assert_close(encoder(x), textbook_encoder(encoder, x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(2, 2), (4, 3), (1, 5), (3, 7)])
def test_the_decoder_is_the_definition(decoder: Decoder, size: tuple[int, int]) -> None:
    z = torch.randn(2, SMALL.dim, *size)
    x_hat = decoder(z)
    assert x_hat.shape == (2, 1, 4 * size[0], 4 * size[1])
    torch.testing.assert_close(x_hat, textbook_decoder(decoder, z), atol=1e-5, rtol=0)


def test_without_the_mirror_it_is_not_the_definition(encoder: Encoder) -> None:
    """Even sizes only: padding at the other end. Odd ones are padded alike at both ends, so nothing can differ."""
    for size, differs in (((8, 8), True), ((13, 5), False)):
        x = torch.rand(2, 1, *size) * 2 - 1
        z = textbook_encoder(encoder, x)
        for layer in encoder.layers:
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = mirror(layer.weight.data)
        plain = encoder.layers(x / 2)
        for layer in encoder.layers:
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = mirror(layer.weight.data)
        assert torch.allclose(plain, z, atol=1e-5) is not differs


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_kernels_are_glorot_uniform_and_biases_zero(part: str) -> None:
    torch.manual_seed(0)
    for name, parameter in getattr(Config().build(), part).named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all()
        else:
            one, other, height, width = parameter.shape
            limit = (6 / ((one + other) * height * width)) ** 0.5
            assert 0.97 * limit < parameter.abs().max() <= limit
            assert abs(parameter.std() / (limit / 3**0.5) - 1) < 0.1


def test_the_output_is_linear_and_not_clipped(decoder: Decoder) -> None:
    x_hat = decoder(100 * torch.randn(2, SMALL.dim, 4, 4))
    assert x_hat.min() < -1
    assert x_hat.max() > 1
