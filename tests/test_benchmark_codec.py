"""The benchmark of whole files beside its timing: which subjects, which setting is like ours, what is shipped."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import codec_tables
from benchmarks.codec import Head, Way, heads, nearest, needed, quality, saved, speeds
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


def of_subjects(bits: float, likeness: float) -> dict[str, dict[str, float]]:
    """Two subjects, of which the second has twice the bits."""
    names = {"a": 2 / 3, "b": 4 / 3}
    of = dict.fromkeys(names, ("file_bits", "payload_bits"))
    return {
        name: {"images": 2, "ssim_foreground": likeness, **dict.fromkeys(of[name], share * bits)}
        for name, share in names.items()
    }


def test_what_is_saved_is_a_share_of_the_others_bits_with_subjects_drawn_for_both() -> None:
    theirs = [{"per_subject": of_subjects(bits, likeness)} for bits, likeness in ((0.1, 0.8), (0.4, 0.9))]
    found = saved(of_subjects(0.05, 0.85), theirs, "file_bits")
    assert found is not None
    assert found["share"] == pytest.approx(0.75), "the others need 0.2"
    assert found["low"] == found["high"] == pytest.approx(0.75), "whatever subjects are drawn"
    more = saved(of_subjects(0.3, 0.85), theirs, "payload_bits")
    assert more is not None
    assert more["share"] == pytest.approx(-0.5)
    assert saved(of_subjects(0.05, 0.95), theirs, "file_bits") is None


def test_the_tables_tell_misses_and_whose_files_they_are() -> None:
    interval = {"mean": 0.05, "low": 0.04, "high": 0.06, "images": 64}
    rate = {"compress_slices_a_second": 20.0, "decompress_slices_a_second": 30.0}

    def like(bits: float | None, told: str) -> dict[str, Any]:
        share = {"share": 0.5, "low": None, "high": None}
        needs = {"bits": bits, "told": told}
        return {"for_the_same": needs, "saved": share if bits else None, "saved_of_payload": None, **rate}

    others = {
        "avif": like(0.1, "measured"),
        "jpeg_xl": like(0.05, "below its lowest"),
        "jpeg_2000": like(None, "never"),
    }
    measures = {"file_bits": interval, "ssim_foreground": {"mean": 0.9}}
    row = {"name": "context_previous_f8", "measures": measures, "nominal_bits": 0.1, **rate}
    rows = [
        {"name": name, "file_bits": {**interval, "mean": bits}, **rate}
        for name, bits in (("context_f8", 1.5), ("context_f8, a file a slice", 2.2))
    ]
    rows.append(
        {"name": "jpeg_xl", "label": "JPEG XL", "options": "effort 7", "file_bits": interval | {"mean": 2}, **rate}
    )
    found = {
        "ours": [{**row, "like": {**others, "av1_sequence": like(None, "never")}}],
        "lossless": {"rows": rows, "subjects": ["a", "b"]},
        "data": {"images": 64, "split": "validate", "subjects": 2},
        "hardware": {"threads": 2, "cpu": "CPU"},
    }
    text = codec_tables.table(found)
    assert "| `brain_f8`, context with the slice before | 0.0500 [0.0400, 0.0600] | 50 % |" in text
    assert "JPEG XL, below its lowest, 0.0500 | 50 %, - | none reaches it | - |" in text
    told = codec_tables.lossless(found)
    assert "**`brain_f8`, context** | 1.5000 [0.0400, 0.0600] | -25.0 % |" in told
    assert "**`brain_f8`, context, a file a slice** | 2.2000 [0.0400, 0.0600] | +10.0 % |" in told
    assert "| JPEG XL (effort 7) | 2.0000" in told


def test_codecs_without_loss_lose_nothing() -> None:
    pytest.importorskip("imagecodecs")
    from benchmarks import codecs

    slices = np.random.default_rng(0).integers(0, 255, (3, 40, 56), dtype=np.uint8)
    for each in codecs.LOSSLESS:
        assert np.array_equal(each.slice(each.file(slices[0])), slices[0]), each.name
    assert np.array_equal(codecs.avif_slices(codecs.avif_file(slices, codecs.EXACT, codecs.SEQUENCE_TUNE)), slices)
