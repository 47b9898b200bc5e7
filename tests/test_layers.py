"""The doubling layer of both systems: value and gradient of the library's transposed convolution."""

import pytest
import torch
from torch import Tensor, nn

from brainvq.networks.layers import Upsample


def layer_and_input(kernel: int, dtype: torch.dtype) -> tuple[Upsample, Tensor]:
    torch.manual_seed(0)
    return Upsample(4, 3, kernel).to(dtype), torch.randn(2, 4, 3, 5, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("kernel", [3, 4])
def test_the_gradient_written_by_hand_is_the_numerical_one(kernel: int) -> None:
    layer, z = layer_and_input(kernel, torch.float64)
    assert layer.bias is not None
    weight, bias = layer.weight.detach().requires_grad_(), layer.bias.detach().requires_grad_()

    def function(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (z,))

    assert torch.autograd.gradcheck(function, (z, weight, bias))


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)]
)
def test_doubling_is_the_librarys_layer(kernel: int, dtype: torch.dtype, tolerance: float, channels_last: bool) -> None:
    """In bfloat16 under autocast, against float32: 0.05 of the largest value."""
    layer, z = layer_and_input(kernel, torch.float64 if dtype == torch.float64 else torch.float32)
    library = nn.ConvTranspose2d(4, 3, kernel, 2, 1, output_padding=4 - kernel).to(z.dtype)
    library.load_state_dict(layer.state_dict())
    if channels_last:
        layer, z = layer.to(memory_format=torch.channels_last), z.detach().to(memory_format=torch.channels_last)
        z.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        output = layer(z)
    assert output.dtype == dtype
    assert output.shape == (2, 3, 6, 10)
    assert output.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    weights = torch.randn(output.shape, dtype=z.dtype)
    found = torch.autograd.grad((output.to(z.dtype) * weights).sum(), [z, *layer.parameters()])
    plain = library(z)
    expected = torch.autograd.grad((plain * weights).sum(), [z, *library.parameters()])
    for ours, theirs in zip((output, *found), (plain, *expected), strict=True):
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()
    assert all(gradient.dtype == z.dtype for gradient in found)
