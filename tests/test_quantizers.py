"""Every file of quantizers/ keeps the contract of base.py; a new one is held to it without a line here."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from brainvq.config import kinds, part_config
from brainvq.quantizers import search
from brainvq.quantizers.base import Quantizer, QuantizerConfig
from laws import (
    DIM,
    an_empty_batch_has_no_codes,
    autocast_changes_nothing,
    decoding_follows_its_precision,
    latents,
    losses_are_named_finite_and_not_negative,
    neighbours_in_the_batch_do_not_matter,
    no_table_of_vectors_by_entries_is_made,
    quantizing_twice_is_quantizing_once,
    reading_changes_nothing,
    the_gradient_passes_straight_through,
    the_layout_in_memory_does_not_matter,
    the_nearest_entry_wins,
    z_q_is_what_the_codes_stand_for,
)

OTHER_SETTINGS: dict[str, list[dict[str, Any]]] = {
    "quantizers.vq": [
        {"codebook": "gradient", "initial_range": 0.5},
        {"codebook": "gradient", "revive_below": 0.0},
        {"codebook": "ema", "initial_range": 0.5, "revive_below": 0.0},
    ],
    "quantizers.fsq": [{"levels": (8, 4, 4)}],
    "quantizers.normalized": [{"code_dim": 3, "revive_below": 0.0}],
    "quantizers.residual": [
        {"stages": ({"kind": "quantizers.normalized"}, {"kind": "quantizers.vq", "codebook": "gradient"})},
        {"stages": ({"kind": "quantizers.fsq"}, {"kind": "quantizers.normalized"}, {"kind": "quantizers.residual"})},
    ],
}
MAPPED = {"quantizers.fsq", "quantizers.normalized"}
"""Nearest, and straight through, on the far side of a map: held to that in files of their own."""
GREEDY = {"quantizers.residual"}
"""What a sum of entries is encoded to may be another sum: held stage by stage in a file of its own."""
CASES = [(kind, settings) for kind in kinds("quantizers") for settings in ({}, *OTHER_SETTINGS.get(kind, []))]


def named(case: tuple[str, dict[str, Any]]) -> str:
    kind, settings = case
    stages = [stage["kind"].removeprefix("quantizers.") for stage in settings.get("stages", ())]
    return "-".join([kind, *(stages or map(str, settings.values()))])


def without(*left_out: str) -> pytest.MarkDecorator:
    """A law for all kinds but these."""
    return pytest.mark.parametrize(
        "fresh", [case for case in CASES if case[0] not in left_out], ids=named, indirect=True
    )


@pytest.fixture(params=CASES, ids=named)
def fresh(request: pytest.FixtureRequest) -> Quantizer:
    """Straight from its file."""
    kind, settings = request.param
    config = part_config(kind)(kind=kind, **settings)
    assert isinstance(config, QuantizerConfig)
    torch.manual_seed(0)
    return config.build(DIM)


@pytest.fixture
def quantizer(fresh: Quantizer) -> Quantizer:
    """That has seen two batches."""
    for seed in (10, 11):
        fresh.train()(latents(16, 16, batch=4, seed=seed))
    return fresh


@pytest.mark.parametrize("grid", [(7,), (6, 5), (4, 3, 2), (1, 1)])
def test_z_q_is_what_the_codes_stand_for(quantizer: Quantizer, grid: tuple[int, ...]) -> None:
    z_q_is_what_the_codes_stand_for(quantizer, latents(*grid))
    z_q_is_what_the_codes_stand_for(quantizer, 1e3 + latents(*grid))


def test_a_fresh_one_encodes_too(fresh: Quantizer) -> None:
    z_q_is_what_the_codes_stand_for(fresh, latents(6, 5))
    reading_changes_nothing(fresh, latents(6, 5))


@without(*MAPPED, *GREEDY)
def test_quantizing_twice_is_quantizing_once(quantizer: Quantizer) -> None:
    quantizing_twice_is_quantizing_once(quantizer, latents(16, 16))


def test_reading_changes_nothing(quantizer: Quantizer) -> None:
    reading_changes_nothing(quantizer, latents(6, 5))


@without(*MAPPED, *GREEDY)
def test_the_gradient_passes_straight_through(quantizer: Quantizer) -> None:
    the_gradient_passes_straight_through(quantizer, latents(6, 5))


def test_every_parameter_learns(quantizer: Quantizer) -> None:
    """From what decodes z_q, or from a loss of the quantizer's own."""
    found = quantizer.train()(latents(6, 5).requires_grad_())
    torch.stack([found.z_q.square().mean(), *found.losses.values()]).sum().backward()
    for name, parameter in quantizer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_vectors_that_are_not_finite_get_a_legal_code_everywhere(quantizer: Quantizer) -> None:
    for value in (float("nan"), float("inf"), float("-inf")):
        z = latents(3, 2)
        z[0] = value
        for code, entries in zip(quantizer.encode(z), quantizer.entries, strict=True):
            assert ((code >= 0) & (code < entries)).all()


