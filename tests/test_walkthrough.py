"""The walkthrough runs from its first cell to its last, on settings so small that only the path is tested."""

import ast
from pathlib import Path
from typing import Any

import pytest

from brainvq.presets import preset

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

NOTEBOOK = Path(__file__).parents[1] / "docs" / "walkthrough.ipynb"
TINY = {"SUBJECTS": 3, "SLICES": 2, "SIZE": 32, "STEPS": 2, "RUN": "run"}


def _cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _texts(cell: Any) -> str:
    found = [output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(found)


def _pictures(cell: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in _cells(notebook))


def test_every_setting_stands_in_the_first_cell() -> None:
    settings = ast.parse(_cells(nbformat.read(NOTEBOOK, as_version=4))[0].source).body
    assert all(isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant) for line in settings)
    assert [line.targets[0].id for line in settings] == list(TINY)  # type: ignore[attr-defined]


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BRAINVQ_CACHE", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = _cells(notebook)
    cells[0].source = "\n".join(f"{name} = {value!r}" for name, value in TINY.items())
    work = tmp_path / "work"
    work.mkdir()
    place = {"metadata": {"path": str(work)}}
    nbclient.NotebookClient(notebook, timeout=200, kernel_name="python3", resources=place).execute()

    assert (work / "run" / "model.safetensors").is_file()
    assert (work / "run" / "evaluation" / "validate.json").is_file()
    names = ("open_splits(data)", "train(experiment")
    said = {name: next(cell for cell in cells if name in cell.source) for name in names}
    assert "2 slices of 1 subjects" in _texts(said["open_splits(data)"])
    assert "step 2 of 2, loss " in _texts(said["train(experiment"])
    assert sum(_pictures(cell) for cell in cells) == 7
    measured = next(_texts(cell) for cell in cells if "evaluate_run(run" in cell.source)
    assert all(word in measured for word in ("SSIM foreground", "mean image", "live entries", "bits a pixel, nominal"))
    coded, decoded = (next(_texts(c) for c in cells if word in c.source) for word in ("spec.bits(", "replace(encoded"))
    spec = preset("demo").tokenizer.build().spec  # type: ignore[attr-defined]
    assert f"'grid': {spec.grids((32, 32))[0]}" in coded
    assert f"'bits': {spec.bits((32, 32))}" in coded
    assert "'decoding repeats the reconstruction': True" in decoded
