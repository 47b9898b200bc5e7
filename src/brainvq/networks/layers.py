"""Layers that several networks share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Upsample(nn.ConvTranspose2d):
    """Transposed convolution with stride 2 that doubles the grid exactly: (B, C, H, W) -> (B, C', 2H, 2W).

    `kernel` is 3 or 4; one row of padding is taken off at the start, and with 4 at the end too.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int = 3) -> None:
        super().__init__(channels, out_channels, kernel, stride=2, padding=1, output_padding=4 - kernel)

    def forward(self, z: Tensor, output_size: Any = None) -> Tensor:
        if not z.is_cpu:
            return super().forward(z, output_size)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else z.dtype
        assert self.bias is not None
        result: Tensor = _TransposedConvolution.apply(z.to(dtype), self.weight.to(dtype), self.bias.to(dtype))  # type: ignore[no-untyped-call]
        return result


class _TransposedConvolution(torch.autograd.Function):
    """The same function; its gradients written as the ordinary convolution that it is the adjoint of.

    On a CPU the library's own weight gradient of a transposed convolution is about four times slower.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(z, weight)
        rest = 4 - weight.shape[2]
        return F.conv_transpose2d(z, weight, bias, stride=2, padding=1, output_padding=rest)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (gradient,), (z, weight) = gradients, ctx.saved_tensors
        to_z = F.conv2d(gradient, weight, stride=2, padding=1)
        _, to_weight, _ = torch.ops.aten.convolution_backward(
            z, gradient, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False]
        )
        to_bias = gradient.sum((0, 2, 3), dtype=torch.promote_types(gradient.dtype, torch.float32))
        return to_z, to_weight, to_bias.to(gradient.dtype)


def glorot(module: nn.Module) -> None:
    """Glorot uniform kernels, zero biases (X. Glorot and Y. Bengio, 2010); for `nn.Module.apply`."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
