"""The command line as a user meets it: the whole path works, and bad input gets one message, exit code 2, no traces."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import brainvq
from brainvq import screen
from brainvq.data.scan import read

FLAGS = [
    word
    for setting in (
        "train.precision=fp32",
        "train.steps=6",
        "train.batch_size=4",
        "train.validate_every=3",
        "tokenizer.network.widths=[4,6,8]",
        "tokenizer.quantizer.entries=16",
    )
    for word in ("--set", setting)
]


@pytest.fixture
def trained(call, slices_folder, cache, tmp_path) -> Path:
    run = tmp_path / "run"
    code, out, err = call("train", "keras_f8_ema", "--data", slices_folder, "--out", run, *FLAGS)
    assert code == 0, err
    assert str(run) in out
    return run


def refused(result: tuple[int, str, str], *named: str) -> None:
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err
    for name in named:
        assert name in err, f"{name!r} is not named in: {err}"


def test_train_evaluate_report_reconstruct_encode_decode(call, trained, slices_folder, tmp_path):
    code, out, _ = call("evaluate", trained, "--data", slices_folder)
    assert code == 0
    assert "SSIM" in out
    code, out, _ = call("evaluate", trained, "--data", slices_folder, "--json", "--against", trained)
    result = json.loads(out)
    assert result["difference"]["differences"]["ssim"]["mean"] == 0
    assert result["measures"] == json.loads((trained / "evaluation" / "validate.json").read_text())["measures"]
    assert call("report", trained)[0] == 0
    assert (trained / "report.html").read_text().startswith("<!doctype html>")
    images = slices_folder / "keras_png_slices_test"
    copies, codes, again = tmp_path / "copies", tmp_path / "codes", tmp_path / "again"
    assert call("reconstruct", trained, images, "--out", copies)[0] == 0
    assert call("encode", trained, images, "--out", codes)[0] == 0
    assert call("decode", trained, codes, "--out", again)[0] == 0
    for image in images.iterdir():
        original, copy = read(image), read(copies / image.name)
        assert (copy.voxels.shape, copy.voxels.dtype) == (original.voxels.shape, original.voxels.dtype)
        assert np.array_equal(copy.voxels, read(again / image.name).voxels)


def test_evaluation_reads_data_as_told(call, trained, slices_folder, tmp_path):
    words = ("evaluate", trained, "--data", slices_folder)
    stored = trained / "evaluation" / "validate.json"
    _, out, err = call(*words, "--subject-pattern", r"case_(\d+_slice_\d)", "--json")
    assert json.loads(out)["data"]["subjects"] == 8
    assert json.loads(out)["data"]["settings"] == [r'data.subject_pattern="case_(\\d+_slice_\\d)"']
    assert "replaced" not in err
    assert "replaced" not in call(*words)[2], "of the same data"
    other = json.loads(stored.read_text())
    other["data"] |= {"name": "mine", "fingerprint": "0123456789abcdef"}
    stored.write_text(json.dumps(other))
    _, out, err = call(*words)
    assert json.loads(stored.read_text())["data"].get("settings") is None
    assert "replaced the evaluation of mine (fingerprint 0123456789ab)" in err
    refused(call(*words, "--set", "train.steps=3"), "train.steps", "data.subject_pattern")
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior" / "config.json").write_text('{"format": 1, "kind": "prior"}')
    refused(
        call("evaluate", tmp_path / "prior", *words[2:], "--set", "data.suffix=T2w"), "is a prior", "Leave out --set"
    )


def test_python_interface_says_the_same_as_the_command(call, trained, slices_folder, tmp_path):
    image = next((slices_folder / "keras_png_slices_test").iterdir())
    model = brainvq.load(trained)
    encoded = model.encode(image)
    assert encoded.codes[0].shape == (1, 4, 3)
    call("reconstruct", trained, image, "--out", tmp_path / "copies")
    assert np.array_equal(model.decode(encoded).voxels, read(tmp_path / "copies" / image.name).voxels)
    assert np.array_equal(model.reconstruct(image).voxels, model.decode(encoded).voxels)


def test_same_name_from_two_folders_and_nothing_overwritten(call, trained, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((16, 16), 99, np.uint8)).save(tmp_path / folder / "x.png")
    inputs = [tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"]
    assert call("reconstruct", trained, *inputs, "--out", tmp_path / "out")[0] == 0
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")) == [
        "a/x.png",
        "b/x.png",
    ]
    before = (tmp_path / "out/a/x.png").stat().st_mtime_ns
    refused(call("reconstruct", trained, *inputs, "--out", tmp_path / "out"), "--force", "x.png")
    assert (tmp_path / "out/a/x.png").stat().st_mtime_ns == before
    assert call("reconstruct", trained, *inputs, "--out", tmp_path / "out", "--force")[0] == 0


def test_sixteen_bit_and_odd_sizes_come_back_as_they_were(call, trained, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "odd.npy", rng.integers(0, 4000, (37, 21)).astype(np.uint16))
    assert call("reconstruct", trained, tmp_path / "odd.npy", "--out", tmp_path / "out")[0] == 0
    copy = np.load(tmp_path / "out" / "odd.npy")
    assert (copy.shape, copy.dtype) == ((37, 21), np.uint16)


def png(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


def grey(side: int = 16) -> np.ndarray:
    return np.random.default_rng(side).integers(0, 255, (side, side)).astype(np.uint8)


def broken_folders(root: Path) -> dict[str, tuple[Path, str]]:
    """Kind of fault -> folder with it, and what the message must name."""
    faults = {}

    def folder(name: str, *named: str) -> Path:
        (root / name / "train").mkdir(parents=True)
        (root / name / "validate").mkdir()
        for split, subject in (("train", 1), ("validate", 2)):
            png(root / name / split / f"case_{subject:03d}_slice_0.png", grey())
        faults[name] = (root / name, named[0])
        return root / name / "train"

    (folder("text", "case_003_slice_0.png") / "case_003_slice_0.png").write_text("not an image")
    cut = folder("cut", "case_003_slice_0.png") / "case_003_slice_0.png"
    png(cut, grey())
    cut.write_bytes(cut.read_bytes()[:-60])
    png(folder("mixed", "mixed sizes") / "case_003_slice_0.png", grey(24))
    png(folder("tiny", "1 x 1") / "case_003_slice_0.png", np.zeros((1, 1), np.uint8))
    nan = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    nan[3, 4] = np.nan
    np.save(folder("nan", "NaN") / "case_003_slice_0.npy", nan)
    png(folder("colour", "colour") / "case_003_slice_0.png", np.dstack([grey(), grey()[::-1], grey()]))
    (root / "empty").mkdir()
    faults["empty"] = (root / "empty", "empty")
    (root / "none").mkdir()
    (root / "none" / "notes.txt").write_text("no images")
    faults["none"] = (root / "none", "none")
    faults["missing"] = (root / "missing", "missing")
    return faults


@pytest.mark.parametrize("fault", ["text", "cut", "mixed", "tiny", "nan", "colour", "empty", "none", "missing"])
@pytest.mark.parametrize("command", ["train", "check"])
def test_bad_data_name_the_file_and_write_nothing(fault, command, call, cache, tmp_path):
    folder, named = broken_folders(tmp_path / "data")[fault]
    if command == "train":
        refused(call("train", "keras_f8", "--data", folder, "--out", tmp_path / "run", *FLAGS), named)
        assert not (tmp_path / "run").exists()
    else:
        code, out, err = call("check", folder, "--json")
        assert code == 2
        assert "Traceback" not in err
        assert named in out + err


def test_equal_channels_are_grey(call, trained, tmp_path):
    png(tmp_path / "grey.png", np.dstack([grey()] * 3))
    assert call("reconstruct", trained, tmp_path / "grey.png", "--out", tmp_path / "out")[0] == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["keras_f9"], ["keras_f9", "keras_f8"]),
        (["keras_f8", "--set", "train.learning_rat=1"], ["train.learning_rat", "train.learning_rate"]),
        (["keras_f8", "--set", "train.steps=many"], ["train.steps", "many"]),
        (["keras_f8", "--set", "train.steps"], ["="]),
        (["keras_f8", "--set", "train.steps=0"], ["train.steps"]),
        (["keras_f8", "--set", "train.batch_size=0"], ["train.batch_size"]),
        (["keras_f8", "--set", "train.learning_rate=-1"], ["train.learning_rate"]),
        (["keras_f8", "--set", "train.seed=99999999999999999999999"], ["train.seed"]),
        (["keras_f8", "--set", 'task={"kind":"quantizers.vq"}'], ["task", "quantizers.vq"]),
        (["keras_f8", "--set", 'tokenizer={"kind":"networks.keras_conv"}'], ["tokenizer"]),
        (["keras_f8", "--set", "tokenizer.quantizer.kind=os.path"], ["os.path"]),
        (["keras_f8", "--subject-pattern", "(nothing)_like_this"], ["nothing"]),
        (["keras_f8", "--subject-pattern", "(unclosed"], ["(unclosed"]),
    ],
)
def test_bad_words_name_the_key(words, named, call, slices_folder, cache, tmp_path):
    refused(call("train", *words, "--data", slices_folder, "--out", tmp_path / "run"), *named)
    assert not (tmp_path / "run").exists()


def test_folders_that_are_no_runs(call, slices_folder, cache, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years")
    image = next((slices_folder / "keras_png_slices_test").iterdir())
    for words in (
        ["evaluate", tmp_path / "thesis", "--data", slices_folder],
        ["reconstruct", tmp_path / "thesis", image, "--out", tmp_path / "out"],
        ["report", tmp_path / "nowhere"],
    ):
        refused(call(*words), "config.json")
    refused(call("train", "keras_f8", "--data", slices_folder, "--out", tmp_path / "thesis", *FLAGS), "not a run")
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "years"
    assert not (tmp_path / "out").exists()


def test_codes_of_another_model_and_damaged_ones_are_refused(call, trained, slices_folder, cache, tmp_path):
    image = next((slices_folder / "keras_png_slices_test").iterdir())
    call("encode", trained, image, "--out", tmp_path / "codes")
    file = next((tmp_path / "codes").iterdir())
    other = tmp_path / "other"
    call("train", "keras_f8_ema", "--data", slices_folder, "--out", other, *FLAGS, "--set", "train.seed=1")
    refused(call("decode", other, file, "--out", tmp_path / "out"), "made by")
    file.write_bytes(file.read_bytes()[:-40])
    refused(call("decode", trained, file, "--out", tmp_path / "out"), file.name)


def test_damaged_weights_are_refused(call, trained, slices_folder, tmp_path):
    path = trained / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    refused(call("evaluate", trained, "--data", slices_folder), "model.safetensors")


def test_a_run_that_was_tampered_with_is_refused_in_one_line(call, trained, slices_folder):
    good = json.loads((trained / "config.json").read_text())
    huge = json.loads(json.dumps(good))
    huge["experiment"]["tokenizer"]["quantizer"]["entries"] = 10**14
    task = json.loads(json.dumps(good))
    task["experiment"]["tokenizer"] = good["experiment"]["task"]
    other = {**good, "spec": {"entries": [99], "strides": [[8, 8]]}}
    half = {**good, "experiment": {"tokenizer": good["experiment"]["tokenizer"]}}
    (trained / "config.json").write_text(json.dumps(half))
    refused(call("evaluate", trained, "--data", slices_folder), "preset")
    for bad in (huge, task, other, {**good, "experiment": []}, {"format": 1}, {**good, "spec": {}}):
        (trained / "config.json").write_text(json.dumps(bad))
        refused(call("evaluate", trained, "--data", slices_folder), "config.json" if bad is not task else "tokenizer")


def test_tensorboard_and_a_folder_whose_name_looks_like_markup(call, slices_folder, cache, tmp_path):
    run = tmp_path / "x[/b]"
    words = ["train", "keras_f8_ema", "--data", slices_folder, "--out", run, *FLAGS]
    code, out, err = call(*words, "--tensorboard")
    assert code == 0, err
    assert str(run) in out
    assert list((run / "tensorboard").iterdir())
    assert str(tmp_path) not in (run / "config.json").read_text() + (run / "log.jsonl").read_text()


def test_demo_replaces_nothing_but_a_demo(call, trained, tmp_path):
    (tmp_path / "mine").mkdir()
    trained.rename(tmp_path / "mine" / "tokenizer")
    refused(call("demo", "--out", tmp_path / "mine", "--force"), "not an earlier demo")
    assert (tmp_path / "mine" / "tokenizer" / "model.safetensors").exists()


def test_ctrl_c_writes_a_checkpoint_and_exits_with_130(slices_folder, cache, tmp_path):
    words = ["train", "keras_f8_ema", "--data", str(slices_folder), "--out", str(tmp_path / "run"), *FLAGS]
    words += [
        "--set",
        "train.steps=100000",
        "--set",
        "train.checkpoint_every=50000",
        "--set",
        "train.validate_every=50000",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "brainvq", *words], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    while not (tmp_path / "run" / "log.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"--resume" in err
    assert b"Traceback" not in err
    assert len(list((tmp_path / "run" / "checkpoints").glob("step-*"))) == 2


def test_help_is_there_for_every_command_without_loading_torch():
    code = "import sys; sys.argv = ['brainvq', '--help']; from brainvq.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules, 'torch was loaded'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("demo", "check", "cohort", "presets", "describe", "train", "evaluate", "reconstruct", "sample"):
        assert name in done.stdout


def test_console_output_of_describe_and_presets(call):
    code, out, _ = call("presets")
    assert code == 0
    assert "keras_f8_ema" in out
    code, out, _ = call("describe", "keras_f8")
    assert code == 0
    assert "96,542" in out
    assert "127,233" in out


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_a_lack_of_memory_says_what_helps(error, call, monkeypatch, slices_folder, tmp_path):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("brainvq.session.reconstruct_files", fail)
    refused(call("reconstruct", "brain_f8", slices_folder, "--out", tmp_path / "out"), "Give smaller images or volumes")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_the_output_cannot_write_are_escaped(encoding, monkeypatch):
    """Also where that is strict."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding, errors="strict"))
    screen.survive_any_text()
    screen.out.print("case_\udcff é")
    sys.stdout.flush()
    assert written.getvalue().decode(encoding) == (
        "case_\\udcff é\n" if encoding == "utf-8" else "case_\\udcff \\xe9\n"
    )


def test_error_messages_go_to_stderr(call):
    code, out, err = call("describe", "keras")
    assert (code, out) == (2, "")
    assert io.StringIO(err).readline().startswith("brainvq:")


def test_the_version_is_told(call):
    assert call("--version")[:2] == (0, f"brainvq {brainvq.__version__}\n")


def test_a_shipped_model_has_a_card_and_no_report(call):
    refused(call("report", "brain_f8"), "no folder brain_f8 here", "is a shipped model", "MODEL_CARD.md")


def test_what_is_no_image_is_told_so(call, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    refused(
        call("reconstruct", "brain_f8", tmp_path / "notes.txt", "--out", tmp_path / "out"), "notes.txt: a .txt", ".png"
    )
