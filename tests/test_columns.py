"""What is known of images beside their pixels: numbers of slices, tables of subjects, and what a prior is told."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from brainvq.data.columns import slice_numbers, subject_columns
from brainvq.errors import InputError
from brainvq.priors.conditions import Categorical, Numeric
from brainvq.training.encoded import EncodedSplit
from brainvq.training.labelled import (
    Columns,
    ConditionsConfig,
    LabelledSplit,
    conditions_of,
    doubtful,
    read_columns,
    values_of,
)

TABLE = "subject,age,sex,note\n01,61.5,F,x\n02,,M,y\n03,80,n/a,z\n"


def written(folder: Path, text: str, name: str = "subjects.csv") -> Path:
    (folder / name).write_text(text)
    return folder


def test_slices_are_numbered_by_their_names() -> None:
    names = ["case_001_slice_0.nii.png", "a/case_7_slice_12.png", "sub-3/t1.nii.gz:45", "x_003.tiff"]
    assert slice_numbers(names) == ["0", "12", "45", "3"]
    with pytest.raises(InputError, match=r"^b\.png: no number of a slice"):
        slice_numbers(["1.png", "b.png"])


def test_rows_are_found_by_subject(tmp_path: Path) -> None:
    found = subject_columns(written(tmp_path, TABLE), ["02", "01", "01"], ["age", "sex"], None)
    assert found == {"age": [None, "61.5", "61.5"], "sex": ["M", "F", "F"]}
    (tmp_path / "split").mkdir()
    assert subject_columns(tmp_path / "split", ["03"], ["sex"], None) == {"sex": [None]}
    bids = "participant_id\tage\nsub-01\t33\nsub-02\t44\n"
    other = written(tmp_path, bids, "people.tsv")
    assert subject_columns(other, ["02", "sub-01"], ["age"], "people.tsv") == {"age": ["44", "33"]}


@pytest.mark.parametrize(
    ("text", "columns", "said"),
    [
        (None, ["age"], r"no table of subjects \(subjects\.csv or participants\.tsv\)"),
        (TABLE, ["agee"], r"no column 'agee'.*age.*Choose among slice, age, sex, note"),
        (TABLE, ["subject"], "no column 'subject'"),
        (TABLE.replace("03,", "04,"), ["age"], "1 subjects with images have no row: 03"),
        (TABLE.replace("03,", "02,"), ["age"], "1 subjects come more than once: 02"),
        (TABLE + "05,1\n", ["age"], "a row has 2 cells and the header 4"),
        (TABLE.replace("note", "age"), ["age"], "'age' comes twice"),
        (TABLE.replace("subject", "who"), ["age"], "no column subject or participant_id among who, age"),
        ("", ["age"], "is no table"),
        ("\0" * 10 + "\n1", ["age"], "no column subject"),
    ],
)
def test_a_table_that_does_not_fit_is_told(tmp_path: Path, text: str | None, columns: list[str], said: str) -> None:
    if text is not None:
        written(tmp_path, text)
    with pytest.raises(InputError, match=said):
        subject_columns(tmp_path, ["01", "02", "03"], columns, None)


def test_a_table_lies_with_the_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a file name is expected"):
        subject_columns(tmp_path, ["01"], ["age"], "../elsewhere.csv")


def cache_of(names: list[str], subjects: list[str]) -> Any:
    return cast("Any", SimpleNamespace(names=names, subjects=subjects))


def test_columns_become_conditions(tmp_path: Path) -> None:
    config = ConditionsConfig(columns=("sex", "slice", "age"))
    cache = cache_of(
        [f"case_{s}_slice_{n}.png" for s in ("01", "02", "03") for n in (4, 5)], ["01"] * 2 + ["02"] * 2 + ["03"] * 2
    )
    columns = read_columns(config, written(tmp_path, TABLE), cache)
    conditions = conditions_of(columns)
    assert conditions == (
        Categorical(name="sex", values=("F", "M")),
        Numeric(name="slice", low=4, high=5, whole=True),
        Numeric(name="age", low=61.5, high=80),
    )
    values = values_of(columns, conditions)
    assert values.shape == (6, 3)
    assert values[:, 1].tolist() == [0, 1] * 3
    assert values[:4, 0].tolist() == [0, 0, 1, 1]
    assert values[4:, 0].isnan().all()
    assert values[2:4, 2].isnan().all()
    held_out = {"sex": ["X"], "slice": ["9"], "age": ["70.75"]}
    assert values_of(held_out, conditions)[0].isnan().tolist() == [True, True, False]  # never seen: unknown
    assert values_of({}, ()).shape[1] == 0


def test_numbers_with_a_slip_among_them_are_told() -> None:
    columns: Columns = {"age": ["50", "61", "x", None], "sex": ["F", "M", "F", "M"], "visit": ["1", "2", "2b", "1b"]}
    (line,) = doubtful(columns)
    assert "'age'" in line
    assert "'x'" in line
    assert not doubtful({"age": ["50", "61", None]})
    with pytest.raises(InputError, match="holds numbers, and '6l', which is none"):
        conditions_of({"age": [*(str(n) for n in range(30, 70)), "6l"]})


def test_names_and_remarks_are_no_conditions() -> None:
    with pytest.raises(InputError, match="40 different texts; a condition has at most 32"):
        conditions_of({"note": [f"text {n}" for n in range(40)]})
    with pytest.raises(InputError, match="'age' is empty"):
        conditions_of({"age": [None, None]})


@pytest.mark.parametrize(
    "one",
    [
        Numeric(name="n", low=3, high=7, whole=True),
        Numeric(name="n", low=0.1, high=0.7),
        Categorical(name="n", values=("a", "b", "c")),
    ],
    ids=["whole", "any", "category"],
)
def test_values_that_are_drawn_are_values_that_were_seen(one: Numeric | Categorical) -> None:
    drawn = [one.text(float(u)) for u in np.linspace(0, 1, 50, endpoint=False)]
    for text in drawn:
        one.column(text)
    if isinstance(one, Categorical) or one.whole:
        assert len(set(drawn)) == {"Numeric": 5, "Categorical": 3}[type(one).__name__]


def test_the_slice_before_is_of_the_same_subject() -> None:
    codes = torch.arange(6, dtype=torch.uint8).view(6, 1, 1).expand(6, 2, 2)
    cache = SimpleNamespace(subjects=["a", "a", "a", "b", "b", "c"], fingerprint="", size=(4, 4))
    encoded = EncodedSplit({"codes_0": codes, "order_0": torch.arange(6)}, cast("Any", cache), torch.device("cpu"))
    split = LabelledSplit(encoded, torch.zeros(6, 0), previous=True)
    batch = split.batch([4, 0, 3, 2])
    assert batch.given is not None
    assert batch.given.previous is not None
    assert batch.given.previous[0][:, 0, 0].tolist() == [3, -1, -1, 1]
    assert batch.codes[0][:, 0, 0].tolist() == [4, 0, 3, 2]
    assert LabelledSplit(encoded, torch.zeros(6, 0), previous=False).batch([1]).given is None
    told = LabelledSplit(encoded, torch.full((6, 1), math.nan), previous=False).batch([1, 2])
    assert told.given is not None
    assert told.given.values.shape == (2, 1)
    assert told.given.previous is None


def test_an_epoch_mixes_variants_and_an_image_meets_all_of_them_with_its_own_slice_before() -> None:
    cache = SimpleNamespace(subjects=["a"] * 6, fingerprint="", size=(4, 4))

    def encoded(shift: int) -> EncodedSplit:
        codes = (torch.arange(6, dtype=torch.uint8) + shift).view(6, 1, 1).expand(6, 2, 2)
        return EncodedSplit({"codes_0": codes, "order_0": torch.arange(6)}, cast("Any", cache), torch.device("cpu"))

    split = LabelledSplit(encoded(0), torch.zeros(6, 0), previous=True, variants=[encoded(10), encoded(20)])
    images = torch.arange(6)
    assert split.batch(images).codes[0][:, 0, 0].equal(images)
    met = []
    for epoch in range(3):
        batch = split.batch(images, epoch)
        assert batch.given is not None
        assert batch.given.previous is not None
        shown, before = batch.codes[0][:, 0, 0], batch.given.previous[0][:, 0, 0]
        assert (shown % 10).equal(images)
        assert (shown[1:] - before[1:] == 1).all()
        assert sorted((shown // 10).tolist()) == [0, 0, 1, 1, 2, 2]
        met.append(shown // 10)
    assert torch.stack(met).sort(0).values.equal(torch.arange(3)[:, None].expand(3, 6))
