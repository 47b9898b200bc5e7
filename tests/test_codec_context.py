"""The context model in the codec: its bits are the prior's, and the same whatever adds them up."""

import decimal
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from brainvq.codec import coder, context, context_arrays, entropy, reference
from brainvq.codec.context import Context, cumulated, exponentials
from brainvq.codec.context_arrays import LIMIT, check
from brainvq.codec.entropy import TOTAL
from brainvq.codes import Codes, CodeSpec
from brainvq.errors import InputError
from brainvq.networks import whole
from brainvq.priors import context as prior_context
from test_context import FLAT, RESIDUAL, SOLID, SPECS, TWO_LEVELS, given_of, random_codes, shaken

Integers = NDArray[np.int64]

EXPONENTIALS = "f7d15c0bed1a3fa97ae68a84d26215805c1ad7fc12ccf7c9f73c5e718eb4afdd"
"""SHA-256 of the table that all files with a context model are made with."""


def model_of(prior: Any, numbers: type[Any] = np.float32) -> Context:
    kind, arrays = prior.entropy()
    assert kind == Context.kind
    return Context(prior.spec.entries, arrays, numbers)


def flat(prior: Any, codes: Codes) -> Integers:
    found: Integers = prior.spec.flatten(codes).numpy()
    return found


def all_tables(model: Context, grids: Any, codes: Integers, previous: Integers) -> list[NDArray[np.uint32]]:
    """Of every pass, as encoding and decoding meet them."""
    known, found = np.full_like(codes, -1), []
    for number, at in enumerate(model.passes(grids)):
        found.append(model.tables(number, grids, known, previous))
        known[:, at] = codes[:, at]
    return found


def bits(model: Context, grids: Any, codes: Integers, previous: Integers) -> NDArray[np.float64]:
    """(B, N)."""
    found = np.zeros(codes.shape)
    for at, table in zip(model.passes(grids), all_tables(model, grids, codes, previous), strict=True):
        wide = np.diff(table.astype(np.int64))
        found[:, at] = 24 - np.log2(np.take_along_axis(wide, codes[:, at, None], 2)[..., 0])
    return found


