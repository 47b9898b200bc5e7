"""Sampling into a folder: the same images whatever interrupts it, nothing lost, and bad input in one message."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

import brainvq
from brainvq import sampling
from brainvq.config import override
from brainvq.errors import InputError
from brainvq.pipeline import Generator, load, load_generator
from brainvq.presets import preset
from brainvq.sampling import sample_files
from brainvq.sampling.folder import SampleFolder
from brainvq.sampling.pictures import GAP, greys_of
from brainvq.training.experiment import train
from brainvq.training.interrupt import Interrupted
from brainvq.training.prior_experiment import train_prior
from heads import heads

TINY = [
    *("train.precision=fp32", "train.steps=1", "train.batch_size=4"),
    *("tokenizer.network.widths=[4,4,4]", "tokenizer.quantizer.entries=16"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with the runs `tokenizer` and `other`, and `prior`, a histogram of the codes of `tokenizer`."""
    root = tmp_path_factory.mktemp("runs")
    for split, subjects in {"train": (1, 2), "validate": (3,)}.items():
        (root / "data" / split).mkdir(parents=True)
        for subject in subjects:
            for i, image in enumerate(heads(4, (32, 24), seed=subject)):
                Image.fromarray(image).save(root / "data" / split / f"case_{subject:03d}_slice_{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINVQ_CACHE", str(root / "cache"))
        for name, seed in (("tokenizer", 0), ("other", 1)):
            experiment = override(preset("keras_f8_ema"), [*TINY, f"train.seed={seed}"])
            train(experiment, root / "data", root / name)
        histogram = override(preset("histogram"), ["train.precision=fp32"])
        train_prior(histogram, root / "tokenizer", root / "data", root / "prior")
    return root


@pytest.fixture
def prior(runs) -> Path:
    return runs / "prior"


@pytest.fixture
def small_batches(monkeypatch) -> None:
    monkeypatch.setattr(sampling, "BATCH", 3)


