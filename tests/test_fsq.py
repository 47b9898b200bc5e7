"""Finite scalar quantization: the published formula, every code reachable, codes and levels one to one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import laws
from brainvq.quantizers.fsq import Config, FiniteScalarQuantizer

LEVELS = st.lists(st.integers(2, 9), min_size=1, max_size=4).map(tuple)


def build(levels: tuple[int, ...], dim: int | None = None) -> FiniteScalarQuantizer:
    torch.manual_seed(0)
    return Config(levels=levels).build(dim or len(levels))


def published(z: list[float], levels: tuple[int, ...]) -> list[float]:
    """Appendix A.1 of the paper, number by number: z before it is rounded."""
    found = []
    for value, n in zip(z, levels, strict=True):
        half = (n - 1) * (1 - 1e-3) / 2
        offset = 0.0 if n % 2 == 1 else 0.5
        found.append(math.tanh(value + math.tan(offset / half)) * half - offset)
    return found


@settings(deadline=None, max_examples=40)
@given(LEVELS, st.integers(0, 2**32))
def test_codes_are_those_of_the_published_formula(levels: tuple[int, ...], seed: int) -> None:
    quantizer = build(levels)
    z = 3 * torch.randn(1, len(levels), 20, generator=torch.Generator().manual_seed(seed))
    codes, z_q = quantizer.encode(z), quantizer.decode(quantizer.encode(z))
    for i in range(20):
        bounded = published(z[0, :, i].double().tolist(), levels)
        torch.testing.assert_close(quantizer.bounded(z)[0, i], torch.tensor(bounded), atol=2e-6, rtol=0)
        integers = [round(value) for value in bounded]
        index, basis = 0, 1
        for integer, n in zip(integers, levels, strict=True):
            index, basis = index + (integer + n // 2) * basis, basis * n
        assert codes[0][0, i] == index
        expected = [integer / (n // 2) for integer, n in zip(integers, levels, strict=True)]
        torch.testing.assert_close(z_q[0, :, i], torch.tensor(expected))


@settings(deadline=None, max_examples=40)
@given(LEVELS)
def test_every_code_can_be_reached_and_none_is_beyond(levels: tuple[int, ...]) -> None:
    """From vectors that tanh takes to the middle of each level."""
    quantizer = build(levels)
    half, offset = (torch.tensor(levels).double() - 1) * (1 - 1e-3) / 2, (1 - torch.tensor(levels) % 2) / 2
    integers = quantizer.scalars().double() * (torch.tensor(levels) // 2)
    within = ((integers + offset) / half).clamp(-0.999999, 0.999999)  # the outermost lie just beyond the bound
    z = torch.atanh(within) - torch.tan(offset / half)
    codes = quantizer.encode(z.float().T[None])[0][0]
    assert torch.equal(codes, torch.arange(math.prod(levels)))
    extremes = quantizer.encode(torch.tensor([-1e9, 1e9]).repeat(1, len(levels), 1))[0]
    assert extremes.tolist() == [[0, math.prod(levels) - 1]]


@settings(deadline=None, max_examples=40)
@given(LEVELS)
def test_codes_and_levels_are_one_to_one(levels: tuple[int, ...]) -> None:
    quantizer = build(levels)
    codes = torch.arange(math.prod(levels))
    scalars = quantizer.decode((codes[None],))[0].T
    assert len(scalars.unique(dim=0)) == len(codes)
    assert scalars.abs().max() <= 1
    back = ((scalars * (torch.tensor(levels) // 2)).round().long() + torch.tensor(levels) // 2) * quantizer.basis
    assert torch.equal(back.sum(1), codes)


@pytest.mark.parametrize("dim", [3, 4, 16])
def test_the_gradient_passes_as_if_nothing_were_rounded(dim: int) -> None:
    quantizer, levels = build((8, 4, 4), dim), torch.tensor((8, 4, 4))
    z = torch.randn(2, dim, 5, requires_grad=True)
    weights = torch.randn(2, dim, 5)
    smooth = quantizer.project_out(quantizer.bounded(z) / (levels // 2)).movedim(-1, 1)
    expected = torch.autograd.grad((smooth * weights).sum(), z)[0]
    for training in (True, False):
        found = torch.autograd.grad((quantizer.train(training)(z).z_q * weights).sum(), z)[0]
        torch.testing.assert_close(found, expected)


def test_a_code_stands_for_the_same_numbers_in_every_batch() -> None:
    """To the bit; matrix products of other sizes are summed up in another order."""
    quantizer = build((8, 5, 5, 5), dim=64).eval()
    z = torch.randn(40, 64, 7, 9)
    whole = quantizer(z).z_q
    assert all(torch.equal(quantizer(z[i : i + 1]).z_q, whole[i : i + 1]) for i in (0, 17, 39))
    assert torch.equal(quantizer.decode(quantizer.encode(z[:1, :, :1, :1])), whole[:1, :, :1, :1])


def test_it_has_no_losses_and_without_maps_no_parameters() -> None:
    assert build((8, 4, 4)).train()(torch.randn(1, 3, 5)).losses == {}
    assert list(build((8, 4, 4)).parameters()) == []


def test_the_maps_learn_to_say_more_with_the_same_levels() -> None:
    quantizer = build((8, 4, 4), dim=laws.DIM).train()
    z = laws.latents(16, 16)
    optimiser = torch.optim.Adam(quantizer.parameters(), 0.03)
    errors = []
    for _ in range(40):
        error = (quantizer(z).z_q - z).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[-1] < errors[0] / 2


@pytest.mark.parametrize("levels", [(), (8, 1), (0,)])
def test_levels_that_tell_nothing_are_refused(levels: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        Config(levels=levels)
