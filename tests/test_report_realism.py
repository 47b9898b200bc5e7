"""The report's lines on realism and on whole heads, from what `evaluate` stores."""

from types import SimpleNamespace
from typing import Any, cast

from brainvq.metrics.realism import REALISM
from brainvq.report.prior_realism import SHOWN, head_rows, realism_rows
from brainvq.report.prior_stored import HeadsOf, RealismOf


def measures(value: float) -> dict[str, dict[str, float]]:
    return {name: {"value": value, "low": value - 0.1, "high": value + 0.1} for name in REALISM}


def result(better: list[str]) -> Any:
    one = {"measures": measures(2.5), "above_floor": measures(1), "better_than_floor": better, "too_typical": []}
    family = {
        "dimensions": 45,
        "floor": measures(1.25),
        "sets": {"samples": one, "tokenizer": {**one, "measures": measures(2)}},
    }
    kept = {"images": 100, "seed": 0, "families": {"statistics": family, "look": family}, "definitions": {}}
    interval = {"mean": 0.9, "low": 0.8, "high": 0.95}
    heads = {"n": 8, "slices": 32, "samples": {"neighbour_ssim": interval, "flicker": interval}, "real": None}
    return cast("Any", SimpleNamespace(realism=RealismOf.model_validate(kept), heads=HeadsOf.model_validate(heads)))


def test_every_measure_stands_beside_the_tokenizer_and_the_floor() -> None:
    rows = realism_rows(result([]))
    assert len(rows) == 2 * len(SHOWN)
    assert {row.label.partition(":")[0] for row in rows} == {"Image statistics", "Trained look"}
    for row in rows:
        assert "2.5 [2.4, 2.6]" in str(row.value)
        assert "2 [1.9, 2.1]; floor 1.25 [1.15, 1.35]" in str(row.beside)
    assert not any("wrong" in row.words for row in rows)


def test_what_is_too_good_is_called_so() -> None:
    told = {row.label: row.words for row in realism_rows(result(["coverage"]))}
    assert [label for label, words in told.items() if "something is wrong" in words] == [
        "Image statistics: Coverage",
        "Trained look: Coverage",
    ]


def test_heads_without_real_ones_stand_alone() -> None:
    rows = head_rows(result([]))
    assert len(rows) == 2
    assert all(row.beside is None and "0.9000" in str(row.value) for row in rows)
    assert not head_rows(cast("Any", SimpleNamespace(heads=None)))
    assert not realism_rows(cast("Any", SimpleNamespace(realism=None)))