def files(folder: Path) -> dict[str, bytes]:
    """Every file but the JSON, whose times differ."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != "samples.json"}


def listed(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "samples.json").read_text())
    return values


def codes(folder: Path) -> NDArray[Any]:
    with np.load(folder / "codes.npz", allow_pickle=False) as file:
        return np.asarray(file["codes_0"])


def refused(result: tuple[int, str, str], *named: str) -> None:
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err
    for name in named:
        assert name in err, f"{name!r} is not named in: {err}"


def interrupt(monkeypatch, after: int, happens: Any) -> None:
    """Let `happens()` come in the place of the batch after `after` of them."""
    real, drawn = Generator.codes, []

    def drawing(self: Generator, n: int, **place: int) -> Any:
        drawn.append(n)
        if len(drawn) > after:
            happens()
        return real(self, n, **place)

    monkeypatch.setattr(Generator, "codes", drawing)


def test_what_lies_there_is_what_the_model_draws(prior, tmp_path):
    sample_files(prior, 5, tmp_path / "out", seed=3)
    generator = load_generator(prior)
    drawn = generator.codes(5, seed=3)
    assert np.array_equal(codes(tmp_path / "out"), drawn[0].numpy())
    assert codes(tmp_path / "out").dtype == np.uint8
    for i, image in enumerate(generator.images(drawn)):
        found = np.array(Image.open(tmp_path / "out" / "images" / f"{i:04}.png"))
        assert found.dtype == np.uint8
        assert np.array_equal(found, image)


def test_index_images_are_ranks_from_dark_to_bright_and_exact(prior, tmp_path):
    sample_files(prior, 4, tmp_path / "out")
    order = load_generator(prior).prior.orders[0].numpy()
    greys = np.rint(np.linspace(0, 255, len(order)))
    for i, grid in enumerate(codes(tmp_path / "out")):
        picture = np.array(Image.open(tmp_path / "out" / "indices" / f"{i:04}.png"))
        live = np.isin(grid, order)
        assert picture.shape == grid.shape
        assert live.any()
        assert np.array_equal(order[np.searchsorted(greys, picture[live])], grid[live])
        assert (picture[~live] == 0).all()


@pytest.mark.parametrize(("live", "dtype"), [(1, np.uint8), (2, np.uint8), (256, np.uint8), (300, np.uint16)])
def test_no_two_live_entries_share_a_grey(live, dtype):
    order = np.random.default_rng(0).permutation(512)[:live]
    greys = greys_of(order, 512)
    assert greys.dtype == dtype
    assert len(set(greys[order].tolist())) == live
    assert (np.diff(greys[order].astype(int)) > 0).all()


def test_a_few_are_the_first_of_many_whatever_the_batch(prior, tmp_path, monkeypatch):
    for batch, n in ((16, 11), (16, 4), (1, 4), (3, 11)):
        monkeypatch.setattr(sampling, "BATCH", batch)
        sample_files(prior, n, tmp_path / f"{batch}-{n}", seed=9)
    many, few = files(tmp_path / "16-11"), files(tmp_path / "16-4")
    assert files(tmp_path / "3-11") == many
    assert files(tmp_path / "1-4") == few
    pictures = [name for name in few if name.startswith("i")]
    assert len(pictures) == 8
    assert all(many[name] == few[name] for name in pictures)
    assert np.array_equal(codes(tmp_path / "16-11")[:4], codes(tmp_path / "16-4"))


def test_another_seed_gives_other_images(prior, tmp_path):
    for seed in (0, 1):
        sample_files(prior, 2, tmp_path / str(seed), seed=seed)
    assert not np.array_equal(codes(tmp_path / "0"), codes(tmp_path / "1"))
    assert not np.array_equal(*codes(tmp_path / "0"))


def test_provenance_is_whole_and_names_no_path(runs, prior, tmp_path, small_batches):
    out = tmp_path / "private" / "out"
    sample_files(prior, 4, out, seed=7, tokenizer=runs / "tokenizer")
    values = listed(out)
    assert (values["seed"], values["asked"], values["done"], values["version"]) == (7, 4, 4, brainvq.__version__)
    for part, folder in (("model", "prior"), ("tokenizer", "tokenizer")):
        config = json.loads((runs / folder / "config.json").read_text())
        assert values[part] == {key: config[key] for key in ("preset", "weights_sha256")}
    assert values["command"] == "brainvq sample prior -n 4 --out out --seed 7 --tokenizer tokenizer"
    assert values["seconds"] > 0
    assert values["audited"] is False
    assert "not audited for copies of training subjects" in values["notice"]
    assert "Not a medical device" in values["notice"]
    assert values["files"]["images"] == [f"images/{i:04}.png" for i in range(4)]
    every = [*values["files"]["images"], *values["files"]["indices"], values["files"]["grid"], values["files"]["codes"]]
    assert sorted(every) == sorted(files(out))
    assert str(tmp_path) not in (out / "samples.json").read_text()
    with np.load(out / "codes.npz", allow_pickle=False) as file:
        about = json.loads(file["about"].tobytes())
    assert {key: values[key] for key in about} == about
    assert about["tokenizer"]["weights_sha256"] == load(runs / "tokenizer").weights_sha256


@pytest.mark.parametrize(("n", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (9, 8, 2), (40, 8, 4)])
def test_the_grid_shows_images_above_their_codes(n, columns, rows, prior, tmp_path):
    sample_files(prior, n, tmp_path / "out")
    grid = np.array(Image.open(tmp_path / "out" / "grid.png"))
    gap = GAP
    assert grid.shape == (rows * 2 * (32 + gap) - gap, columns * (24 + gap) - gap)
    last = min(n, 32) - 1
    top, left = last // 8 * 2 * (32 + gap), last % 8 * (24 + gap)
    image, small = (np.array(Image.open(tmp_path / "out" / f"{kind}/{last:04}.png")) for kind in ("images", "indices"))
    assert np.array_equal(grid[top : top + 32, left : left + 24], image)
    assert np.array_equal(grid[top + 32 + gap :][:32:8, left : left + 24 : 8], small)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_is_done_and_the_same_call_goes_on(signum, prior, tmp_path, small_batches, monkeypatch):
    whole = sample_files(prior, 8, tmp_path / "whole", seed=2)
    assert (whole.done, whole.new) == (8, 8)
    told: list[str] = []
    with monkeypatch.context() as patch:
        interrupt(patch, 1, lambda: signal.raise_signal(signum))
        with pytest.raises(Interrupted, match=r"6 of 8 samples .* The same command goes on") as raised:
            sample_files(prior, 8, tmp_path / "out", seed=2, note=told.append)
    assert raised.value.signum == signum
    assert len(told) == 1
    values = listed(tmp_path / "out")
    assert (values["asked"], values["done"], len(values["files"]["images"])) == (8, 6, 6)
    assert len(codes(tmp_path / "out")) == 6
    assert len(files(tmp_path / "out")) == 14
    again = sample_files(prior, 8, tmp_path / "out", seed=2)
    assert (again.done, again.new) == (8, 2)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert listed(tmp_path / "out")["files"] == listed(tmp_path / "whole")["files"]


def test_a_signal_during_the_last_batch_loses_nothing(prior, tmp_path, monkeypatch):
    interrupt(monkeypatch, 0, lambda: signal.raise_signal(signal.SIGINT))
    assert sample_files(prior, 2, tmp_path / "out").done == 2


def test_a_second_ctrl_c_stops_at_once(prior, tmp_path, small_batches, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, 1, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
        with pytest.raises(KeyboardInterrupt):
            sample_files(prior, 8, tmp_path / "out")
    assert listed(tmp_path / "out")["done"] == 3
    sample_files(prior, 8, tmp_path / "out")
    sample_files(prior, 8, tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("name", ["images/0004.png", "indices/0003.png", "grid.png", "codes.npz", "samples.json"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_disk_that_fills_at_any_file_of_a_batch_costs_that_batch_alone(
    name, killed, prior, tmp_path, small_batches, monkeypatch
):
    """And so does a process that is killed there: nothing of it is cleaned up."""
    sample_files(prior, 8, tmp_path / "whole")
    sample_files(prior, 3, tmp_path / "out")
    real, started = Path.replace, []

    def full(self: Path, target: Path) -> Path:
        if Path(target) == tmp_path / "out" / name and (name != "samples.json" or started):
            raise SystemExit(9) if killed else OSError(errno.ENOSPC, "No space left on device")
        started.append(target)
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        if killed:
            patch.setattr(SampleFolder, "_prune", lambda self: None)
            with pytest.raises(SystemExit):
                sample_files(prior, 8, tmp_path / "out")
        else:
            with pytest.raises(InputError, match=r"No space left .* 3 of 8 samples are done and kept"):
                sample_files(prior, 8, tmp_path / "out")
    assert listed(tmp_path / "out")["done"] == 3
    if not killed:
        assert len(list((tmp_path / "out").glob("i*/*.png"))) == 6
    assert sample_files(prior, 8, tmp_path / "out").new == 5
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_keeps_what_is_done(error, prior, tmp_path, small_batches, monkeypatch):
    def fails() -> None:
        raise error

    interrupt(monkeypatch, 1, fails)
    with pytest.raises(InputError, match=r"memory .* 32 x 24 .* 3 of 8"):
        sample_files(prior, 8, tmp_path / "out")
    assert listed(tmp_path / "out")["done"] == 3


def test_our_own_mistakes_are_not_called_a_lack_of_memory(prior, tmp_path, monkeypatch):
    def fails() -> None:
        raise RuntimeError("shapes do not match")

    interrupt(monkeypatch, 0, fails)
    with pytest.raises(RuntimeError, match="shapes"):
        sample_files(prior, 8, tmp_path / "out")


def test_batches_are_bounded_by_the_codes_of_an_image():
    class Spec:
        entries = (512,)

    class Prior:
        spec = Spec()

        def __init__(self, length: int) -> None:
            self.length = length

    sizes = [sampling._batch(Prior(length)) for length in (4, 1 << 10, 1 << 12, 1 << 14, 1 << 22)]  # type: ignore[arg-type]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == sampling.BATCH
    assert sizes[-1] == 1


def test_more_are_added_and_enough_is_left_as_it_is(call, prior, tmp_path):
    out = tmp_path / "out"
    code, said, _ = call("sample", prior, "-n", 3, "--out", out)
    assert code == 0
    assert f"3 images (3 new): {out / 'images'}" in said
    assert "not audited" in said
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    code, said, _ = call("sample", prior, "-n", 2, "--out", out)
    assert code == 0
    assert "3 images (0 new)" in said
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert call("sample", prior, "-n", 5, "--out", out)[0] == 0
    assert call("sample", prior, "-n", 5, "--out", tmp_path / "whole")[0] == 0
    assert files(out) == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-n", "0"], ["-n is 0", "at least 1"]),
        (["-n", "-4"], ["-n is -4"]),
        (["-n", "1000000"], ["1,000,000", "at most 10,000", "--seed 1"]),
        (["--seed", "-1"], ["--seed is -1"]),
        (["--seed", "99999999999999999999"], ["--seed is 99999999999999999999"]),
        (["--tokenizer", "nowhere"], ["nowhere"]),
    ],
)
def test_bad_words_are_refused_and_nothing_is_written(words, named, call, prior, tmp_path):
    refused(call("sample", prior, "--out", tmp_path / "out", *words), *named)
    assert not (tmp_path / "out").exists()


def test_a_number_that_is_none_is_refused(call, prior, tmp_path):
    assert call("sample", prior, "-n", "many", "--out", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()


def test_models_that_cannot_sample_are_refused_and_nothing_is_written(call, runs, prior, tmp_path):
    out = tmp_path / "out"
    refused(call("sample", runs / "tokenizer", "--out", out), "tokenizer", "brainvq train pixelcnn --tokenizer")
    refused(call("sample", tmp_path / "nothing", "--out", out), "nothing", "not a run")
    refused(call("sample", prior, "--out", out, "--tokenizer", runs / "other"), "other", "prior")
    alone = tmp_path / "alone" / "prior"
    shutil.copytree(prior, alone)
    refused(call("sample", alone, "--out", out), "--tokenizer")
    data = bytearray((alone / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (alone / "model.safetensors").write_bytes(data)
    refused(call("sample", alone, "--out", out, "--tokenizer", runs / "tokenizer"), "model.safetensors", "damaged")
    assert not out.exists()


def test_a_prior_that_was_tampered_with_is_refused_in_one_line(call, runs, prior, tmp_path):
    copy = tmp_path / "prior"
    shutil.copytree(prior, copy)
    good = json.loads((copy / "config.json").read_text())
    good["tokenizer"]["path"] = str(runs / "tokenizer")
    pixelcnn = {**good["experiment"], "prior": {"kind": "priors.pixelcnn", "layers": 10**9}}
    specs = [([0], [[8, 8]]), ([16], [[0, 8]]), ([16], []), ([16, 16], [[8, 8]]), ([10**12], [[8, 8]])]
    bad = [
        *({**good, "spec": {"entries": entries, "strides": strides}} for entries, strides in specs),
        *({**good, "size": size} for size in (None, 32, [0, 24], [10**30, 24], [32.0, 24], ["32", 24], [32])),
        *({**good, "tokenizer": {**good["tokenizer"], "weights_sha256": value}} for value in (None, 7, [])),
        *({**good, "tokenizer": value} for value in (None, {}, {"path": 7, "weights_sha256": "a"})),
    ]
    for config in bad:
        (copy / "config.json").write_text(json.dumps(config))
        refused(call("sample", copy, "--out", tmp_path / "out"), str(copy))
    (copy / "config.json").write_text(json.dumps({**good, "experiment": pixelcnn}))
    refused(call("sample", copy, "--out", tmp_path / "out"), "layers")
    weights = load_file(copy / "model.safetensors")
    save_file({**weights, "log_table_0": weights["log_table_0"] * torch.nan}, copy / "model.safetensors")
    (copy / "config.json").write_text(json.dumps({**good, "weights_sha256": None}))
    refused(call("sample", copy, "--out", tmp_path / "out"), "NaN")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_was_moved_serves_from_its_new_place_and_a_changed_one_does_not(call, runs, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(runs / "prior", moved / "prior")
    shutil.copytree(runs / "tokenizer", moved / "elsewhere")
    words = ("sample", moved / "prior", "-n", 2, "--out", tmp_path / "out")
    assert call(*words, "--tokenizer", moved / "elsewhere")[0] == 0
    sample_files(runs / "prior", 2, tmp_path / "same")
    assert files(tmp_path / "out") == files(tmp_path / "same")
    shutil.copytree(runs / "other", moved / "tokenizer")
    refused(call("sample", moved / "prior", "-n", 2, "--out", tmp_path / "new"), "tokenizer", "prior")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_anything_else_is_never_touched(call, prior, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused(call("sample", prior, "--out", tmp_path / "file", "--force"), "is a file")
    mine = tmp_path / "mine"
    (mine / "images").mkdir(parents=True)
    (mine / "images" / "0000.png").write_text("mine")
    with pytest.raises(InputError, match="0 samples were asked for"):
        load_generator(prior).codes(0)
    for content in (None, "{", "[]", "{}", '{"format": 1}', '{"format": 2, "seed": 0}', "[" * 100000):
        if content is not None:
            (mine / "samples.json").write_text(content)
        for force in ([], ["--force"]):
            refused(call("sample", prior, "--out", mine, *force), str(mine), "holds no samples", "nothing was changed")
    about = {"format": 1, "frame": {}, "weights_sha256": "0" * 64}  # as encoded scans have it
    np.savez(mine / "codes.npz", about=np.frombuffer(json.dumps(about).encode(), np.uint8))
    refused(call("sample", prior, "--out", mine, "--force"), str(mine), "holds no samples", "nothing was changed")
    assert (mine / "images" / "0000.png").read_text() == "mine"


def test_samples_of_another_seed_or_model_are_replaced_by_force_alone(call, runs, prior, tmp_path):
    out = tmp_path / "out"
    (out).mkdir()
    assert call("sample", prior, "-n", 5, "--out", out)[0] == 0
    (out / "notes.txt").write_text("mine")
    before = files(out)
    refused(call("sample", prior, "-n", 2, "--out", out, "--seed", 1), "seed", "is 0", "be 1", "--force")
    values = listed(out)
    values["model"]["weights_sha256"] = "0" * 64
    (out / "samples.json").write_text(json.dumps(values))
    refused(call("sample", prior, "-n", 9, "--out", out), "model", f"(weights {'0' * 12})", "--force")
    assert files(out) == before
    assert call("sample", prior, "-n", 2, "--out", out, "--seed", 1, "--force")[0] == 0
    (out / "notes.txt").unlink()
    assert call("sample", prior, "-n", 2, "--out", tmp_path / "new", "--seed", 1)[0] == 0
    assert files(out) == files(tmp_path / "new")


FAULTS = ["codes", "cut", "text", "rows", "range", "type", "image", "pixels", "size", "done", "seconds"]
LISTINGS = {"listing": '{"format":', "object": "{}"}


@pytest.mark.parametrize("fault", [*FAULTS, *LISTINGS])
def test_damaged_samples_are_refused_and_drawn_again_by_force(fault, call, prior, tmp_path):
    out = tmp_path / "out"
    assert call("sample", prior, "-n", 3, "--out", out)[0] == 0
    whole, found = files(out), codes(out)
    if fault == "codes":
        (out / "codes.npz").unlink()
    elif fault == "cut":
        (out / "codes.npz").write_bytes((out / "codes.npz").read_bytes()[:-40])
    elif fault == "text":
        (out / "codes.npz").write_text("text")
    elif fault == "image":
        (out / "images" / "0001.png").unlink()
    elif fault == "pixels":
        (out / "images" / "0001.png").write_bytes((out / "images" / "0001.png").read_bytes()[:-200])
    elif fault == "size":
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(out / "images" / "0001.png")
    elif fault in LISTINGS:
        (out / "samples.json").write_text(LISTINGS[fault])
    elif fault in ("done", "seconds"):
        (out / "samples.json").write_text(json.dumps({**listed(out), fault: "many"}))
    else:
        other = {"rows": found[:2], "range": found + 99, "type": found.astype(np.int64)}[fault]
        np.savez(out / "codes.npz", codes_0=other)
    refused(call("sample", prior, "-n", 4, "--out", out), str(out), "--force")
    assert call("sample", prior, "-n", 3, "--out", out, "--force")[0] == 0
    assert files(out) == whole


def test_ctrl_c_exits_with_130_and_the_same_command_goes_on(prior, tmp_path):
    code = (
        "import sys, time, torch; torch.set_num_threads(1)\n"
        "from brainvq import cli, sampling\nfrom brainvq.pipeline import Generator\n"
        "sampling.BATCH, real = 2, Generator.codes\n"
        "Generator.codes = lambda *given, **place: (time.sleep(0.1), real(*given, **place))[1]\n"
        "cli.main()"
    )
    out = tmp_path / "out"
    words = ["sample", str(prior), "-n", "400", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not (out / "codes.npz").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    done = listed(out)["done"]
    assert 0 < done < 400
    assert f"{done} of 400 samples are done and kept".encode() in b" ".join(err.split())
    assert b"Traceback" not in err
    assert said == b""
    torch.manual_seed(0)
    assert sample_files(prior, done + 1, out).new == 1