def same(one: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("previous", [False, True])
@pytest.mark.parametrize("where", SPECS)
def test_its_bits_are_those_of_the_prior(where: tuple[CodeSpec, tuple[int, ...]], previous: bool) -> None:
    prior = shaken(*where, previous=previous)
    codes, before = random_codes(prior, 3), random_codes(prior, 3, seed=5)
    for level in before:
        level[1] = -1
    with torch.no_grad():
        said = -prior.log_probs(codes, given_of(before, 3) if previous else None).numpy() / np.log(2)
    found = bits(model_of(prior), prior.grids, flat(prior, codes), flat(prior, before))
    np.testing.assert_allclose(found, said, atol=1e-2)
    assert np.abs(found.mean() - said.mean()) < 1e-4


def by_the_document(
    arrays: dict[str, Any], level: int, grids: Any, at: tuple[int, ...], known: list[Any], before: list[Any]
) -> list[int]:
    """The table of one code as docs/format.md tells it, in Python's integers."""
    a, b, c, d = arrays["shifts"].tolist()
    of = {name.rpartition("_")[0]: values.tolist() for name, values in arrays.items() if name.endswith(f"_{level}")}
    side = len(of["phases"])
    phase = of["phases"]
    for i in at:
        phase = phase[i % side]

    def seen(codes: Any, grid: Any, centre: Any, offsets: Any, embedding: Any) -> list[int]:
        row = []
        for offset in offsets:
            place = tuple(i + step for i, step in zip(centre, offset, strict=True))
            inside = all(0 <= i < n for i, n in zip(place, grid, strict=True))
            row += embedding[int(codes[place]) if inside and codes[place] >= 0 else -1]
        return row

    def stretched(grid: Any) -> tuple[int, ...]:
        return tuple((2 * i + 1) * g // (2 * n) for i, g, n in zip(at, grid, grids[level], strict=True))

    def times(matrix: Any, row: list[int]) -> list[int]:
        return [sum(w * x for w, x in zip(weights, row, strict=True)) for weights in matrix]

    def add(*rows: list[int]) -> list[int]:
        return [sum(each) for each in zip(*rows, strict=True)]

    def clip(row: list[int], shift: int) -> list[int]:
        return [min(max(x + (1 << shift - 1) >> shift, 0), 255) for x in row]

    place = int(np.ravel_multi_index(stretched(of["grid"]), of["grid"]))
    near = seen(known[level], grids[level], at, of["near_offsets"][phase], of["embedding"])
    x = add(times(of["near"][phase], near), times(of["place"], of["position"][place]), of["bias"][phase])
    x = add(x, times(of["before"], seen(before[level], grids[level], at, of["before_offsets"], of["embedding"])))
    if level:
        over = grids[level - 1]
        above = seen(known[level - 1], over, stretched(over), of["above_offsets"], of["above_embedding"])
        x = add(x, times(of["above"], above))
    h = clip(x, a)
    for weight, bias in zip(of["layers"], of["layer_bias"], strict=True):
        h = clip(add(times(weight, h), [n << b for n in h], bias), b)
    y = add(times(of["head"], h), of["head_bias"], [n << d for n in of["table"][place]])
    logits = [n >> c for n in y]
    mass = [round(2**24 * math.exp(-(max(logits) - n) / 64)) for n in logits]
    return [sum(mass[:k]) * (2**24 - len(mass)) // sum(mass) + k for k in range(len(mass) + 1)]


@pytest.mark.parametrize("size", [(8, 8), (8, 12)])
def test_tables_are_what_the_document_says(size: tuple[int, int]) -> None:
    prior = shaken(*TWO_LEVELS, previous=True)
    _, arrays = prior.entropy()
    model, grids = model_of(prior), prior.spec.grids(size)
    sides = np.cumsum([0, *(math.prod(grid) for grid in grids)])
    rng = np.random.default_rng(3)
    codes, previous = (
        np.concatenate([rng.integers(0, k, (1, math.prod(g))) for k, g in zip((3, 5), grids, strict=True)], 1)
        for _ in range(2)
    )
    known = np.full_like(codes, -1)
    for number, at in enumerate(model.passes(grids)):
        tables = model.tables(number, grids, known, previous)
        level = int(at[0] >= sides[1])
        for n in range(0, len(at), 3):
            place = tuple(int(i) for i in np.unravel_index(at[n] - sides[level], grids[level]))
            shaped = [
                [flat[0, start:end].reshape(grid) for start, end, grid in zip(sides, sides[1:], grids, strict=False)]
                for flat in (known, previous)
            ]
            assert tables[0, n].tolist() == by_the_document(arrays, level, grids, place, *shaped)
        known[:, at] = codes[:, at]


@pytest.mark.parametrize("where", SPECS)
def test_float32_float64_and_int64_agree_to_the_bit(where: tuple[CodeSpec, tuple[int, ...]]) -> None:
    prior = shaken(*where, previous=True)
    codes, before = flat(prior, random_codes(prior, 2)), flat(prior, random_codes(prior, 2, seed=5))
    kinds = (np.float32, np.float64, np.int64)
    one, *others = (all_tables(model_of(prior, kind), prior.grids, codes, before) for kind in kinds)
    assert all(same(one, other) for other in others)


def test_the_largest_sums_are_exact() -> None:
    """Weights as far out as they go, so that the sums come near the limit and float32 has no bit to spare."""
    torch.manual_seed(0)
    prior = shaken(*FLAT, width=64, dim=20, near=24, previous=True)
    with torch.no_grad():
        for weight in prior.parameters():
            weight.copy_(1e3 * torch.randn_like(weight).sign() * (1 + 0.01 * torch.rand_like(weight)))
    codes, before = flat(prior, random_codes(prior, 2)), flat(prior, random_codes(prior, 2, seed=5))
    one, other = (all_tables(model_of(prior, kind), prior.grids, codes, before) for kind in (np.float32, np.int64))
    assert same(one, other)


def shuffled(arrays: dict[str, NDArray[Any]], seed: int) -> dict[str, NDArray[Any]]:
    """The same network with its sums in another order: of what is near, of numbers of a code, of hidden activations."""
    rng, found = np.random.default_rng(seed), dict(arrays)
    dim, width = found["embedding_0"].shape[1], found["head_0"].shape[1]
    numbers = rng.permutation(dim)
    for name in ("near", "before"):
        places = rng.permutation(found[f"{name}_offsets_0"].shape[-2])
        found[f"{name}_offsets_0"] = found[f"{name}_offsets_0"][..., places, :]
        weight = found[f"{name}_0"].reshape(*found[f"{name}_0"].shape[:-1], -1, dim)
        found[f"{name}_0"] = weight[..., places, :][..., numbers].reshape(found[f"{name}_0"].shape)
    found["embedding_0"] = found["embedding_0"][:, numbers]
    found["position_0"], found["place_0"] = found["position_0"][:, numbers], found["place_0"][:, numbers]
    units = rng.permutation(width)
    for name in ("near_0", "bias_0", "layer_bias_0"):
        found[name] = found[name][:, units]
    for name in ("before_0", "above_0", "place_0"):
        found[name] = found[name][units]
    found["layers_0"] = found["layers_0"][:, units][:, :, units]
    found["head_0"] = found["head_0"][:, units]
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_summation_does_not_matter(seed: int) -> None:
    prior = shaken(*FLAT, previous=True)
    _, arrays = prior.entropy()
    codes, before = flat(prior, random_codes(prior, 2)), flat(prior, random_codes(prior, 2, seed=5))
    one = all_tables(Context((5,), arrays), prior.grids, codes, before)
    other = all_tables(Context((5,), shuffled(arrays, seed)), prior.grids, codes, before)
    assert same(one, other)


def test_the_number_of_threads_does_not_matter() -> None:
    prior = shaken(*FLAT, previous=True, width=256, dim=16, near=24)
    codes, given = random_codes(prior, 64), given_of(random_codes(prior, 64, seed=5), 64)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            with torch.no_grad():
                found.append(prior.log_probs(codes, given))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("where", SPECS)
def test_a_gpu_finds_the_same_logits(where: tuple[CodeSpec, tuple[int, ...]]) -> None:
    prior = shaken(*where)
    level, code, table = prior.levels[0], random_codes(prior, 4)[0].flatten(1), prior.frequencies.tables[0]
    every = range(len(level.sections))
    with torch.no_grad():
        here = level.logits(code, None, None, table, every)
        there = level.cuda().logits(code.cuda(), None, None, table.cuda(), every).cpu()
    assert torch.equal(here, there)


@pytest.mark.parametrize("size", [(8, 12), (2, 2), (20, 6), (26, 34)])
def test_any_grid_has_tables_that_a_coder_can_use(size: tuple[int, int]) -> None:
    prior = shaken(*FLAT, previous=True)
    model, grids = model_of(prior), prior.spec.grids(size)
    codes = np.random.default_rng(0).integers(0, 5, (3, np.prod(grids[0])))
    assert sorted(np.concatenate(model.passes(grids)).tolist()) == list(range(codes.shape[1]))
    for at, table in zip(model.passes(grids), all_tables(model, grids, codes, codes), strict=True):
        assert table.shape == (3, len(at), 6)
        assert table.dtype == np.uint32
        assert (table[..., 0] == 0).all()
        assert (table[..., -1] == TOTAL).all()
        assert (np.diff(table.astype(np.int64)) > 0).all()


def test_an_image_does_not_depend_on_its_batch_nor_on_how_a_pass_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = shaken(*TWO_LEVELS, previous=True)
    codes, before = flat(prior, random_codes(prior, 3)), flat(prior, random_codes(prior, 3, seed=5))
    before[2] = -1
    model = model_of(prior)
    whole = bits(model, prior.grids, codes, before)
    for n in range(3):
        part = slice(n, n + 1)
        assert np.array_equal(bits(model, prior.grids, codes[part], before[part]), whole[part])
    monkeypatch.setattr(context, "AT_ONCE", 12)
    cut = model_of(prior)
    assert len(cut.passes(prior.grids)) > len(model.passes(prior.grids))
    assert np.array_equal(bits(cut, prior.grids, codes, before), whole)
    monkeypatch.setattr(context, "MOST_KEPT", 0)
    assert np.array_equal(bits(model_of(prior), prior.grids, codes, before), whole)


@pytest.mark.parametrize("where", [FLAT, TWO_LEVELS, RESIDUAL, SOLID])
def test_codes_come_back_by_either_decoder(where: tuple[CodeSpec, tuple[int, ...]]) -> None:
    prior = shaken(*where, previous=True)
    model, codes, runs = model_of(prior), flat(prior, random_codes(prior, 5)), [3, 2]
    words = coder.compress(model, prior.grids, codes, runs)
    assert np.array_equal(coder.decompress(model, prior.grids, words, runs), codes)
    assert np.array_equal(reference._group(words.astype("<u4").tobytes(), runs, prior.grids, model), codes)


def test_it_comes_back_from_a_file_with_its_tables_and_its_hash(tmp_path: Path) -> None:
    prior = shaken(*TWO_LEVELS, previous=True)
    model, codes = model_of(prior), flat(prior, random_codes(prior, 2))
    (tmp_path / "entropy.safetensors").write_bytes(entropy.to_bytes(model))
    again = entropy.load(tmp_path / "entropy.safetensors")
    assert isinstance(again, Context)
    assert (again.sha256, again.entries, again.takes_previous) == (model.sha256, model.entries, True)
    assert same(*(all_tables(each, prior.grids, codes, codes) for each in (model, again)))


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("near_0", lambda a: None, "near_0 missing"),
        ("near_7", lambda a: np.zeros(1, np.int8), "near_7"),
        ("shifts", lambda a: a[:3], "shifts"),
        ("shifts", lambda a: np.array([200, 7, 6, 9], np.uint8), "shifts"),
        ("shifts", lambda a: np.array([8, 16, 6, 9], np.uint8), "may reach"),
        ("head_0", lambda a: a.astype(np.int16), "int16"),
        ("head_0", lambda a: a[:-1], "head"),
        ("head_bias_0", lambda a: np.full_like(a, LIMIT), "may reach"),
        ("bias_0", lambda a: np.full_like(a, -(2**31)), "may reach"),
        ("layers_0", lambda a: a[:, :1], "layers"),
        ("phases_0", lambda a: np.zeros_like(a), "do not fit"),
        ("phases_0", lambda a: a.ravel()[:2], "phases|axes|passes|near"),
        ("grid_0", lambda a: -a, "grid"),
        ("grid_0", lambda a: a + 1, "grid"),
        ("near_offsets_0", lambda a: a[:, 1:], "near|do not fit"),
    ],
)
def test_arrays_that_could_round_or_do_not_fit_are_refused(name: str, change: Any, said: str) -> None:
    prior = shaken(*FLAT)
    _, arrays = prior.entropy()
    check((5,), arrays)
    changed = change(arrays.get(name))
    rest = {key: value for key, value in arrays.items() if key != name}
    with pytest.raises(InputError, match=said):
        entropy.build("context", (5,), rest if changed is None else {**rest, name: changed})
    with pytest.raises(InputError, match=r"embedding .*rows=5"):
        entropy.build("context", (4,), arrays)


def test_exponentials_are_what_they_are_called() -> None:
    powers = exponentials()
    assert powers[0] == TOTAL
    assert powers[-1] == 0
    assert int((powers > 0).sum()) == 1110, "as docs/format.md says"
    assert (np.diff(powers) <= 0).all()
    assert np.abs(powers - TOTAL * np.exp(-np.arange(len(powers)) / 64)).max() <= 0.5000001


def test_exponentials_depend_on_no_setting_of_the_process() -> None:
    powers = exponentials()
    assert hashlib.sha256(powers.astype("<i8").tobytes()).hexdigest() == EXPONENTIALS
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP, Emin=0, Emax=9)):
        exponentials.cache_clear()
        assert np.array_equal(exponentials(), powers)


