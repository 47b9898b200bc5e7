"""The codebook of `quantizers.vq`: its laws, and the known traps, each rebuilt here to see that the laws catch it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import laws
from brainvq.codes import Codes
from brainvq.quantizers import vq
from brainvq.quantizers.base import Quantized
from brainvq.quantizers.vq import Config, VectorQuantizer

Build = Callable[..., VectorQuantizer]


def build(cls: type[VectorQuantizer] = VectorQuantizer, dim: int = laws.DIM, **settings: Any) -> VectorQuantizer:
    torch.manual_seed(0)
    return cls(Config(**settings), dim)


def as_z(vectors: Tensor) -> Tensor:
    """(N, D) -> (N, D, 1)"""
    return vectors[:, :, None]


def clusters(count: int, each: int = 50, noise: float = 0.001, dim: int = laws.DIM) -> Tensor:
    """(count * each, dim): tight clusters far apart, the first of which is half of all vectors, as black is."""
    generator = torch.Generator().manual_seed(1)
    centres = 5 * torch.randn(count, dim, generator=generator)
    chosen = torch.arange(count * each) % (2 * count) % (count + 1) % count
    chosen[: count * each // 2] = 0
    return centres[chosen] + noise * torch.randn(count * each, dim, generator=generator)


@contextmanager
def broken(expected: type[Exception] = AssertionError) -> Iterator[None]:
    """What is inside rebuilds a trap; a law must break."""
    with pytest.raises(expected):
        yield


# The start of the moving averages


def one_update_stays_within_data_and_codebook(quantizer: VectorQuantizer) -> None:
    vectors = 0.05 * torch.randn(20, laws.DIM)
    reach = max(float(vectors.abs().max()), float(quantizer.codebook.abs().max()))
    for _ in range(3):
        quantizer.train()(as_z(vectors))
        assert float(quantizer.codebook.abs().max()) <= reach * (1 + 1e-5)


class StartedAtZero(VectorQuantizer):
    def __init__(self, config: Config, dim: int) -> None:
        super().__init__(config, dim)
        self.usage.zero_()


def test_moving_averages_do_not_explode() -> None:
    settings: dict[str, Any] = {"entries": 16, "initial_range": 0.05, "revive_below": 0.0}
    one_update_stays_within_data_and_codebook(build(**settings))
    with broken():
        one_update_stays_within_data_and_codebook(build(StartedAtZero, **settings))


def test_moving_averages_are_those_of_the_paper() -> None:
    """N_i <- g N_i + (1 - g) n_i, m_i <- g m_i + (1 - g) sum of its z, e_i = m_i / N_i, in float64, slowly."""
    quantizer = build(entries=6, initial_range=1.0, decay=0.9, revive_below=0.0)
    entries = quantizer.codebook.double().clone()
    use, sums = torch.ones(6).double(), entries.clone()
    for seed in range(8):
        z = laws.latents(3, 3, seed=seed).double()
        rows = z.permute(0, 2, 3, 1).reshape(-1, laws.DIM)
        nearest = (rows[:, None] - entries).square().sum(-1).argmin(1)
        for k in range(6):
            mine = rows[nearest == k]
            use[k], sums[k] = 0.9 * use[k] + 0.1 * len(mine), 0.9 * sums[k] + 0.1 * mine.sum(0)
        entries = sums / use[:, None]
        quantizer.train()(z.float())
    torch.testing.assert_close(quantizer.codebook.double(), entries, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(quantizer.usage.double(), use, atol=1e-6, rtol=1e-5)


def an_unused_entry_stays(quantizer: VectorQuantizer) -> None:
    quantizer.codebook[0] = quantizer.sums[0] = 100.0
    for _ in range(150):
        quantizer.train()(as_z(torch.randn(4, laws.DIM)))
    torch.testing.assert_close(quantizer.codebook[0], torch.full((laws.DIM,), 100.0))


class QuotientOfNothing(VectorQuantizer):
    def _update(self, vectors: Tensor, codes: Tensor) -> None:
        super()._update(vectors, codes)
        self.codebook.copy_(self.sums / self.usage.clamp_min(1e-12)[:, None])


def test_without_revival_an_unused_entry_stays_where_it_is() -> None:
    settings: dict[str, Any] = {"entries": 4, "initial_range": 1.0, "decay": 0.7, "revive_below": 0.0}
    an_unused_entry_stays(build(**settings))
    with broken():
        an_unused_entry_stays(build(QuotientOfNothing, **settings))


# Revival


def dead_entries_come_to_use(quantizer: VectorQuantizer) -> None:
    """All entries start in one corner, where few are nearest to anything; in the end every cluster has its own."""
    z = as_z(clusters(8))
    for _ in range(60):
        quantizer.train()(z)
    z_q = quantizer.decode(quantizer.encode(z))
    assert F.mse_loss(z_q, z) < 1e-4, "some cluster has no entry"


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_dead_entries_come_to_use(codebook: str) -> None:
    settings: dict[str, Any] = {"entries": 16, "initial_range": 0.1, "decay": 0.7, "codebook": codebook}
    dead_entries_come_to_use(build(**settings))
    with broken():
        dead_entries_come_to_use(build(**settings, revive_below=0.0))


class StatisticsKept(VectorQuantizer):
    def _place(self, entries: Tensor, vectors: Tensor, usage: Tensor) -> None:
        self.codebook.data[entries] = vectors


def a_revived_entry_stays_where_it_was_put(quantizer: VectorQuantizer) -> None:
    z = as_z(clusters(3))
    quantizer.usage[1:] = 0.0
    before = quantizer.train()(z).codes[0]
    put = quantizer.codebook.detach().clone()
    chosen = quantizer.encode(z)[0].unique()
    moved = chosen[~torch.isin(chosen, before)]
    assert len(moved) >= 3, "entries that were dead are used"
    quantizer(z)
    torch.testing.assert_close(quantizer.codebook[moved], put[moved], atol=0.01, rtol=0)


def test_a_revived_entry_stays_where_it_was_put() -> None:
    settings: dict[str, Any] = {"entries": 16, "initial_range": 0.1}
    a_revived_entry_stays_where_it_was_put(build(**settings))
    with broken():
        a_revived_entry_stays_where_it_was_put(build(StatisticsKept, **settings))


def test_two_dead_entries_are_not_moved_to_the_same_vector() -> None:
    quantizer = build(entries=64, initial_range=0.01)
    quantizer.usage[1:] = 0.0
    vectors = torch.randn(80, laws.DIM)
    vectors[:5] *= 100  # that nearly all of the error is at
    quantizer.train()(as_z(vectors))
    assert len(quantizer.codebook[1:].unique(dim=0)) == 63


def test_more_dead_entries_than_vectors_is_no_error() -> None:
    quantizer = build(entries=64, initial_range=0.01)
    quantizer.usage[1:] = 0.0
    quantizer.train()(as_z(torch.randn(3, laws.DIM)))
    assert quantizer.codebook.isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("initial_range", [0.1, None])
def test_what_is_not_finite_is_left_to_the_loss_to_tell(value: float, initial_range: float | None) -> None:
    quantizer = build(entries=8, initial_range=initial_range)
    quantizer.usage[1:] = 0.0
    found = quantizer.train()(as_z(torch.full((9, laws.DIM), value)))
    assert not found.losses["commitment"].isfinite()


@pytest.mark.parametrize("start", [True, False])
def test_every_choice_is_a_function_of_state_and_batch(start: bool) -> None:
    found = []
    for seed in (1, 2):
        quantizer = build(entries=8, initial_range=None if start else 0.1)
        quantizer.usage[1:] = 0.0
        torch.manual_seed(seed)
        quantizer.train()(laws.latents(20, 20))
        found.append(quantizer.codebook)
    assert torch.equal(*found)


# Reading, precision, memory


class EncodesByForward(VectorQuantizer):
    def encode(self, z: Tensor) -> Codes:
        codes: Codes = self(z).codes
        return codes


def test_reading_in_training_mode_must_not_update() -> None:
    with broken():
        laws.reading_changes_nothing(build(EncodesByForward, entries=8, initial_range=1.0), laws.latents(4, 4))


def every_code_survives_autocast(quantizer: VectorQuantizer) -> None:
    quantizer.codebook.copy_(torch.arange(1024.0)[:, None])
    with torch.autocast("cpu", torch.bfloat16):
        codes = quantizer.encode(torch.arange(1024.0)[:, None, None])[0]
    assert torch.equal(codes[:, 0], torch.arange(1024))


def as_the_context_has_it(vectors: Tensor, codebook: Tensor) -> Tensor:
    return (codebook.square().sum(1) / 2 - vectors @ codebook.T).argmin(1)


def test_bfloat16_loses_no_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    every_code_survives_autocast(build(dim=1, entries=1024, initial_range=1.0))
    monkeypatch.setattr(vq, "nearest", as_the_context_has_it)
    with broken():
        every_code_survives_autocast(build(dim=1, entries=1024, initial_range=1.0))
    with broken():
        laws.autocast_changes_nothing(build(entries=512, initial_range=1.0), laws.latents(16, 16))


def table(vectors: Tensor, codebook: Tensor) -> Tensor:
    return torch.cdist(vectors, codebook).argmin(1)


class OneHot(VectorQuantizer):
    def decode(self, codes: Codes) -> Tensor:
        z_q = F.one_hot(codes[0], len(self.codebook)).float() @ self.codebook
        return z_q.movedim(-1, 1)


def test_a_large_codebook_needs_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    z = laws.latents(32, 16)
    settings: dict[str, Any] = {"entries": 65_536, "initial_range": 1.0}
    laws.no_table_of_vectors_by_entries_is_made(build(**settings), z)
    settings["entries"] = 8192
    with broken():
        laws.no_table_of_vectors_by_entries_is_made(build(OneHot, **settings), z)
    monkeypatch.setattr(vq, "nearest", table)
    with broken():
        laws.no_table_of_vectors_by_entries_is_made(build(**settings), z)


# The start from data


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_the_first_training_batch_and_no_other_starts_the_codebook(codebook: str) -> None:
    starts = []

    class Counted(VectorQuantizer):
        def _start(self, vectors: Tensor) -> None:
            starts.append(len(vectors))
            super()._start(vectors)

    quantizer = build(Counted, codebook=codebook, entries=16)
    vectors = torch.rand(200, laws.DIM) + 7
    before = quantizer.codebook.detach().clone()
    quantizer.eval()(as_z(vectors))
    assert torch.equal(quantizer.codebook, before)
    for _ in range(3):
        quantizer.train()(as_z(vectors))
    again = build(Counted, codebook=codebook, entries=16)
    again.load_state_dict(quantizer.state_dict())
    again.train()(as_z(vectors))
    assert starts == [200]
    assert ((quantizer.codebook >= vectors.min(0).values) & (quantizer.codebook <= vectors.max(0).values)).all()


def the_start_leaves_no_entry_empty(quantizer: VectorQuantizer) -> None:
    vectors = torch.randn(1000, laws.DIM)
    vectors[:700] = 0.0  # as the background is to an encoder
    quantizer.train()(as_z(vectors))
    used = len(quantizer.encode(as_z(vectors))[0].unique())
    assert used >= 60, f"{used} of 64 entries are used"


def where_they_were(vectors: Tensor, served: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return torch.zeros(count, laws.DIM)


def test_the_start_leaves_no_entry_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    the_start_leaves_no_entry_empty(build(entries=64))
    monkeypatch.setattr(vq, "_badly_served", where_they_were)
    with broken():
        the_start_leaves_no_entry_empty(build(entries=64))


def test_a_batch_smaller_than_the_codebook_can_start_it() -> None:
    quantizer = build(entries=64)
    z = as_z(torch.randn(5, laws.DIM))
    quantizer.train()(z)
    torch.testing.assert_close(quantizer.decode(quantizer.encode(z)), z)


# Gradients


def test_losses_and_gradients_are_those_of_equation_3() -> None:
    quantizer = build(entries=8, codebook="gradient", initial_range=1.0, commitment=0.5)
    z = laws.latents(3, 2).requires_grad_()
    found: Quantized = quantizer(z)
    sum(found.losses.values()).backward()  # type: ignore[union-attr]
    rows = z.detach().permute(0, 2, 3, 1).reshape(-1, laws.DIM)
    codes, entries = found.codes[0].flatten(), quantizer.codebook.detach()
    expected = torch.zeros_like(entries).index_add_(0, codes, 2 * (entries[codes] - rows) / rows.numel())
    torch.testing.assert_close(quantizer.codebook.grad, expected)
    unused = torch.bincount(codes, minlength=8) == 0
    assert 0 < unused.sum() < 8
    assert quantizer.codebook.grad is not None
    assert (quantizer.codebook.grad[unused] == 0).all()
    torch.testing.assert_close(z.grad, 0.5 * 2 * (z.detach() - found.z_q.detach()) / z.numel())
    torch.testing.assert_close(found.losses["codebook"], F.mse_loss(entries[codes], rows))
    torch.testing.assert_close(found.losses["commitment"], 0.5 * F.mse_loss(entries[codes], rows))


def test_a_codebook_of_averages_has_no_parameters_and_one_loss() -> None:
    quantizer = build(entries=8, codebook="ema")
    assert list(quantizer.parameters()) == []
    assert list(quantizer.train()(laws.latents(3, 2)).losses) == ["commitment"]
