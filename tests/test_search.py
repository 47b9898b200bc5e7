"""The search in few bits: no entry that could be nearest is ruled out, whatever the data."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from brainvq.quantizers import search
from laws import the_nearest_entry_wins


@st.composite
def searches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Vectors (N, D) and a codebook (K, D) large enough for the search in few bits."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    dim, entries, n = draw(st.integers(1, 70)), draw(st.integers(search.SMALL, 700)), draw(st.integers(0, 60))
    codebook = torch.randn(entries, dim, generator=generator)
    groups = draw(st.sampled_from([3, 50, entries]))
    tight = draw(st.sampled_from([0.0, 1e-3, 0.1, 1.0]))
    codebook = codebook[torch.randint(groups, (entries,), generator=generator)] + tight * codebook
    spread = draw(st.sampled_from([0.0, 0.01, 1.0, 3.0]))
    vectors = codebook[torch.randint(entries, (n,), generator=generator)]
    vectors = vectors + spread * torch.randn(n, dim, generator=generator)
    offset, scale = draw(st.sampled_from([0.0, 1.0, -1e3])), draw(st.sampled_from([1e-18, 1e-3, 1.0, 1e3, 1e15]))
    return scale * (vectors + offset), scale * (codebook + offset)


@pytest.fixture(params=["native", "float32"])
def bits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that multiplies bfloat16 (emulated where there is none), and on one that does not."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: request.param == "native")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


@pytest.mark.usefixtures("bits")
@pytest.mark.parametrize("few", [1, 8])
def test_the_nearest_entry_wins(few: int) -> None:
    @settings(deadline=None, max_examples=40)
    @given(searches(), st.sampled_from([1, 3000, 2**21]), st.sampled_from([7, 2**14]))
    def run(drawn: tuple[Tensor, Tensor], scores: int, rows: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search, "SCORES", scores)
            patch.setattr(search, "ROWS", rows)
            patch.setattr(search, "FEW", few)
            the_nearest_entry_wins(search.nearest, *drawn)

    run()


def no_candidate_is_lost(vectors: Tensor, codebook: Tensor) -> Tensor:
    """The nearest by float64 is among those left for every vector that is not searched plainly; how many were left."""
    pairs: list[tuple[Tensor, Tensor]] = []

    def keep(self: object, vectors: Tensor, row: Tensor, entry: Tensor) -> Tensor:
        pairs.append((row, entry))
        return row.new_zeros(len(vectors))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search._Screen, "_decide", keep)
        search.nearest(vectors, codebook)
    ((row, entry),) = pairs
    left = torch.zeros(len(vectors), len(codebook), dtype=torch.bool)
    left[row, entry] = True
    distances = torch.cdist(vectors.double(), codebook.double(), compute_mode="donot_use_mm_for_euclid_dist")
    right = left[torch.arange(len(vectors)), distances.argmin(1)]
    assert right[left.any(1)].all()
    return left.sum(1)


@pytest.mark.usefixtures("bits")
def test_no_candidate_is_lost() -> None:
    @settings(deadline=None, max_examples=40)
    @given(searches())
    def run(drawn: tuple[Tensor, Tensor]) -> None:
        if len(drawn[0]):
            no_candidate_is_lost(*drawn)

    run()


def random(n: int, entries: int, dim: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, dim, generator=generator), torch.randn(entries, dim, generator=generator)


@pytest.mark.usefixtures("bits")
def test_few_are_left() -> None:
    left = no_candidate_is_lost(*random(1000, 512))
    assert (left > 0).all()
    assert left.float().mean() < 2


def forget_rounding(rounded: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> Callable[..., object]:
    def wrapped(self: search._Screen, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        wide, moved, norms = rounded(self, x)
        return wide, torch.zeros_like(moved), norms

    return wrapped


def test_the_bound_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(search._Screen, "_rounded", forget_rounding(search._Screen._rounded))
    noise, codebook = random(1000, 512, dim=4)
    codebook = 10 * codebook[torch.arange(512) % 20] + 0.1 * codebook  # near each other, far from the mean
    with pytest.raises(AssertionError):
        no_candidate_is_lost(codebook[torch.arange(1000) % 512] + 0.1 * noise, codebook)


@pytest.mark.usefixtures("bits")
@pytest.mark.parametrize("groups", [1, 30, 300])
def test_the_first_of_equal_entries_wins_alone_as_in_company(groups: int) -> None:
    """With 300 groups a few candidates are left, with 1 too many."""
    vectors, codebook = random(200, 300)
    codebook = codebook[torch.arange(600) % groups]
    found = search.nearest(vectors, codebook)
    assert (found < groups).all()
    alone = torch.cat([search.nearest(vector[None], codebook) for vector in vectors])
    assert torch.equal(alone, found)


@pytest.mark.usefixtures("bits")
def test_vectors_that_are_not_finite_disturb_no_other() -> None:
    vectors, codebook = random(200, 300)
    expected = search.nearest(vectors, codebook)
    broken = vectors.clone()
    for row, value in enumerate([float("nan"), float("inf"), float("-inf"), 3e38, -1e30, 1e20]):
        broken[row, row:] = value
    found = search.nearest(broken, codebook)
    assert torch.equal(found[6:], expected[6:])
    assert ((found >= 0) & (found < 300)).all()
    for value in (float("nan"), float("inf"), 3e38):
        codebook[7] = value
        found = search.nearest(broken, codebook)
        assert ((found >= 0) & (found < 300)).all()
