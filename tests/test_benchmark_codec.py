"""The benchmark of whole files beside its timing: which subjects, which setting is like ours, what is shipped."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.codec import Head, Way, heads, nearest, needed, quality, speeds
from benchmarks.results import ENTROPIES, SHIPPED, TRAININGS
from benchmarks.ship import ENTROPY, ship_entropy
from brainvq import models
from brainvq.codec import entropy
from brainvq.config import override
from brainvq.data.scan import Scan
from brainvq.errors import InputError
from brainvq.presets import preset
from brainvq.training.experiment import TokenizerExperiment, train
from brainvq.training.prior_experiment import PriorExperiment, train_prior


def raw(head: Head) -> list[bytes]:
    return [scan.voxels.tobytes() for scan in head.scans]


def head_of(subject: str, count: int = 2) -> Head:
    pixels = np.random.default_rng(0).integers(0, 255, (count, 64, 64), dtype=np.uint8)
    return Head(subject, [Scan(each, None, subject, f"{subject}_{n}") for n, each in enumerate(pixels)])


RAW = Way("raw", None, raw, lambda files: np.stack([np.frombuffer(each, np.uint8).reshape(64, 64) for each in files]))


def row(setting: float, bits: float, likeness: float) -> dict[str, Any]:
    return {"setting": setting, "measures": {"file_bits": {"mean": bits}, "ssim_foreground": {"mean": likeness}}}


def test_subjects_are_whole_and_spread() -> None:
    subjects = [name for name in "abcde" for _ in range(3)]
    cache: Any = SimpleNamespace(
        subjects=subjects, names=[str(n) for n in range(15)], images=np.zeros((15, 4, 4), np.uint8)
    )
    found = heads(cache, 3)
    assert [head.subject for head in found] == ["a", "c", "e"]
    assert [scan.name for scan in found[1].scans] == ["6", "7", "8"]
    assert len(heads(cache, 99)) == 5


def test_bits_are_those_of_the_files() -> None:
    found = quality(RAW, [head_of("a"), head_of("b")])["measures"]
    assert found["file_bits"]["mean"] == 8
    assert found["ssim"]["mean"] == 1


def test_the_setting_that_is_like_ours_is_found() -> None:
    rows = [row(1, 0.1, 0.7), row(2, 0.2, 0.85), row(3, 0.4, 0.95)]
    assert nearest(rows, 0.88)["setting"] == 2
    assert needed(rows, 0.85) == {"bits": pytest.approx(0.2), "told": "measured"}
    assert needed(rows, 0.99)["told"] == "never"


def test_all_take_turns() -> None:
    turns: list[str] = []
    ways = [Way(name, None, lambda head, name=name: turns.append(name) or raw(head), RAW.read) for name in "ab"]  # type: ignore[misc,func-returns-value]
    found = speeds(ways, head_of("x"), 3)
    assert turns == ["a", "b"] * 3
    assert all(rate > 0 for each in found for rate in each.values())


def test_entropy_models_that_are_shipped_are_trained_on_their_tokenizers() -> None:
    trained = {each.run: each for each in TRAININGS}
    for name, dest in ENTROPIES.items():
        assert trained[name].preset == "context_previous"
        assert Path(dest).name == trained[name].tokenizer
        assert dest in SHIPPED.values()


def test_an_entropy_model_is_shipped_beside_its_own_tokenizer(slices_folder: Path, cache: Path, tmp_path: Path) -> None:
    every = ("train.steps=1", "train.batch_size=4", "train.precision=fp32")
    small = ("tokenizer.network.widths=[4,6]", "tokenizer.network.dim=5", "tokenizer.quantizer.entries=16")
    tokenizers = []
    for seed in range(2):
        experiment = override(preset("keras_f8_ema"), [*every, *small, f"train.seed={seed}"])
        assert isinstance(experiment, TokenizerExperiment)
        tokenizers.append(train(experiment, slices_folder, tmp_path / f"tokenizer-{seed}"))
    experiment = override(preset("context_previous"), [*every, "prior.width=8", "prior.dim=4", "variants=1"])
    assert isinstance(experiment, PriorExperiment)
    prior = train_prior(experiment, tokenizers[0], slices_folder, tmp_path / "prior")
    dest = shutil.copytree(tokenizers[0], tmp_path / "shipped")
    assert ship_entropy(prior, dest) == dest / ENTROPY
    from brainvq.archive.codec import load_codec

    beside, whole = load_codec(dest).entropy, load_codec(prior).entropy
    assert beside.sha256 == whole.sha256
    assert beside.takes_previous
    assert ship_entropy(prior, dest) == dest / ENTROPY, "the same again"
    other = entropy.to_bytes(entropy.build("uniform", beside.entries, {}))
    (dest / ENTROPY).write_bytes(other)
    with pytest.raises(InputError, match=rf"files may have been made with.*{whole.sha256[:12]}"):
        ship_entropy(prior, dest)
    assert (dest / ENTROPY).read_bytes() == other
    with pytest.raises(InputError, match="was trained on the codes of"):
        ship_entropy(prior, tokenizers[1])
    assert json.loads((dest / "config.json").read_text())["weights_sha256"] == models.open_model(dest).weights_sha256
