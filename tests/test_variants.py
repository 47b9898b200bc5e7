"""Comparisons of variants are fair, go on where they were cut off, and their table says what was measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import variants
from benchmarks.ablations import ABLATIONS
from benchmarks.quantizers import QUANTIZERS
from brainvq.config import kinds, to_json

ROOT = Path(__file__).parents[1]


def test_every_quantizer_takes_part() -> None:
    told = {to_json(QUANTIZERS.experiment(name))["tokenizer"]["quantizer"]["kind"] for name in QUANTIZERS.variants}
    assert told == set(kinds("quantizers"))


@pytest.mark.parametrize("name", QUANTIZERS.variants)
def test_all_have_the_same_bits_and_the_same_network(name: str) -> None:
    ours, first = (QUANTIZERS.experiment(each, steps=7) for each in (name, "vq"))
    assert variants.bits(ours.tokenizer.build().spec) == 7
    values, others = to_json(ours), to_json(first)
    for each in (values, others):
        each["tokenizer"].pop("quantizer")
        each["tokenizer"]["network"].pop("dim")
    assert values == others
    assert values["train"]["steps"] == 7


@pytest.mark.parametrize("name", list(ABLATIONS.variants)[1:])
def test_an_ablation_changes_one_setting(name: str) -> None:
    assert len(ABLATIONS.variants[name]) == 1
    assert ABLATIONS.experiment(name) != ABLATIONS.experiment(ABLATIONS.first)


def test_what_is_done_is_not_done_again(
    slices_folder: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(QUANTIZERS, variants={name: QUANTIZERS.variants[name] for name in ("vq", "residual")})
    monkeypatch.setattr(variants, "REHEARSAL", 10)
    first = variants.measure(few, str(slices_folder), tmp_path, minutes=0.005)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = variants.measure(few, str(slices_folder), tmp_path, minutes=0.005)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == times
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(first))
    names = [variant["name"] for variant in first["variants"]]
    assert names == ["vq", "residual"]
    assert first["variants"][0]["against_first"]["ssim"]["mean"] == 0
    rows = variants.table(first).splitlines()
    assert {row.split("|")[1].strip() for row in rows[2:4]} == {"vq", "residual"}
    assert all(row.count("|") == rows[0].count("|") for row in rows[1:4])
