"""The laws of the training loop: exact resume, atomic checkpoints, honest failures, any number of processes alike."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from brainvq.config import override
from brainvq.errors import InputError
from brainvq.presets import preset
from brainvq.training import devices, loop
from brainvq.training import experiment as experiments
from brainvq.training.experiment import train
from brainvq.training.interrupt import Interrupted, listening
from brainvq.training.loop import Diverged, TrainConfig
from brainvq.training.tokenizer import TokenizerTask

SETTINGS = (
    "train.precision=fp32",
    "train.steps=9",
    "train.batch_size=4",
    "train.checkpoint_every=3",
    "train.validate_every=4",
    "tokenizer.network.widths=[4,6,8]",
    "tokenizer.network.dim=5",
    "tokenizer.quantizer.entries=16",
)


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(*settings: str, name: str = "keras_f8_ema") -> experiments.TokenizerExperiment:
    return override(preset(name), [*SETTINGS, *settings])


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def lines(run: Path, event: str) -> list[dict]:
    return [line for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if line["event"] == event]


@pytest.fixture
def whole(slices_folder, cache, tmp_path) -> Path:
    """An uninterrupted run."""
    return train(small(), slices_folder, tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "precision", "threads", "stops"),
    [
        ("keras_f8", "fp32", 1, (1, 3, 5, 8)),
        ("keras_f8_ema", "fp32", 1, (1, 3, 5, 8)),
        ("keras_f8", "bf16", 2, (5,)),
        ("keras_f8_ema", "bf16", 2, (5,)),
    ],
)
def test_stopped_at_any_step_and_resumed_is_bit_equal(
    name, precision, threads, stops, slices_folder, cache, tmp_path, monkeypatch
):
    torch.set_num_threads(threads)
    experiment = small(f"train.precision={precision}", name=name)
    whole = train(experiment, slices_folder, tmp_path / "whole")
    for stop in stops:
        run, step = tmp_path / f"stopped-{stop}", TokenizerTask.step

        def killed(self, x, number, total, stop=stop, step=step):
            if number == stop:
                raise Killed
            return step(self, x, number, total)

        with monkeypatch.context() as patch:
            patch.setattr(TokenizerTask, "step", killed)
            with pytest.raises(Killed):
                train(experiment, slices_folder, run)
        train(experiment, slices_folder, run, resume=True)
        assert weights(run) == weights(whole), stop
        assert [(e["step"], e["loss"]) for e in lines(run, "validate")] == [
            (e["step"], e["loss"]) for e in lines(whole, "validate")
        ]


@pytest.mark.skipif(not hasattr(signal, "SIGCONT"), reason="no such signal here")
def test_a_process_that_was_suspended_starts_its_clock_anew():
    woken, before = [], signal.getsignal(signal.SIGCONT)
    with listening(lambda: None, lambda: woken.append(True)) as stop:
        os.kill(os.getpid(), signal.SIGCONT)
        assert woken == [True]
        assert stop == [0]
    assert signal.getsignal(signal.SIGCONT) == before


def test_killed_while_a_checkpoint_is_written(whole, slices_folder, tmp_path, monkeypatch):
    for method in ("rename", "write_text"):
        run, real = tmp_path / method, getattr(Path, method)

        def killed(self, *args, real=real):
            if "unfinished-00000006" in str(self):
                raise Killed
            return real(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Path, method, killed)
            with pytest.raises(Killed):
                train(small(), slices_folder, run)
        assert not (run / "checkpoints" / "step-00000006").exists()
        train(small(), slices_folder, run, resume=True)
        assert weights(run) == weights(whole)


def test_killed_by_sigkill_from_outside(slices_folder, cache, tmp_path):
    settings = [*SETTINGS, "train.steps=400", "train.checkpoint_every=5", "train.validate_every=1000"]
    flags = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "brainvq", "train", "keras_f8_ema", "--data", str(slices_folder), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = tmp_path / "killed"
    process = subprocess.Popen([*command, "--out", str(run)], env=environment, stderr=subprocess.DEVNULL)
    while not list(run.glob("checkpoints/step-0000002*")):
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not json.loads((run / "config.json").read_text())["steps"]
    for folder, more in ((run, ["--resume"]), (tmp_path / "whole", [])):
        subprocess.run([*command, "--out", str(folder), *more], env=environment, check=True, capture_output=True)
    assert weights(run) == weights(tmp_path / "whole")


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_used(whole, slices_folder, tmp_path):
    newest = sorted((whole / "checkpoints").iterdir())[-1]
    file = newest / "task.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    before = weights(whole)
    events: list[dict] = []
    train(small(), slices_folder, whole, resume=True, watch=events.append)
    notes = [event["message"] for event in events if event["event"] == "note"]
    assert any("damaged" in note and newest.name in note for note in notes)
    assert next(event["step"] for event in events if event["event"] == "resume") == 6
    assert weights(whole) == before


def test_a_full_disk_leaves_the_earlier_checkpoint_and_says_so(slices_folder, cache, tmp_path, monkeypatch):
    real = Path.write_bytes

    def full(self, data):
        if "00000006" in str(self):
            real(self, data[:100])
            raise OSError(28, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"No space left on device.*--resume"):
        train(small(), slices_folder, tmp_path / "run")
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step-00000000", "step-00000003"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_a_checkpoint_first(signum, whole, slices_folder, tmp_path, monkeypatch):
    step = TokenizerTask.step

    def interrupted(self, x, number, total):
        if number == 4:
            os.kill(os.getpid(), signum)
        return step(self, x, number, total)

    with monkeypatch.context() as patch:
        patch.setattr(TokenizerTask, "step", interrupted)
        with pytest.raises(Interrupted) as stopped:
            train(small(), slices_folder, tmp_path / "run")
    assert stopped.value.signum == signum
    assert (tmp_path / "run" / "checkpoints" / "step-00000005").is_dir()
    train(small(), slices_folder, tmp_path / "run", resume=True)
    assert weights(tmp_path / "run") == weights(whole)


def test_a_loss_that_is_not_finite_names_term_step_and_checkpoint(slices_folder, cache, tmp_path, monkeypatch):
    step = TokenizerTask.step

    def broken(self, x, number, total):
        terms = step(self, x, number, total)
        return {**terms, "commitment": terms["commitment"] * float("nan")} if number == 4 else terms

    monkeypatch.setattr(TokenizerTask, "step", broken)
    with pytest.raises(Diverged, match=r"commitment is nan at step 4\b.*step-00000003"):
        train(small(), slices_folder, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())[-1] == "step-00000003"


def test_a_change_of_threads_or_precision_is_told(slices_folder, cache, tmp_path, monkeypatch):
    run, events = tmp_path / "run", []
    for precision, threads, steps in (("fp32", 1, 6), ("bf16", 2, 9)):  # what "auto" is on two machines
        for module in (devices, loop):
            monkeypatch.setattr(module, "resolve", lambda asked, precision=precision: precision)
        torch.set_num_threads(threads)
        settings = ("train.precision=auto", f"train.steps={steps}")
        train(small(*settings), slices_folder, run, resume=True, watch=events.append)
    notes = " ".join(event.get("message", "") for event in events)
    assert "threads was 1 and is 2" in notes
    assert "precision was fp32 and is bf16" in notes


def test_training_lowers_the_loss_and_step_0_is_a_checkpoint(slices_folder, cache, tmp_path):
    run = train(small("train.steps=120", "train.validate_every=40"), slices_folder, tmp_path / "run")
    losses = [line["loss"] for line in lines(run, "train")]
    assert losses[-1] < losses[0] / 3
    assert (run / "checkpoints" / "step-00000000").is_dir()
    config = json.loads((run / "config.json").read_text())
    assert (config["steps"], config["images_seen"]) == (120, 480)
    assert config["data"]["splits"]["train"]["subjects"] == 3


def test_best_keeps_the_best_validated_weights_and_last_the_last(slices_folder, cache, tmp_path, monkeypatch):
    scores = iter([0.3, 0.9, 0.5, 0.3, 0.9, 0.5])
    real = TokenizerTask.validate
    monkeypatch.setattr(TokenizerTask, "validate", lambda self, batches: {**real(self, batches), "score": next(scores)})
    kept = {}
    for keep in ("best", "last"):
        run = train(small(f"train.keep={keep}", "train.validate_every=3"), slices_folder, tmp_path / keep)
        kept[keep] = load_file(run / "model.safetensors")
        at = {step: load_file(run / f"checkpoints/step-{step:08d}/task.safetensors") for step in (6, 9)}
        expected = at[6 if keep == "best" else 9]
        assert all(torch.equal(value, expected[f"average/{name}"]) for name, value in kept[keep].items())
    assert any(not torch.equal(kept["best"][name], kept["last"][name]) for name in kept["best"])


def test_steps_win_over_epochs():
    assert TrainConfig(steps=7, epochs=100.0).total(64) == 7
    assert TrainConfig(epochs=1.5, batch_size=32).total(64) == 3
    with pytest.raises(InputError, match=r"train\.steps"):
        TrainConfig().total(64)


def test_a_run_is_neither_overwritten_nor_resumed_as_something_else(whole, slices_folder, tmp_path):
    with pytest.raises(InputError, match="--resume"):
        train(small(), slices_folder, whole)
    with pytest.raises(InputError, match=r"tokenizer\.quantizer\.entries was 16, and is 32"):
        train(small("tokenizer.quantizer.entries=32"), slices_folder, whole, resume=True)
    train(small("train.steps=10"), slices_folder, whole, resume=True)
    assert json.loads((whole / "config.json").read_text())["steps"] == 10
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="is not a run"):
        train(small(), slices_folder, foreign, resume=True)
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]


def test_resume_never_starts_over_nor_goes_back(whole, slices_folder):
    before = weights(whole)
    with pytest.raises(InputError, match="step 9, and 5 are asked for"):
        train(small("train.steps=5"), slices_folder, whole, resume=True)
    shutil.rmtree(whole / "checkpoints")
    with pytest.raises(InputError, match="no whole checkpoint"):
        train(small(), slices_folder, whole, resume=True)
    assert weights(whole) == before


def test_a_longer_schedule_is_told(whole, slices_folder):
    events: list[dict] = []
    train(small("train.steps=12"), slices_folder, whole, resume=True, watch=events.append)
    assert any("schedule was 9 and is 12" in event.get("message", "") for event in events)


def test_other_data_are_not_resumed(whole, slices_folder):
    image = next((slices_folder / "keras_png_slices_train").iterdir())
    image.unlink()
    with pytest.raises(InputError, match="other data"):
        train(small(), slices_folder, whole, resume=True)


def test_two_processes_learn_what_one_does(slices_folder, cache, tmp_path):
    """The same global batches: equal up to the order of float32 sums, here within 2e-4 of each tensor's scale."""
    one, two = tmp_path / "one", tmp_path / "two"
    steps = ("train.steps=6", "train.checkpoint_every=6")
    train(small(*steps), slices_folder, one)
    flags = [f"--set={setting}" for setting in (*SETTINGS, *steps)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    command = ["--rdzv-endpoint=127.0.0.1:0", "-m", "brainvq", "train", "keras_f8_ema", "--data", str(slices_folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, *command, "--out", str(two), *flags], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("model:") == 1, "one of the processes speaks"
    left, right = (load_file(run / "checkpoints/step-00000006/task.safetensors") for run in (one, two))
    for name, value in left.items():
        if name.startswith("model/"):
            scale = value.double().abs().max().clamp_min(1e-3)
            assert np.allclose((value - right[name]).double() / scale, 0, atol=2e-4), name
