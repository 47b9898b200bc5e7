"""Entropy models: exact integer tables, the same after a way through a file, on any grid."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from brainvq.codec import entropy
from brainvq.codec.entropy import TOTAL, EntropyModel
from brainvq.codec.position import Position, frequencies, onto
from brainvq.codec.uniform import Uniform
from brainvq.codes import CodeSpec
from brainvq.errors import InputError
from brainvq.priors import dcgan
from brainvq.priors.histogram import Config
from brainvq.priors.whole_weights import LARGEST, whole_weights

SPEC = CodeSpec((9, 4), ((8, 8), (4, 4)))
SIZE = (24, 32)
WEIGHTS = [
    (np.arange(12 * 9) * 37 % 101).astype(np.uint16).reshape(3, 4, 9),
    (np.arange(48 * 4) * 41 % 103).astype(np.uint16).reshape(6, 8, 4),
]
MODELS: list[EntropyModel] = [Uniform(SPEC.entries), Position(SPEC.entries, WEIGHTS)]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
@pytest.mark.parametrize("size", [SIZE, (8, 8), (40, 16)])
def test_every_code_has_a_table_that_a_coder_can_use(model: EntropyModel, size: tuple[int, int]) -> None:
    grids = SPEC.grids(size)
    length = sum(math.prod(grid) for grid in grids)
    passes = model.passes(grids)
    assert sorted(np.concatenate(passes).tolist()) == list(range(length))
    nothing = np.full((3, length), -1)
    for number, codes in enumerate(passes):
        table = model.tables(number, grids, nothing, nothing)
        level = int(codes[0] >= math.prod(grids[0]))
        assert all((code >= math.prod(grids[0])) == level for code in codes), "a pass is of one level"
        assert table.dtype == np.uint32
        assert np.broadcast_to(table, (3, len(codes), SPEC.entries[level] + 1)).shape[1] == len(codes)
        assert (table[..., 0] == 0).all()
        assert (table[..., -1] == TOTAL).all()
        assert (np.diff(table.astype(np.int64)) > 0).all()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_a_model_comes_back_from_a_file_with_its_tables_and_its_hash(model: EntropyModel, tmp_path: Path) -> None:
    (tmp_path / "entropy.safetensors").write_bytes(entropy.to_bytes(model))
    again = entropy.load(tmp_path / "entropy.safetensors")
    assert (again.kind, again.entries, again.sha256) == (model.kind, model.entries, model.sha256)
    for name, array in model.arrays().items():
        assert np.array_equal(again.arrays()[name], array)
        assert again.arrays()[name].dtype == array.dtype


def test_the_hash_is_of_numbers_not_of_how_they_lie_in_memory() -> None:
    turned = [np.asfortranarray(weights).astype(">u2") for weights in WEIGHTS]
    assert Position(SPEC.entries, turned).sha256 == MODELS[1].sha256
    other = [WEIGHTS[0], WEIGHTS[1] + np.uint16(1)]
    assert len({Position(SPEC.entries, other).sha256, Uniform((9, 5)).sha256, *(one.sha256 for one in MODELS)}) == 4


def test_the_hash_is_what_the_document_says() -> None:
    two = np.array([[1, 2]], np.uint16)
    told = b'["position", [2]]\n["weights_0", "uint16", [1, 2]]\n\x01\x00\x02\x00'
    assert entropy.canonical("position", (2,), {"weights_0": two}) == told


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "weights_0"),
        ({"weights_0": WEIGHTS[0]}, "weights_1"),
        ({"weights_0": WEIGHTS[0], "weights_1": WEIGHTS[0]}, "4"),
        ({"weights_0": WEIGHTS[0], "weights_1": WEIGHTS[1].astype(np.int64)}, "int64"),
        ({"weights_0": WEIGHTS[0], "weights_1": WEIGHTS[1].astype(np.float32)}, "float32"),
        ({"weights_0": WEIGHTS[0], "weights_1": 0 * WEIGHTS[1]}, "zero"),
        ({"weights_0": WEIGHTS[0][:0], "weights_1": WEIGHTS[1]}, "shape"),
    ],
)
def test_arrays_that_make_no_tables_are_refused(arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(InputError, match=said):
        entropy.build("position", SPEC.entries, arrays)


def test_other_kinds_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="arrays"):
        entropy.build("uniform", SPEC.entries, {"x": WEIGHTS[0]})
    with pytest.raises(InputError, match="kind 'os'"):
        entropy.build("os", SPEC.entries, {})
    for entries in ((), (0,), (1 << 21,)):
        with pytest.raises(InputError, match="entries"):
            Uniform(entries)
    path, sound = tmp_path / "entropy.safetensors", entropy.to_bytes(MODELS[1])
    for data in (b"", sound[:40], sound[:-1], b"\xff" * 80, sound.replace(b"position", b"positiom"), b"\2" + sound[1:]):
        path.write_bytes(data)
        with pytest.raises(InputError, match=str(path)):
            entropy.load(path)
    with pytest.raises(InputError, match="no entropy model"):
        entropy.load(tmp_path / "none")


def test_positions_are_stretched_over_another_grid() -> None:
    assert onto((3, 4), (3, 4), np.arange(12)).tolist() == list(range(12))
    assert onto((2,), (4,), np.arange(4)).tolist() == [0, 0, 1, 1]
    assert onto((4,), (2,), np.arange(2)).tolist() == [1, 3]
    assert onto((1, 3), (2, 3), np.arange(6)).tolist() == [0, 1, 2, 0, 1, 2]


@settings(max_examples=100, deadline=None)
@given(arrays_of.arrays(np.uint16, st.tuples(st.integers(1, 3), st.integers(1, 300))))
def test_frequencies_are_shares_of_the_weights(weights: np.ndarray) -> None:
    weights[:, 0] += weights.sum(1) == 0
    found = np.diff(frequencies(weights).astype(np.int64))
    assert (found.sum(1) == TOTAL).all()
    assert found.min() >= 1
    exact = weights / weights.sum(1, dtype=np.int64)[:, None] * (TOTAL - weights.shape[1]) + 1
    assert np.abs(found - exact).max() <= 1


def test_whole_weights_are_those_of_exp() -> None:
    logs = np.log(np.random.default_rng(0).dirichlet(np.full(40, 0.1), 500) + 1e-12).astype(np.float32)
    exact = np.exp(logs.astype(np.float64) - logs.max(1, keepdims=True)) * LARGEST
    found = whole_weights(logs)
    assert (found.max(1) == LARGEST).all()
    assert (found >= 1).all()
    assert np.abs(found - np.maximum(exact, 1)).max() < 0.51
    assert whole_weights(np.float32([[0, -1e30, -104, -np.float32(np.log(2))]])).tolist() == [[65535, 1, 1, 32768]]


def test_the_histogram_prior_gives_its_tables() -> None:
    prior = Config().build(SPEC, SIZE)
    codes = tuple(
        torch.randint(entries, (50, *grid), generator=torch.Generator().manual_seed(0)) ** 2 % entries
        for entries, grid in zip(SPEC.entries, prior.grids, strict=True)
    )
    prior.start([codes], [torch.arange(n) for n in SPEC.entries])
    found = prior.entropy()
    assert found is not None
    model = entropy.build(found[0], SPEC.entries, found[1])
    flat = SPEC.flatten(codes).numpy()
    bits = 0.0
    for number, places in enumerate(model.passes(prior.grids)):
        table = np.diff(model.tables(number, prior.grids, flat, flat).astype(np.int64))[0]
        bits -= np.log2(table[np.arange(len(places)), flat[:, places]] / TOTAL).sum()
    assert bits / flat.size == pytest.approx(float(prior.bound(codes).mean()), abs=1e-4)
    assert json.dumps(sorted(found[1])) == '["weights_0", "weights_1"]'


def test_a_prior_of_another_kind_gives_none() -> None:
    assert dcgan.Config().build(CodeSpec((16,), ((8, 8),)), (128, 128)).entropy() is None
