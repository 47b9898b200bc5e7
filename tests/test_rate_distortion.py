"""The arithmetic behind docs/rate-distortion.md: bits for equal quality, nothing beyond what was measured, headers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import rate_distortion
from benchmarks.rate_distortion import Needed, best, bits_for, compare, presets, quality_at, spread, table
from brainvq.errors import InputError

ROOT = Path(__file__).parents[1]
BITS, QUALITY = [0.1, 0.2, 0.4], [0.8, 0.9, 0.95]


def test_bits_between_two_settings_are_linear_in_their_logarithm() -> None:
    found = bits_for(BITS, QUALITY, 0.85)
    assert found.told == "measured"
    assert found.bits == pytest.approx(math.sqrt(0.1 * 0.2))
    assert bits_for(BITS, QUALITY, 0.95).bits == pytest.approx(0.4)


def test_the_order_of_settings_does_not_matter() -> None:
    assert bits_for(BITS[::-1], QUALITY[::-1], 0.93) == bits_for(BITS, QUALITY, 0.93)


def test_nothing_is_extrapolated() -> None:
    assert bits_for(BITS, QUALITY, 0.7) == Needed(pytest.approx(0.1), "below its lowest")
    assert bits_for(BITS, QUALITY, 0.96) == Needed(None, "never")
    assert quality_at(BITS, QUALITY, 0.09) is None
    assert quality_at(BITS, QUALITY, 0.41) is None
    assert quality_at(BITS, QUALITY, math.sqrt(0.02)) == pytest.approx(0.85)


def test_where_quality_falls_with_bits_the_first_crossing_counts() -> None:
    found = bits_for([0.1, 0.2, 0.3, 0.4], [0.8, 0.9, 0.85, 0.95], 0.9)
    assert found.bits == pytest.approx(0.2)


def test_the_best_codec_needs_the_fewest_bits() -> None:
    needed = {"a": Needed(0.2, "measured"), "b": Needed(0.1, "below its lowest"), "c": Needed(None, "never")}
    assert best(needed) == "b"
    assert best({"c": needed["c"]}) is None


def codec(name: str, factor: float, *, sequence: bool = False) -> dict:
    """Three settings, the same for two subjects."""

    def row(setting: float, bits: float, quality: float) -> dict:
        values = {"payload_bits": bits * factor, "ssim_foreground": quality, "ssim": quality, "psnr": 40 * quality}
        values["file_bits"] = values["payload_bits"] + 0.03
        return {
            "setting": setting,
            "measures": {of: {"mean": value, "low": value, "high": value} for of, value in values.items()},
            "per_subject": {subject: {"images": 2, **values} for subject in ("a", "b")},
            "cpu_seconds_a_slice": 0.1,
        }

    rows = [row(n, *each) for n, each in enumerate(zip(BITS, QUALITY, strict=True))]
    words = {"quality": "quality", "options": "", "library": "", "sequence": sequence, "settings": rows}
    return {"name": name, "label": name, **words}


def preset(quality: float) -> dict:
    measure = {"mean": quality, "low": quality, "high": quality}
    return {
        "name": "ours",
        "bits": {"nominal": 0.2, "entropy": 0.1, "held_out": 0.12},
        "measures": {"ssim": measure, "ssim_foreground": measure, "psnr": {"mean": 30.0}},
        "per_subject": {subject: {"images": 2, "ssim_foreground": quality} for subject in ("a", "b")},
    }


def result(quality: float) -> dict:
    codecs = [codec("avif", 1), codec("webp", 2), codec("av1_sequence", 0.1, sequence=True)]
    return {
        "codecs": codecs,
        "presets": [preset(quality)],
        "comparisons": [compare(preset(quality), codecs)],
        "data": {"images": 4, "split": "validate", "subjects": 2},
        "hardware": {"cpu": "CPU"},
        "cpu_seconds_coding": 60,
    }


def test_sequences_are_no_picture_codecs() -> None:
    compared = result(0.85)["comparisons"][0]
    bits = math.sqrt(0.1 * 0.2)
    assert compared["best_picture_codec"] == "avif"
    assert compared["needed"]["av1_sequence"]["bits"] == pytest.approx(bits / 10)
    assert compared["intervals"]["avif"] == pytest.approx([bits, bits]), "both subjects are alike"
    assert set(compared["intervals"]) == {"avif", "av1_sequence"}


def test_the_table_tells_losses_and_what_was_not_measured() -> None:
    told = table(result(0.85))
    assert "0.1414 [0.1414, 0.1414] | 0.71, 1.41, 1.18 |" in told
    assert "not fewer: `ours`. With held-out entropy, fewer bits than the best picture codec: `ours`" in told
    assert "below its lowest, 0.1000 | < 0.50, < 1.00, < 0.83 |" in table(result(0.7))
    assert "| none reaches it | never | - | never | - |" in table(result(0.96))


def test_evaluations_of_other_slices_are_refused(tmp_path: Path) -> None:
    (tmp_path / "keras_f8.json").write_text(json.dumps({"evaluation": {"data": {"fingerprint": "other"}}}))
    with pytest.raises(InputError, match="Evaluate it again"):
        presets(tmp_path, "this")


def test_a_quick_look_spreads_over_the_slices() -> None:
    assert spread(1120, None) == list(range(1120))
    found = spread(1120, 24)
    assert (len(set(found)), found[0], found[-1]) == (24, 0, 1119)


def test_payloads_leave_headers_out() -> None:
    pytest.importorskip("imagecodecs")
    from benchmarks.codecs import CODECS

    rows, columns = np.mgrid[:64, :64]
    slices = np.stack([(128 + 100 * np.sin(rows / (n + 3)) * np.cos(columns / 5)).astype(np.uint8) for n in range(3)])
    for each in CODECS:
        coded = each.run(slices, each.settings[-1])
        assert coded.slices.shape == slices.shape, each.name
        assert np.abs(coded.slices.astype(float) - slices).mean() < 12, each.name
        assert (coded.payload <= coded.file).all(), each.name
        assert (coded.payload > 0).all(), each.name


def test_the_page_is_that_of_the_result(tmp_path: Path) -> None:
    path = ROOT / "results" / rate_distortion.STORED
    if not path.exists():
        pytest.skip("no results yet")
    copy = tmp_path / "page.md"
    copy.write_text(rate_distortion.PAGE.read_text())
    stored = json.loads(path.read_text())
    rate_distortion.write(copy, stored)
    assert copy.read_text() == rate_distortion.PAGE.read_text()
    assert stored["data"]["images"] == 1120
    for each in stored["presets"]:
        evaluation = json.loads((ROOT / "results" / f"{each['name']}.json").read_text())["evaluation"]
        assert each["weights_sha256"] == evaluation["model"]["weights_sha256"], (
            "python -m benchmarks.rate_distortion --presets"
        )
