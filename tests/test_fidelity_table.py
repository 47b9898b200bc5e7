"""The table of volumes that came back: numbers stand in full, however narrow the screen."""

import io
from typing import Any

import pytest
from rich.console import Console

from brainvq.tables import fidelity_table

KEPT: dict[str, Any] = {"ssim_foreground": 0.7123, "mae": 13343.2, "rmse": 17.12}


@pytest.mark.parametrize("width", [80, 120])
def test_names_fold_and_numbers_do_not(width: int) -> None:
    rows = [
        ("bids/sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", {**KEPT, "median_head": (1170, 1159), "median_core": None}),
        ("a.nii.gz", {**KEPT, "median_head": (5.0, 4.0), "median_core": (1206123.0, 1304456.0)}),
    ]
    screen = Console(width=width, file=io.StringIO())
    screen.print(fidelity_table(rows))
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    for number in ("0.712", "1.334e+04", "17.12", "1159 (-0.9 %)", "1.304e+06 (+8.2 %)", "4 (-20.0 %)"):
        assert number in text
    assert "…" not in text