def test_bounds_are_those_under_which_the_prior_learns() -> None:
    assert (context_arrays.LIMIT, context_arrays.LARGEST_HIDDEN) == (whole.LIMIT, whole.LARGEST_HIDDEN)
    assert context_arrays.MOST_ENTRIES == prior_context.MOST_ENTRIES


def test_what_a_model_takes_in_memory_counts_what_codes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = shaken(*FLAT, previous=True)
    model = model_of(prior)
    assert model.numbers == (12 + 13) * 6 > max(model.entries) + 1
    assert entropy.build("uniform", (9, 300), {}).numbers == 301
    seen: list[int] = []
    tables = model.tables

    def watched(number: int, grids: Any, known: Integers, previous: Integers) -> NDArray[np.uint32]:
        seen.append(len(known))
        return tables(number, grids, known, previous)

    monkeypatch.setattr(model, "tables", watched)
    monkeypatch.setattr(coder, "AT_ONCE", 2 * model.numbers * 6)
    coder.compress(model, prior.grids, flat(prior, random_codes(prior, 8)), [1] * 8)
    assert max(seen) == 2


def test_a_codebook_too_large_for_exact_tables_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _, arrays = shaken(*FLAT).entropy()
    monkeypatch.setattr(context_arrays, "MOST_ENTRIES", 4)
    with pytest.raises(InputError, match="5 entries; at most 4"):
        check((5,), arrays)


def test_frequencies_follow_the_logits_and_none_is_zero() -> None:
    logits = np.array([[0, 64, 0], [-(10**7), 0, 10**7], [5, 5, 5]])
    wide = np.diff(cumulated(logits).astype(np.int64))
    e = np.exp(1)
    np.testing.assert_allclose(wide[0] / TOTAL, np.array([1, e, 1]) / (2 + e), atol=1e-6)
    assert wide[1].tolist() == [1, 1, TOTAL - 2]
    assert np.ptp(wide[2]) <= 1
    one = cumulated(np.zeros((2, 1), dtype=np.int64))
    assert one.tolist() == [[0, TOTAL]] * 2
