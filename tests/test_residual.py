"""Residual quantization: stages that each take what is left, one gradient over their sum."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

import laws
from brainvq.config import from_json, to_json
from brainvq.errors import InputError
from brainvq.quantizers import fsq, normalized, vq
from brainvq.quantizers.base import Quantized, QuantizerConfig
from brainvq.quantizers.residual import Config, ResidualQuantizer

VQ = vq.Config(entries=16)
SECOND = vq.Config(entries=8, codebook="gradient")
MIXED = (vq.Config(entries=16, codebook="gradient"), SECOND, normalized.Config(entries=8), fsq.Config())


def build(*stages: QuantizerConfig, batches: int = 30) -> ResidualQuantizer:
    torch.manual_seed(0)
    quantizer = Config(stages=stages).build(laws.DIM)
    for seed in range(batches):
        quantizer.train()(laws.latents(16, 16, seed=seed))
    return quantizer


def test_the_error_falls_with_each_stage() -> None:
    quantizer, z = build(VQ, VQ, VQ, VQ), laws.latents(32, 32, seed=99)
    codes = quantizer.encode(z)
    errors, z_q = [float(z.square().mean())], torch.zeros_like(z)
    for stage, code in zip(quantizer.stages, codes, strict=True):
        z_q = z_q + stage.decode((code,))
        errors.append(float(F.mse_loss(z_q, z)))
    assert all(after < 0.7 * before for before, after in pairwise(errors)), errors


@pytest.mark.parametrize("stages", [(VQ,), (VQ, VQ, VQ), MIXED])
def test_what_is_decoded_is_the_sum_of_the_stages(stages: tuple[QuantizerConfig, ...]) -> None:
    quantizer, z = build(*stages, batches=3), laws.latents(6, 5)
    codes = quantizer.encode(z)
    assert quantizer.entries == tuple(stage.entries[0] for stage in quantizer.stages)
    parts = [stage.decode((code,)) for stage, code in zip(quantizer.stages, codes, strict=True)]
    torch.testing.assert_close(quantizer.decode(codes), torch.stack(parts).sum(0))


def test_each_stage_quantizes_what_is_left_and_its_own_entries_stay() -> None:
    quantizer, left = build(VQ, VQ, VQ), laws.latents(6, 5)
    for stage, code in zip(quantizer.stages, quantizer.encode(left), strict=True):
        assert torch.equal(stage.encode(left)[0], code)
        part = stage.decode((code,))
        laws.quantizing_twice_is_quantizing_once(stage, part)
        left = left - part


def gradient(quantizer: ResidualQuantizer, z: Tensor, weights: Tensor) -> Tensor:
    z = z.detach().requires_grad_()
    return torch.autograd.grad((quantizer(z).z_q * weights).sum(), z)[0]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_gradient_of_the_sum_passes_once(count: int, training: bool) -> None:
    z, weights = laws.latents(6, 5), laws.latents(6, 5, seed=1)
    quantizer = build(*(VQ,) * count, batches=1).train(training)
    torch.testing.assert_close(gradient(quantizer, z, weights), weights)


class Summed(ResidualQuantizer):
    """The trap: the stages' own straight-through gradients, added up."""

    def forward(self, z: Tensor) -> Quantized:
        left, z_q = z, torch.zeros_like(z)
        for stage in self.stages:
            part = stage(left).z_q
            left, z_q = left - part.detach(), z_q + part
        return Quantized(z_q, ())


def test_stages_added_up_would_pass_it_several_times() -> None:
    z, weights = laws.latents(6, 5), laws.latents(6, 5, seed=1)
    quantizer = Summed(Config(stages=(VQ, VQ, VQ)), laws.DIM)
    torch.testing.assert_close(gradient(quantizer, z, weights), 3 * weights)


def test_each_stage_pulls_the_encoder_by_its_own_commitment() -> None:
    """And no stage's loss reaches into another stage."""
    quantizer, z = build(MIXED[0], SECOND).eval(), laws.latents(6, 5).requires_grad_()
    found = quantizer(z)
    assert set(found.losses) == {f"{name}_{n}" for name in ("commitment", "codebook") for n in (1, 2)}
    first, second = quantizer.stages
    left = z.detach()
    for n, stage in enumerate((first, second), start=1):
        part = stage.decode((found.codes[n - 1],)).detach()
        expected = 0.25 * 2 * (left - part) / z.numel()
        torch.testing.assert_close(
            torch.autograd.grad(found.losses[f"commitment_{n}"], z, retain_graph=True)[0], expected
        )
        left = left - part
    others = torch.autograd.grad(
        found.losses["codebook_2"], list(first.parameters()), retain_graph=True, allow_unused=True
    )
    assert all(grad is None for grad in others)


def test_stages_of_any_kind_go_through_json() -> None:
    config = Config(stages=(*MIXED, Config(stages=(VQ, VQ))))
    assert from_json(Config, to_json(config)) == config
    assert config.build(laws.DIM).entries == (16, 8, 8, 1000, 16, 16)


@pytest.mark.parametrize("stages", [[], [{"kind": "networks.keras_conv"}], [{"entries": 4}]])
def test_what_is_no_quantizer_is_refused(stages: list[Any]) -> None:
    with pytest.raises((InputError, ValidationError)):
        from_json(Config, {"kind": "quantizers.residual", "stages": stages})
