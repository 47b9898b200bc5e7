"""Every number of the pages' tables is that of a committed JSON."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tables

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_results(page, tmp_path):
    copy = tmp_path / "page.md"
    shutil.copy(page, copy)
    tables.write(copy, ROOT / "results")
    assert copy.read_text() == page.read_text()


def test_every_mark_of_a_page_has_a_table():
    source = (ROOT / "benchmarks" / "tables.py").read_text()
    for page in tables.PAGES:
        assert {name for name in re.findall(r"<!-- (\w+) -->", page.read_text()) if f'"{name}"' not in source} == set()


def test_a_changed_number_is_put_right(tmp_path):
    copy = tmp_path / "README.md"
    text = (ROOT / "README.md").read_text()
    if not (numbers := re.findall(r"\| `keras_f8_ema` \|.*?(0\.\d{4})", text)):
        pytest.skip("no results yet")
    copy.write_text(text.replace(numbers[0], "0.9999", 1))
    tables.write(copy, ROOT / "results")
    assert numbers[0] in copy.read_text()


BRAIN = ["brain_f16", "brain_f8", "brain_f4", *(f"brain_f8_short_{seed}" for seed in range(3))]


@pytest.mark.parametrize("name", ["keras_f8", "keras_f8_ema", "resnet_f4_narrow", "resnet_f4_narrow_ema", *BRAIN])
def test_results_say_what_they_depend_on(name):
    run, evaluation = stored(name)
    assert evaluation["data"]["fingerprint"] == run["data"]["splits"]["validate"]["fingerprint"]
    assert len(evaluation["per_subject"]) == evaluation["data"]["subjects"] == 35


@pytest.mark.parametrize("name", ["histogram", "pixelcnn", "dcgan", "dcgan_f4", "dcgan_described"])
def test_results_of_priors_say_what_they_depend_on(name):
    run, evaluation = stored(name)
    data = {split: facts["fingerprint"] for split, facts in run["data"]["splits"].items()}
    assert evaluation["data"]["fingerprint"] == data["validate"]
    assert evaluation["tokenizer"]["weights_sha256"] == run["tokenizer"]["weights_sha256"]
    tokenizer, _ = stored(run["tokenizer"]["preset"])
    assert tokenizer["weights_sha256"] == run["tokenizer"]["weights_sha256"]
    assert data["train"] == tokenizer["data"]["splits"]["train"]["fingerprint"], "no prior saw other subjects"
    if evaluation["bits"]:
        assert len(evaluation["bits"]["per_subject"]) == evaluation["data"]["subjects"] == 35
    assert len(evaluation["per_sample"]) == evaluation["samples"]["n"] == 64


def stored(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The run and the evaluation of a result."""
    path = ROOT / "results" / f"{name}.json"
    if not path.exists():
        pytest.skip("no results yet")
    result = json.loads(path.read_text())
    run, evaluation = result["run"], result["evaluation"]
    assert evaluation["model"]["weights_sha256"] == run["weights_sha256"]
    assert run["hardware"]["cpu"]
    assert run["wall_time_s"] > 0 or run["preset"] == "histogram", "a table of counts takes no time"
    assert run["command"].startswith("brainvq train")
    return run, evaluation
