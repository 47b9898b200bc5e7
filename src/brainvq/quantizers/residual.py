"""Residual quantization: each stage quantizes what the stages before it have left over, and the sum is what is decoded.

Source: N. Zeghidour et al., SoundStream: An End-to-End Neural Audio Codec, 2021 (section III-C); for images D. Lee,
C. Kim, S. Kim, M. Cho, W.-S. Han, Autoregressive Image Generation using Residual Quantization, 2022. With r_0 = z,

    q_i = stage_i(r_i),    r_{i+1} = r_i - q_i,    z_q = q_0 + q_1 + ...

K entries in each of n stages stand for K^n sums, at the price of n searches among K. Codes are coarse to fine. Where we
differ:

- What is left over is reckoned with detached q_i. Every stage passes gradients straight through: left attached they
  would cancel, and only the first stage's commitment loss would reach the encoder; summed up as they come, the
  decoder's gradient would reach it once for each stage. So z_q passes on their mean, which is the gradient itself,
  once. A stage that learns from it (the maps of `fsq.py`, `normalized.py`) has its share, whose size Adam ignores.
- Stages may be of any kind, and each has its own size.

The choice is greedy, so encoding what codes stand for need not give the same codes again.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from brainvq.codes import Codes
from brainvq.config import PartOf
from brainvq.quantizers import vq
from brainvq.quantizers.base import Quantized, Quantizer, QuantizerConfig


class Config(QuantizerConfig):
    """`stages`: a quantizer each, from coarse to fine."""

    kind: Literal["quantizers.residual"] = "quantizers.residual"
    stages: Annotated[tuple[PartOf[QuantizerConfig], ...], Field(min_length=1)] = (
        vq.Config(entries=256),
        vq.Config(entries=256),
    )

    def build(self, dim: int) -> ResidualQuantizer:
        return ResidualQuantizer(self, dim)


class ResidualQuantizer(Quantizer):
    def __init__(self, config: Config, dim: int) -> None:
        super().__init__()
        self.config = config
        self.stages = nn.ModuleList(stage.build(dim) for stage in config.stages)
        self.entries = tuple(n for stage in self._stages for n in stage.entries)

    @property
    def _stages(self) -> list[Quantizer]:
        return [stage for stage in self.stages if isinstance(stage, Quantizer)]

    def encode(self, z: Tensor) -> Codes:
        left, codes = z.float(), Codes()
        for stage in self._stages:
            found = stage.encode(left)
            left = left - stage.decode(found)
            codes += found
        return codes

    def decode(self, codes: Codes) -> Tensor:
        parts, rest = [], codes
        for stage in self._stages:
            own, rest = rest[: len(stage.entries)], rest[len(stage.entries) :]
            parts.append(stage.decode(own))
        return sum(parts[1:], start=parts[0])

    def forward(self, z: Tensor) -> Quantized:
        left, found = z.float(), list[Quantized]()
        for stage in self._stages:
            found.append(stage(left))
            left = left - found[-1].z_q.detach()
        z_q = sum((each.z_q for each in found[1:]), start=found[0].z_q)
        return Quantized(
            z_q.detach() + (z_q - z_q.detach()) / len(found),  # to the bit what decode gives
            tuple(code for each in found for code in each.codes),
            {f"{name}_{n}": loss for n, each in enumerate(found, 1) for name, loss in each.losses.items()},
        )