def test_losses_are_named_finite_and_not_negative(quantizer: Quantizer) -> None:
    losses_are_named_finite_and_not_negative(quantizer, latents(6, 5))


def test_autocast_changes_nothing(quantizer: Quantizer) -> None:
    autocast_changes_nothing(quantizer, latents(16, 16))


def test_decoding_follows_its_precision(quantizer: Quantizer) -> None:
    decoding_follows_its_precision(quantizer, latents(5, 7))


def test_neighbours_in_the_batch_do_not_matter(quantizer: Quantizer) -> None:
    neighbours_in_the_batch_do_not_matter(quantizer, latents(6, 5, batch=3))


def test_the_layout_in_memory_does_not_matter(quantizer: Quantizer) -> None:
    the_layout_in_memory_does_not_matter(quantizer, latents(6, 5))


def test_an_empty_batch_has_no_codes(quantizer: Quantizer) -> None:
    an_empty_batch_has_no_codes(quantizer)


def test_no_table_of_vectors_by_entries_is_made(quantizer: Quantizer) -> None:
    vectors = 2**24 // max(quantizer.entries)
    no_table_of_vectors_by_entries_is_made(quantizer, latents(vectors // 16, batch=16))


def test_its_state_is_all_there_is(quantizer: Quantizer, fresh: Quantizer) -> None:
    """A copy made from the state goes on exactly alike, whatever the global random numbers."""
    kind = type(quantizer).__module__.removeprefix("brainvq.")
    copy = part_config(kind)(**fresh.config.model_dump()).build(DIM)  # type: ignore[operator, union-attr]
    copy.load_state_dict(quantizer.state_dict())
    for seed, each in enumerate((quantizer, copy)):
        torch.manual_seed(seed)
        each.train()(latents(8, 8, seed=3))
    ours, theirs = quantizer.state_dict(), copy.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@st.composite
def searches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Vectors (N, D) and a codebook (K, D): spread, clustered or with duplicates, anywhere, of any scale."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    dim, entries, n = draw(st.integers(1, 33)), draw(st.integers(1, 40)), draw(st.integers(0, 60))
    codebook = torch.randn(entries, dim, generator=generator)
    if draw(st.booleans()):  # in tight clusters
        codebook = codebook[torch.randint(entries, (entries,), generator=generator) % 3 % entries] + 0.01 * codebook
    if draw(st.booleans()):  # some of them twice
        codebook = codebook[torch.randint(entries, (entries,), generator=generator)]
    spread = draw(st.sampled_from([0.01, 1.0, 3.0]))
    vectors = codebook[torch.randint(entries, (n,), generator=generator)]
    vectors = vectors + spread * torch.randn(n, dim, generator=generator)
    offset, scale = draw(st.sampled_from([0.0, 1.0, -1e3])), draw(st.sampled_from([1e-3, 1.0, 1e3]))
    return scale * (vectors + offset), scale * (codebook + offset)


@settings(deadline=None, max_examples=60)
@given(searches(), st.sampled_from([1, 100, 2**20]))
def test_the_nearest_entry_wins(drawn: tuple[Tensor, Tensor], scores: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SCORES", scores)
        the_nearest_entry_wins(search.nearest, *drawn)


def test_without_a_common_origin_an_offset_drowns_the_differences() -> None:
    def uncentred(vectors: Tensor, codebook: Tensor) -> Tensor:
        return (codebook.square().sum(1) / 2 - vectors @ codebook.T).argmin(1)

    codebook = 100 + 0.1 * torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    the_nearest_entry_wins(search.nearest, codebook.clone(), codebook)
    with pytest.raises(AssertionError):
        the_nearest_entry_wins(uncentred, codebook.clone(), codebook)


def test_vectors_that_are_not_finite_still_get_a_legal_code() -> None:
    vectors = torch.tensor([[float("nan"), 0.0], [float("inf"), 0.0], [0.0, float("-inf")]])
    found = search.nearest(vectors, torch.randn(5, 2))
    assert ((found >= 0) & (found < 5)).all()
