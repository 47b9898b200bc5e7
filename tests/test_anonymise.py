"""Subjects under other names: the same for the same key, nothing of the old name, nothing else changed."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from brainvq.data.anonymise import alias, anonymised, key_of
from brainvq.data.sources import open_source
from brainvq.errors import InputError


def test_a_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = key_of(path)
    assert len(key) >= 32
    assert key_of(path) == key != key_of(tmp_path / "other")
    assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    (tmp_path / "short").write_text("secret")
    with pytest.raises(InputError, match="6 bytes"):
        key_of(tmp_path / "short")
    with pytest.raises(InputError, match="cannot be read or made"):
        key_of(tmp_path / "missing" / "key")


def test_aliases_depend_on_key_and_subject_alone() -> None:
    one, two = b"k" * 16, b"l" * 16
    assert alias("sub-1", one) == alias("sub-1", one)
    assert len({alias("sub-1", one), alias("sub-2", one), alias("sub-1", two)}) == 3


def test_the_data_stay_the_same(slices_folder: Path) -> None:
    source = open_source(slices_folder, split="train")
    hidden = anonymised(source, b"k" * 16)
    assert hidden.fingerprint == source.fingerprint
    assert [item.path for item in hidden.items] == [item.path for item in source.items]
    assert len(hidden.subjects) == len(source.subjects)
    assert not set(hidden.subjects) & set(source.subjects)


def test_an_evaluation_tells_no_subject(
    slices_folder: Path, tmp_path: Path, cache: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    run, key = tmp_path / "run", tmp_path / "key"
    small = ("--set", "train.steps=1", "--set", "train.batch_size=4")
    code, _, err = call("train", "keras_f8_ema", "--data", slices_folder, "--out", run, *small)
    assert code == 0, err
    code, _, err = call("evaluate", run, "--data", slices_folder, "--anonymise", key)
    assert code == 0, err
    found = json.loads((run / "evaluation" / "validate.json").read_text())["per_subject"]
    assert set(found) == {alias(subject, key_of(key)) for subject in ("401", "402")}
    written = [path.read_bytes() for path in run.rglob("*") if path.suffix in (".json", ".jsonl", ".html")]
    assert not any(name in text for text in written for name in (b'"401"', b"case_", key_of(key)))
    code, _, err = call("evaluate", run, "--data", slices_folder, "--anonymise", run / "key")
    assert code == 2
    assert "inside the run" in err
