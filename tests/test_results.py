"""Every number of the README's tables is that of a committed JSON."""

import json
import re
import shutil
from pathlib import Path

import pytest

from benchmarks import tables

ROOT = Path(__file__).parents[1]


def test_the_tables_are_those_of_the_results(tmp_path):
    copy = tmp_path / "README.md"
    shutil.copy(ROOT / "README.md", copy)
    tables.write(copy, ROOT / "results")
    assert copy.read_text() == (ROOT / "README.md").read_text()


def test_a_changed_number_is_put_right(tmp_path):
    copy = tmp_path / "README.md"
    text = (ROOT / "README.md").read_text()
    if not (numbers := re.findall(r"\| `keras_f8_ema` \|.*?(0\.\d{4})", text)):
        pytest.skip("no results yet")
    copy.write_text(text.replace(numbers[0], "0.9999", 1))
    tables.write(copy, ROOT / "results")
    assert numbers[0] in copy.read_text()


@pytest.mark.parametrize("name", ["keras_f8", "keras_f8_ema"])
def test_results_say_what_they_depend_on(name):
    path = ROOT / "results" / f"{name}.json"
    if not path.exists():
        pytest.skip("no results yet")
    result = json.loads(path.read_text())
    run, evaluation = result["run"], result["evaluation"]
    assert evaluation["model"]["weights_sha256"] == run["weights_sha256"]
    assert evaluation["data"]["fingerprint"] == run["data"]["splits"]["validate"]["fingerprint"]
    assert len(evaluation["per_subject"]) == evaluation["data"]["subjects"] == 35
    assert run["hardware"]["cpu"]
    assert run["wall_time_s"] > 0
    assert run["command"].startswith("brainvq train")
