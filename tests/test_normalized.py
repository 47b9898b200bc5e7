"""Directions as entries: unit length, the nearest by angle, no part for the length of z."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import laws
from brainvq.quantizers.normalized import Config, NormalizedQuantizer


def build(dim: int = 16, batches: int = 3, **settings: float) -> NormalizedQuantizer:
    torch.manual_seed(0)
    quantizer = Config(**{"entries": 32, "code_dim": 4, **settings}).build(dim)
    for seed in range(batches):
        quantizer.train()(z_of(dim, seed))
    return quantizer


def z_of(dim: int, seed: int = 0) -> Tensor:
    return torch.randn(2, dim, 12, 12, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("batches", [0, 1, 5])
def test_entries_have_unit_length(batches: int) -> None:
    directions = build(batches=batches).codebook()
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(32))


@pytest.mark.parametrize("training", [True, False])
def test_the_nearest_by_angle_wins(training: bool) -> None:
    """In float64. Out of training lengths of entries, which an average of weights changes, play no part either."""
    quantizer, z = build(), z_of(16, seed=9)
    if not training:
        quantizer.averages.codebook.mul_(torch.rand(32, 1) + 0.1)
    rows = quantizer.direction(z).reshape(-1, 4).double()
    cosines = rows @ F.normalize(quantizer.averages.codebook.double(), dim=1).T
    chosen = cosines.gather(1, quantizer.train(training)(z).codes[0].reshape(-1, 1))[:, 0]
    assert (chosen >= cosines.max(1).values - 1e-6).all()


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_the_length_of_z_does_not_matter(factor: float) -> None:
    quantizer, z = build(), z_of(16)
    scaled = factor * (1 + torch.rand(2, 1, 12, 12)) * z
    assert laws.same(quantizer.encode(z), quantizer.encode(scaled))


def test_black_has_a_code() -> None:
    quantizer = build()
    codes = quantizer.encode(torch.zeros(1, 16, 3, 3))
    assert quantizer.decode(codes).isfinite().all()
    assert quantizer.train()(torch.zeros(1, 16, 3, 3).requires_grad_()).z_q.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_passes_as_if_no_entry_were_taken(training: bool) -> None:
    quantizer, z, weights = build(), z_of(16).requires_grad_(), z_of(16, seed=5)
    smooth = quantizer.project_out(quantizer.direction(z)).movedim(-1, 1)
    expected = torch.autograd.grad((smooth * weights).sum(), z)[0]
    found = torch.autograd.grad((quantizer.train(training)(z).z_q * weights).sum(), z)[0]
    torch.testing.assert_close(found, expected)


def test_an_entry_goes_to_the_mean_direction_of_those_that_chose_it() -> None:
    quantizer = build(entries=2, code_dim=2, dim=2, decay=0.9)
    angles = torch.tensor([0.1, 0.3, 3.0, 3.4])
    unit = torch.stack([angles.cos(), angles.sin()])[None]
    with torch.no_grad():
        quantizer.project_in.weight.copy_(torch.eye(2))
    for _ in range(120):
        quantizer.train()(unit * torch.tensor([9.0, 0.01, 1.0, 1.0]))
    found = quantizer.codebook()
    expected = torch.tensor([[0.2], [3.2]])
    expected = torch.cat([expected.cos(), expected.sin()], dim=1)
    order = torch.cdist(expected, found).argmin(1)
    torch.testing.assert_close(found[order], expected, atol=1e-3, rtol=0)


def test_dead_entries_come_to_use() -> None:
    quantizer = build(entries=64)
    with torch.no_grad():
        quantizer.averages.usage[8:] = 0.0
        quantizer.averages.codebook[8:] = quantizer.averages.codebook[0]
    for seed in range(3):
        quantizer.train()(z_of(16, seed))
    assert len(quantizer.encode(z_of(16, 1))[0].unique()) > 50
