"""Shipped weights: names resolve, a path wins, damage is refused, the card says what it must; those that are here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import brainvq
from benchmarks import ship as shipping
from benchmarks.card import ACKNOWLEDGEMENT, NOTICE, card
from benchmarks.halve import halve
from brainvq import models, session
from brainvq.config import override
from brainvq.errors import InputError
from brainvq.presets import preset
from brainvq.run import file_hash, read_config, write_json
from brainvq.training.experiment import train

ROOT = Path(__file__).parents[1]
PRESENT = sorted(
    path.parent for root in ("weights", "src/brainvq/weights") for path in ROOT.glob(f"{root}/*/config.json")
)
SETTINGS = [
    *("train.precision=fp32", "train.steps=2", "train.batch_size=4"),
    *("tokenizer.network.widths=[4,4,4]", "tokenizer.quantizer.entries=16"),
]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINVQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def run(slices_folder, tmp_path) -> Path:
    """Trained and evaluated, on a folder named as the OASIS slices."""
    out = train(override(preset("keras_f8_ema"), SETTINGS), slices_folder, tmp_path / "run")
    session.evaluate_run(out, str(slices_folder), "validate")
    return out


@pytest.fixture
def package(run, tmp_path, monkeypatch) -> Path:
    """The package as if it shipped that run as `brain_f8`; where the user stands there is nothing."""
    monkeypatch.setattr(models, "SHIPPED", tmp_path / "weights")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return shipping.ship(run, tmp_path / "weights" / "brain_f8")


def test_a_name_is_a_model_wherever_one_is_asked_for(call, package, run, slices_folder, tmp_path):
    image = next((slices_folder / "keras_png_slices_test").iterdir())
    for verb, folder in (("reconstruct", "copies"), ("encode", "codes")):
        code, _, err = call(verb, "brain_f8", image, "--out", folder)
        assert code == 0, err
    assert call("decode", "brain_f8", "codes", "--out", "again")[0] == 0
    copy = brainvq.load("brain_f8").reconstruct(image).voxels
    assert np.array_equal(copy, brainvq.load(run).reconstruct(image).voxels)
    files = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    code, out, err = call("evaluate", "brain_f8", "--data", slices_folder, "--against", "brain_f8")
    assert code == 0, err
    assert "SSIM" in out
    assert "written" not in out
    assert {path: path.stat().st_mtime_ns for path in package.rglob("*")} == files, "nothing is written to the package"
    code, _, err = call("finetune", "brain_f8", "--data", slices_folder, "--out", "mine", "--set", "train.steps=1")
    assert code == 0, err
    assert read_config(Path("mine"))["finetuned_from"]["weights_sha256"] == read_config(package)["weights_sha256"]


def test_a_prior_finds_the_shipped_tokenizer_again(call, package, slices_folder, monkeypatch, tmp_path):
    words = ("--tokenizer", "brain_f8", "--data", slices_folder, "--out", "prior")
    code, _, err = call("train", "histogram", *words)
    assert code == 0, err
    assert models.open_prior("prior").tokenizer.folder == package
    shutil.rmtree(package)
    with pytest.raises(InputError, match="--tokenizer"):
        models.open_prior("prior")
    assert call("sample", "brain_f8", "--out", "samples")[0] == 2


def test_a_path_wins_over_a_name(package):
    mine = Path("brain_f8")
    shutil.copytree(package, mine)
    assert models.open_model("brain_f8").folder == mine
    (mine / "config.json").unlink()
    with pytest.raises(InputError, match="brain_f8 is not a run"):
        models.open_model("brain_f8")


def test_an_unknown_name_is_told_those_that_there_are(call, package):
    code, out, err = call("reconstruct", "brain_f9", "a.png", "--out", "copies")
    assert (code, out) == (2, "")
    assert "did you mean 'brain_f8'?" in err
    assert "Shipped: brain_f8." in err
    with pytest.raises(InputError, match=r"no config\.json"):
        models.open_model("runs/brain_f8")


def test_damaged_weights_are_refused(package):
    file = package / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"its hash is not the one in config\.json"):
        models.open_model("brain_f8")


def test_what_is_shipped_is_what_was_measured(package, run):
    assert sorted(path.relative_to(package).as_posix() for path in package.rglob("*.*")) == sorted(shipping.FILES)
    assert (package / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    passes(package)
    (run / models.GRAIN).write_text("{}")
    shipping.ship(run, package)
    assert (package / models.GRAIN).read_text() == "{}"
    (run / models.GRAIN).unlink()
    (package / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match=r"holds thesis\.txt"):
        shipping.ship(run, package)


def test_halved_weights_are_half_as_large_and_nearly_the_same(run, slices_folder, tmp_path):
    half = halve(run, tmp_path / "half")
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (half, run))
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in theirs.items()}
    for name, tensor in theirs.items():
        if name.startswith("quantizer.") or not tensor.is_floating_point():
            assert torch.equal(ours[name], tensor)
        else:
            assert ours[name].dtype == torch.float16
            torch.testing.assert_close(ours[name].float(), tensor, atol=1e-4, rtol=1e-3)
    assert (
        read_config(half)["rounded_from"] == read_config(run)["weights_sha256"] != read_config(half)["weights_sha256"]
    )
    assert halve(run, half) == half
    with pytest.raises(InputError, match="not evaluated"):
        shipping.ship(half, tmp_path / "dest")
    session.evaluate_run(half, str(slices_folder), "validate")
    assert (
        models.open_model(shipping.ship(half, tmp_path / "dest")).weights_sha256 == read_config(half)["weights_sha256"]
    )
    write_json(run / "config.json", {**read_config(run), "weights_sha256": "0"})
    with pytest.raises(InputError, match="other weights"):
        halve(run, half)


def test_what_cannot_be_shipped_is_refused(run, tmp_path, monkeypatch):
    config, evaluation = run / "config.json", run / "evaluation" / "validate.json"

    def refused(said: str) -> None:
        with pytest.raises(InputError, match=said):
            shipping.ship(run, tmp_path / "dest")
        assert not (tmp_path / "dest").exists()

    with monkeypatch.context() as patch:
        patch.setattr(shipping, "LARGEST", 1000)
        refused("at most 1,000 are shipped")
    whole, measured = read_config(run), json.loads(evaluation.read_text())
    for said, values in (
        ("trained on my_scans", {**whole, "data": {**whole["data"], "name": "my_scans"}}),
        ("not trained to its end", {**whole, "weights_sha256": None}),
    ):
        config.write_text(json.dumps(values))
        refused(said)
    config.write_text(json.dumps(whole))
    for said, values in (
        ("evaluated with other weights", {**measured, "model": {**measured["model"], "weights_sha256": "0"}}),
        ("evaluated on other images", {**measured, "data": {**measured["data"], "fingerprint": "0"}}),
    ):
        evaluation.write_text(json.dumps(values))
        refused(said)
    evaluation.unlink()
    refused("is not evaluated on validate")


@pytest.mark.parametrize("folder", PRESENT, ids=lambda folder: folder.name)
def test_the_weights_that_are_here(folder):
    passes(folder)
    config = read_config(folder)
    assert folder.name == config["preset"] + ("_sharp" if config["experiment"]["task"].get("patches") else "")
    assert config["data"]["name"] == "oasis"
    assert config["data"]["splits"]["validate"]["subjects"] == 35
    result = ROOT / "results" / f"{folder.name}.json"
    if result.exists():
        assert json.loads(result.read_text())["run"]["weights_sha256"] == config["weights_sha256"]


def test_a_shipped_name_works_anywhere(slices_folder, tmp_path):
    """In a process of its own, far from the repository."""
    if not (names := models.shipped()):
        pytest.skip("no weights yet")
    image = next((slices_folder / "keras_png_slices_test").iterdir())
    command = [sys.executable, "-m", "brainvq", "reconstruct", names[0], str(image), "--out", "copies"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "copies" / image.name).exists()


def test_the_package_leaves_no_weights_out():
    ignored = (ROOT / ".gitignore").read_text().split()
    assert not [line for line in ignored if "weights" in line or "safetensors" in line or "*.md" in line]
    assert 'packages = ["src/brainvq"]' in (ROOT / "pyproject.toml").read_text()


def passes(folder: Path) -> None:
    """What every folder of shipped weights holds."""
    config = read_config(folder)
    evaluation = json.loads((folder / "evaluation" / "validate.json").read_text())
    weights, text = folder / "model.safetensors", (folder / "MODEL_CARD.md").read_text()
    assert weights.stat().st_size <= 10_000_000
    assert file_hash(weights) == config["weights_sha256"] == evaluation["model"]["weights_sha256"]
    assert all(tensor.isfinite().all() for tensor in load_file(weights).values())
    assert models.open_model(folder).weights_sha256 == config["weights_sha256"]
    assert text == card(config, evaluation), "the card is that of the numbers beside it"
    assert (folder / "LICENSE.md").read_text() == NOTICE
    plain, notice = " ".join(text.split()), " ".join(NOTICE.split())
    train, measures = config["data"]["splits"]["train"], evaluation["measures"]
    for said in (
        *("Not a medical device", "OASIS data use terms", ACKNOWLEDGEMENT, "A reconstruction is not the scan"),
        *("One scanner, one protocol", "Lesions", "not tested", "LICENSE.md", "Apache licence 2.0"),
        *(f"{train['subjects']} subjects", f"{train['images']:,} slices", config["command"], config["weights_sha256"]),
        *(f"{measures[name]['mean']:.4f} [{measures[name]['low']:.4f}, " for name in ("ssim", "ssim_foreground")),
        *("PSNR (dB)", "live entries", "bits a pixel, nominal", "95 % interval"),
    ):
        assert said in plain, said
    for said in (ACKNOWLEDGEMENT, "OASIS data use terms", "not a medical device", "warranty"):
        assert said in notice, said
    assert not [line for line in text.splitlines() if len(line) > 120]
    assert all(word not in json.dumps(config) for word in ("/home", "/root", "/work", "/Users"))
