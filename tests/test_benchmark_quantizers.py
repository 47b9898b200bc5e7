"""The comparison of quantizers is fair, goes on where it was cut off, and its table says what was measured."""

import json
from pathlib import Path

import pytest

from benchmarks import quantizers
from brainvq.config import kinds, to_json

ROOT = Path(__file__).parents[1]


def test_every_quantizer_takes_part() -> None:
    told = {to_json(quantizers.experiment_of(name))["tokenizer"]["quantizer"]["kind"] for name in quantizers.QUANTIZERS}
    assert told == set(kinds("quantizers"))


@pytest.mark.parametrize("name", quantizers.QUANTIZERS)
def test_all_have_the_same_bits_and_the_same_network(name: str) -> None:
    ours, first = (quantizers.experiment_of(each, steps=7) for each in (name, "vq"))
    assert quantizers.bits(ours.tokenizer.build().spec) == 7
    values, others = to_json(ours), to_json(first)
    for each in (values, others):
        each["tokenizer"].pop("quantizer")
        each["tokenizer"]["network"].pop("dim")
    assert values == others
    assert values["train"]["steps"] == 7


def test_what_is_done_is_not_done_again(
    slices_folder: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizers, "QUANTIZERS", {name: quantizers.QUANTIZERS[name] for name in ("vq", "residual")})
    monkeypatch.setattr(quantizers, "REHEARSAL", 10)
    first = quantizers.measure(str(slices_folder), tmp_path, minutes=0.005)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = quantizers.measure(str(slices_folder), tmp_path, minutes=0.005)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == times
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(first))
    names = [side["name"] for side in first["quantizers"]]
    assert names == ["vq", "residual"]
    assert first["quantizers"][0]["against_vq"]["ssim"]["mean"] == 0
    rows = quantizers.table(first).splitlines()
    assert {row.split("|")[1].strip() for row in rows[2:4]} == {"`vq`", "`residual`"}
    assert all(row.count("|") == rows[0].count("|") for row in rows[1:4])


def test_the_page_has_a_place_for_the_table() -> None:
    page = (ROOT / "docs" / "quantizers.md").read_text()
    assert page.count("<!-- QUANTIZERS -->\n") == page.count("<!-- /QUANTIZERS -->\n") == 1
