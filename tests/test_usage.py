"""Code use and rates: known answers on codes that can be reckoned by hand."""

import numpy as np
import pytest
import torch

from brainvq.codes import CodeSpec
from brainvq.errors import InputError
from brainvq.metrics import usage
from brainvq.metrics.usage import Usage, UsageCounter

SPEC = CodeSpec((16,), ((8, 8),))
SIZE = (32, 32)  # a grid of 4 x 4


def count(codes: torch.Tensor, subjects: list[str] | None = None, batch: int = 8, spec: CodeSpec = SPEC) -> Usage:
    counter = UsageCounter(spec)
    for start in range(0, len(codes), batch):
        chosen = slice(start, start + batch)
        counter.add((codes[chosen],), None if subjects is None else subjects[chosen])
    return counter.usage(SIZE)


def random(n: int, high: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, high, (n, 4, 4), generator=torch.Generator().manual_seed(seed))


def subjects_of(n: int, each: int = 4) -> list[str]:
    return [f"s{i // each}" for i in range(n)]


def test_use_is_counted_over_the_split_not_over_a_batch() -> None:
    codes = torch.arange(16).repeat_interleave(8)[:, None, None].expand(-1, 4, 4)  # each batch of 8 uses one entry
    found = count(codes)
    assert found.live_entries == 16
    assert found.dead_entries == 0
    assert found.perplexity == pytest.approx(16)
    assert count(codes[:8]).live_entries == 1


def test_batches_do_not_matter() -> None:
    assert count(random(30), subjects_of(30), batch=7) == count(random(30), subjects_of(30), batch=30)


def test_one_entry_costs_nothing() -> None:
    found = count(torch.full((20, 4, 4), 5), subjects_of(20))
    assert (found.live_entries, found.dead_entries, found.perplexity) == (1, 15, 1)
    assert found.entropy_bits_per_pixel == 0
    assert found.held_out_bits_per_pixel == pytest.approx(0, abs=0.01)
    assert found.levels[0].counts[5] == 20 * 16


def test_a_code_fixed_by_its_place_costs_nothing_though_all_entries_live() -> None:
    found = count(torch.arange(16).reshape(1, 4, 4).expand(200, 4, 4), subjects_of(200))
    assert found.perplexity == pytest.approx(16)
    assert found.entropy_bits_per_pixel == pytest.approx(0, abs=1e-12)
    assert found.held_out_bits_per_pixel == pytest.approx(0, abs=1e-3)


def test_nominal_bits_are_those_of_the_spec() -> None:
    assert count(random(4)).nominal_bits_per_pixel == SPEC.bits(SIZE) / 1024 == 16 * 4 / 1024


def test_uniform_codes_cost_their_fixed_length() -> None:
    found = count(random(2000), subjects_of(2000))
    assert found.entropy_bits_per_pixel == pytest.approx(4 * 16 / 1024, rel=0.01)
    assert found.held_out_bits_per_pixel == pytest.approx(4 * 16 / 1024, rel=0.01)


def test_few_images_flatter_the_plug_in_but_not_the_held_out_rate() -> None:
    true = 4 * 16 / 1024
    found = count(random(12), subjects_of(12))
    assert found.entropy_bits_per_pixel < 0.8 * true
    assert found.held_out_bits_per_pixel is not None
    assert found.held_out_bits_per_pixel > 0.97 * true


def test_what_only_one_subject_does_is_not_foreseen() -> None:
    """Slices of a subject are alike: folds that divided subjects would call this cheap."""
    codes = torch.stack([random(1, seed=subject)[0] for subject in range(8) for _ in range(10)])
    found = count(codes, subjects_of(80, each=10))
    assert found.held_out_bits_per_pixel is not None
    assert found.held_out_bits_per_pixel > 1.2 * found.entropy_bits_per_pixel


def test_the_held_out_rate_is_a_proper_code_length() -> None:
    """Two folds of one image, one place, two entries: by hand, p = (n_k + T g_k) / (n + T), g of counts + 1/2."""
    spec = CodeSpec((2,), ((32, 32),))
    found = count(torch.tensor([[[0]], [[1]]]), ["a", "b"], spec=spec)
    chance = (0 + 1 * 0.5 / 2) / (1 + 1)
    assert found.held_out_bits_per_pixel == pytest.approx(2 * -np.log2(chance) / 2 / 1024)


def test_without_subjects_or_with_one_there_is_no_held_out_rate() -> None:
    assert count(random(8)).held_out_bits_per_pixel is None
    assert count(random(8), ["only"] * 8).held_out_bits_per_pixel is None


def test_places_in_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = count(random(40), subjects_of(40))
    monkeypatch.setattr(usage, "CELLS_AT_ONCE", 48)
    pieces = count(random(40), subjects_of(40))
    assert pieces.entropy_bits_per_pixel == pytest.approx(whole.entropy_bits_per_pixel, rel=1e-12)
    assert pieces.held_out_bits_per_pixel == pytest.approx(whole.held_out_bits_per_pixel, rel=1e-12)


def test_levels_add_up() -> None:
    spec = CodeSpec((4, 16), ((16, 16), (8, 8)))
    counter = UsageCounter(spec)
    coarse, fine = random(10, 4)[:, :2, :2], random(10)
    counter.add((coarse, fine), subjects_of(10))
    found = counter.usage(SIZE)
    assert [level.grid for level in found.levels] == [(2, 2), (4, 4)]
    assert found.live_entries == sum(level.live_entries for level in found.levels)
    assert found.nominal_bits_per_pixel == (4 * 2 + 16 * 4) / 1024
    assert found.entropy_bits_per_pixel == sum(level.entropy_bits_per_pixel for level in found.levels)
    assert found.levels[1].entropy_bits_per_pixel == count(fine, subjects_of(10)).entropy_bits_per_pixel


def test_volumes_too() -> None:
    counter = UsageCounter(CodeSpec((8,), ((4, 4, 4),)))
    counter.add((torch.zeros(3, 2, 2, 2, dtype=torch.long),), ["a", "b", "c"])
    assert counter.usage((8, 8, 8)).levels[0].grid == (2, 2, 2)


def test_what_does_not_fit_is_refused() -> None:
    counter = UsageCounter(SPEC)
    with pytest.raises(ValueError, match="no codes"):
        counter.usage(SIZE)
    with pytest.raises(InputError, match="entries"):
        counter.add((torch.full((1, 4, 4), 16),))
    counter.add((random(2),), ["a", "b"])
    counter.add((random(2),))
    with pytest.raises(ValueError, match="one an image"):
        counter.usage(SIZE)
