"""The audit of folders: copies among samples are named, unseen heads are not, and bad input is one clear message.

The tokenizer is trained for one step, so its pictures are replaced by blurred ones wherever something must be found.
"""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from brainvq.audit import audit_images, audit_samples, calibrating, pairs, short_audit
from brainvq.audit.pairs import Pair, draw_pairs
from brainvq.audit.samples import read_samples
from brainvq.config import override
from brainvq.data.loader import open_cache
from brainvq.data.reopen import remember, reopen
from brainvq.data.sources import open_splits
from brainvq.errors import InputError
from brainvq.metrics.copies import COPIES
from brainvq.pipeline import Pipeline, load_generator
from brainvq.presets import preset
from brainvq.report import write_report
from brainvq.sampling import sample_files
from brainvq.session import evaluate_run
from brainvq.training.experiment import train
from brainvq.training.prior_experiment import train_prior
from heads import blurred, heads

TINY = [
    *("train.precision=fp32", "train.steps=1", "train.batch_size=4"),
    *("tokenizer.network.widths=[4,4,4]", "tokenizer.quantizer.entries=16"),
]
SIZE = (64, 56)
SUBJECTS = {"train": range(1, 13), "validate": range(21, 27)}


def head(subject: int) -> NDArray[np.uint8]:
    """Two slices, (2, H, W): a head and the same, a little lower."""
    first = heads(1, SIZE, seed=subject)[0]
    return np.stack([first, np.roll(first, 2, axis=0)])


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """`data`, its `cache`, the runs `tokenizer`, `other` and `prior`, and `drawn`, what the prior draws."""
    root = tmp_path_factory.mktemp("audit")
    for split, subjects in SUBJECTS.items():
        (root / "data" / split).mkdir(parents=True)
        for subject in subjects:
            for i, image in enumerate(head(subject)):
                Image.fromarray(image).save(root / "data" / split / f"case_{subject:03d}_slice_{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINVQ_CACHE", str(root / "cache"))
        for name, seed in (("tokenizer", 0), ("other", 1)):
            train(override(preset("keras_f8_ema"), [*TINY, f"train.seed={seed}"]), root / "data", root / name)
        train_prior(
            override(preset("histogram"), ["train.precision=fp32"]), root / "tokenizer", root / "data", root / "prior"
        )
        sample_files(root / "prior", 4, root / "drawn")
    return root


@pytest.fixture(autouse=True)
def kept(root, tmp_path, monkeypatch) -> Path:
    """A copy of the cache, with decoded slices, but nothing of an audit and no subjects."""
    shutil.copytree(root / "cache", tmp_path / "cache", ignore=shutil.ignore_patterns("subjects", "audits"))
    monkeypatch.setenv("BRAINVQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def sharp(monkeypatch) -> None:
    """A tokenizer whose pictures are blurred originals."""

    def through(self: Pipeline, x: Tensor, *, grain: bool) -> NDArray[np.uint8]:
        return blurred(((x[:, 0] + 1) * 127.5).round().to(torch.uint8).numpy(), 0.6)

    monkeypatch.setattr(Pipeline, "through", through)


def folder_of(images: NDArray[np.uint8], folder: Path) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture
def copies(tmp_path) -> Path:
    """Four slices of train, then two unseen heads."""
    images = np.concatenate([head(subject)[:1] for subject in (3, 5, 7, 8, 91, 92)])
    return folder_of(blurred(images, 0.6), tmp_path / "copies")


def test_copies_are_named_and_drawn(sharp, root, copies, call):
    code, out, err = call("audit", copies, "--data", root / "data", "--tokenizer", root / "tokenizer")
    assert code == 0, err
    result = json.loads((copies / "audit" / "audit.json").read_text())
    assert out.rstrip().endswith(result["sentence"])
    assert result["found"]
    assert "4 of 6 samples are closer to a training slice than held-out slices are" in result["sentence"]
    assert {(one["sample"], one["subject"]) for one in result["closest"] if one["flagged"]} == {
        *(("00.png", "003"), ("01.png", "005"), ("02.png", "007"), ("03.png", "008")),
    }
    assert [one["train_index"] for one in result["closest"][:4] if one["subject"] == "005"] == [8]
    assert Image.open(copies / "audit" / "pairs.png").size[0] > 500
    for kind in COPIES:
        assert kind in out


def test_unseen_heads_are_not_flagged_and_no_more_is_said(sharp, root, tmp_path, call):
    unseen = folder_of(blurred(heads(8, SIZE, seed=99), 0.6), tmp_path / "unseen")
    code, out, err = call("audit", unseen, "--data", root / "data", "--tokenizer", root / "tokenizer", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert not result["found"]
    assert result["flagged"]["flagged"] <= 1
    assert (
        result["sentence"].startswith("No copy detected at sensitivity 0.9") or "sensitivity 1.0" in result["sentence"]
    )
    assert result == json.loads((unseen / "audit" / "audit.json").read_text())
    assert result["data"]["held_out_subjects"] == 6
    assert len(result["scores"]) == result["samples"]["n"] == 8


def test_a_second_audit_measures_nothing_again(sharp, root, copies, kept, monkeypatch):
    given = {"tokenizer": root / "tokenizer"}
    first = audit_samples(copies, str(root / "data"), **given)
    (stored,) = (kept / "audits").iterdir()
    assert not any(f"{subject:03}" in stored.name for subject in SUBJECTS["train"])
    monkeypatch.setattr(calibrating.Calibrating, "_measured", lambda *_: pytest.fail("measured again"))
    again = audit_samples(copies, str(root / "data"), out=copies.parent / "elsewhere", **given)
    changing = ("wall_time_s",)
    assert {k: v for k, v in again.items() if k not in changing} == {
        k: v for k, v in first.items() if k not in changing
    }
    assert (copies.parent / "elsewhere" / "pairs.png").exists()


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"held_out": [1], "planted": {}}', b"[1]", b"nothing"])
def test_a_damaged_calibration_is_measured_again(sharp, root, copies, kept, damage):
    first = audit_samples(copies, str(root / "data"), tokenizer=root / "tokenizer")
    (stored,) = (kept / "audits").iterdir()
    sound = stored.read_bytes()
    stored.write_bytes(damage)
    again = audit_samples(copies, str(root / "data"), tokenizer=root / "tokenizer")
    assert again["scores"] == first["scores"]
    assert again["kinds"] == first["kinds"]
    assert stored.read_bytes() == sound


def test_further_copies_are_told_beside_the_others(sharp, root, copies, tmp_path):
    more = folder_of(blurred(np.concatenate([head(1), head(2), head(93)]), 0.6), tmp_path / "more")
    given = {"tokenizer": root / "tokenizer"}
    alone = audit_samples(copies, str(root / "data"), **given)
    found = audit_samples(copies, str(root / "data"), planted={"remembered": more}, **given)
    assert (found["kinds"]["remembered"]["flagged"], found["kinds"]["remembered"]["images"]) == (4, 6)
    assert found["sensitivity"] == alone["sensitivity"], "only the kinds that are always there count"


def test_another_tokenizer_is_calibrated_by_itself(root, copies, kept):
    for name in ("tokenizer", "other"):
        audit_samples(copies, str(root / "data"), tokenizer=root / name)
    assert len(list((kept / "audits").iterdir())) == 2


def test_samples_need_their_own_tokenizer(root, tmp_path, call):
    drawn = shutil.copytree(root / "drawn", tmp_path / "drawn")
    asked = ("audit", drawn, "--data", root / "data")
    code, _, err = call(*asked)
    assert (code, "--tokenizer" in err, "not a shipped one" in err) == (2, True, True)
    code, _, err = call(*asked, "--tokenizer", root / "other")
    assert code == 2
    assert "was decoded by the tokenizer" in err
    assert not (drawn / "audit").exists()
    code, out, err = call(*asked, "--tokenizer", root / "tokenizer")
    assert code == 0, err
    assert "4 samples; 24 training slices of 12 subjects, 12 held-out slices of 6" in " ".join(out.split())
    assert json.loads((drawn / "audit" / "audit.json").read_text())["samples"]["model"]["preset"] == "histogram"


def test_the_short_audit_needs_no_files_and_names_nobody(root, tmp_path, copies, monkeypatch):
    generator = load_generator(root / "prior")
    drawn = shutil.copytree(root / "drawn", tmp_path / "drawn")
    assert short_audit(drawn, generator) is None, "nobody has said which slices are of one subject"
    whole = audit_samples(drawn, str(root / "data"), tokenizer=root / "tokenizer", out=tmp_path / "whole")
    monkeypatch.setattr(Path, "read_bytes", no_files_of(root / "data", Path.read_bytes))
    found = short_audit(drawn, generator)
    assert found is not None
    for name in ("scores", "flagged", "false_alarms", "kinds", "roc", "threshold", "sentence"):
        assert found[name] == whole[name]
    assert {one["subject"] for one in found["closest"]} == {None}
    assert (drawn / "audit" / "pairs.png").exists()
    generator.config = {**generator.config, "data": {}}
    assert short_audit(drawn, generator) is None


def no_files_of(data: Path, read: Any) -> Any:
    def reading(self: Path) -> Any:
        assert not self.is_relative_to(data), f"{self} was read"
        return read(self)

    return reading


def test_slices_come_back_by_their_fingerprint_with_nameless_subjects(root, kept):
    cache = open_cache(open_splits(root / "data")["train"], multiple=(8, 8))
    assert reopen(cache.fingerprint, len(cache)) is None
    remember(cache)
    again = reopen(cache.fingerprint, len(cache), multiple=(8, 8))
    assert again is not None
    assert torch.equal(again.batch([3, 1]), cache.batch([3, 1]))
    assert [again.subjects.index(name) for name in again.subjects] == [
        cache.subjects.index(name) for name in cache.subjects
    ]
    assert not set(again.subjects) & set(cache.subjects)
    assert reopen(cache.fingerprint[::-1], len(cache)) is None
    (images,) = kept.glob(f"slices/{cache.fingerprint[:40]}*/images.npy")
    images.write_bytes(images.read_bytes()[:-1])
    assert reopen(cache.fingerprint, len(cache)) is None, "cut short"


def broken(folder: Path, kind: str) -> Path:
    """A folder of samples that cannot be audited."""
    folder_of(heads(2, SIZE), folder)
    if kind == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif kind == "mixed":
        Image.fromarray(heads(1, (48, 56))[0]).save(folder / "02.png")
    elif kind == "small":
        for path in folder.iterdir():
            Image.fromarray(heads(1, (48, 56))[0]).save(path)
    elif kind == "cut":
        (folder / "01.png").write_bytes((folder / "01.png").read_bytes()[:200])
    elif kind == "listing":
        (folder / "samples.json").write_text('{"tokenizer": 3}')
    elif kind == "gone":
        shutil.rmtree(folder)
    elif kind == "file":
        shutil.rmtree(folder)
        folder.write_bytes(b"")
    elif kind == "missing":
        about = {"tokenizer": {"weights_sha256": "0"}, "files": {"images": ["images/0000.png"]}}
        (folder / "samples.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "holds no images"),
        ("mixed", "02.png is 56 x 48 pixels, and"),
        ("small", "samples have 56 x 48 pixels, training slices 56 x 64"),
        ("cut", "01.png"),
        ("listing", "samples.json is damaged"),
        ("gone", "is not a folder"),
        ("file", "is not a folder"),
        ("missing", "0000.png is missing"),
    ],
)
def test_what_is_no_set_of_samples_is_refused(root, tmp_path, call, kind, said):
    folder = broken(tmp_path / "samples", kind)
    code, out, err = call("audit", folder, "--data", root / "data", "--tokenizer", root / "tokenizer")
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "samples" / "audit").exists()


def test_data_and_models_that_do_not_serve_are_refused(root, tmp_path, copies, call):
    asked = ("audit", copies, "--tokenizer", root / "tokenizer", "--data")
    shutil.copytree(root / "data" / "train", tmp_path / "tested" / "test")
    code, _, err = call(*asked, tmp_path / "tested")
    assert (code, "no train split, only test" in err) == (2, True)
    shutil.copytree(root / "data" / "train", tmp_path / "one" / "train")
    (tmp_path / "one" / "validate").mkdir()
    shutil.copy(root / "data" / "validate" / "case_021_slice_0.png", tmp_path / "one" / "validate")
    code, _, err = call(*asked, tmp_path / "one")
    assert (code, "two at least" in err) == (2, True)
    assert call(*asked, tmp_path / "nowhere")[0] == 2
    code, _, err = call("audit", copies, "--data", root / "data")
    assert (code, "Name it: --tokenizer MODEL" in err) == (2, True)
    code, _, err = call("audit", copies, "--data", root / "data", "--tokenizer", root / "prior")
    assert (code, "is a prior" in err) == (2, True)
    assert str(root / "tokenizer") in err, "which is the one that it needs"
    (tmp_path / "file").touch()
    code, _, err = call(*asked, root / "data", "--out", tmp_path / "file")
    assert (code, "is a file; --out needs a folder" in err) == (2, True)


def test_what_stands_above_the_pairs_fits_on_the_picture(tmp_path):
    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs.Figure, "savefig", lambda self, *_, **__: figures.append(self))
        for count in (1, 2, 10):
            pair = Pair(heads(1, SIZE)[0], heads(1, SIZE)[0], "0000.png\nscore 0.031, flagged", "subject 1\n", True)
            note = "Flagged above a score of 0.123, which about 1 % of held-out slices exceed. " * 3
            draw_pairs(
                [pair] * count,
                f"The {count} closest of 1,000 samples, each left of its nearest training slice",
                note,
                tmp_path / "a",
            )
    for figure in figures:
        figure.draw_without_rendering()
        edge = figure.bbox
        for text in figure.texts:
            box = text.get_window_extent()
            assert edge.x0 <= box.x0
            assert box.x1 <= edge.x1
            assert box.y1 <= edge.y1
        heading = [text for text in figure.texts if text.get_verticalalignment() == "center"]
        images = max(axes.get_window_extent().y1 for axes in figure.axes)
        assert all(text.get_window_extent().y0 > images for text in heading)


def test_slices_of_a_head_are_seen_to_belong_together(tmp_path):
    folder = folder_of(heads(6, SIZE), tmp_path / "samples")
    shutil.copytree(folder, folder / "images")
    names = [f"images/{i:02}.png" for i in range(6)]
    about = {"tokenizer": {"weights_sha256": "0"}, "files": {"images": names}, "heads": True}
    about["told"] = [{"slice": str(i % 3), "age": "30"} for i in range(6)]
    (folder / "samples.json").write_text(json.dumps(about))
    assert read_samples(folder).heads == ["1"] * 3 + ["2"] * 3
    (folder / "samples.json").write_text(json.dumps({**about, "heads": False}))
    assert len(set(read_samples(folder).heads)) == 6


def test_pictures_of_more_bits_are_taken_by_their_window(tmp_path):
    image = heads(1, SIZE)[0]
    (tmp_path / "deep").mkdir()
    Image.fromarray(image.astype(np.uint16) * 16).save(tmp_path / "deep" / "0.png")
    found = read_samples(tmp_path / "deep").images
    assert found.dtype == np.uint8
    assert np.corrcoef(found.ravel(), image.ravel())[0, 1] > 0.99
    np.save(tmp_path / "deep" / "1.npy", np.zeros((4, 8, 8)))
    with pytest.raises(InputError, match=r"1\.npy"):
        read_samples(tmp_path / "deep")


def test_samples_are_held_against_what_their_prior_was_trained_on(root, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(root / "data", other)
    path = next((other / "train").iterdir())
    Image.fromarray(np.asarray(Image.open(path))[::-1].copy()).save(path)
    with pytest.raises(InputError, match="was trained on other images"):
        audit_samples(root / "drawn", str(other), tokenizer=root / "tokenizer", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sampling_ends_with_an_audit_where_the_training_slices_are_known(root, tmp_path, call, kept):
    run = [*("sample", str(root / "prior"), "-n", "2", "--out", str(tmp_path / "drawn"))]
    _, said, err = call(*run)
    assert "not audited" in said
    assert f"brainvq audit {tmp_path / 'drawn'} --data DATA" in " ".join(err.split())
    about = json.loads((tmp_path / "drawn" / "samples.json").read_text())
    assert about["audited"] is False
    for split, source in open_splits(root / "data").items():
        if split in SUBJECTS:
            remember(open_cache(source))
    said = " ".join(call(*run)[1].split())
    found = json.loads((tmp_path / "drawn" / "samples.json").read_text())["audited"]
    assert found["sentence"] in said
    _, said, err = call(*run, "--no-audit")
    assert "not audited" in " ".join(said.split())
    assert "brainvq audit" not in err
    more = [*run[:3], "3", *run[4:], "--no-audit"]
    call(*more)
    assert not (tmp_path / "drawn" / "audit").exists()  # it was of other samples
    assert json.loads((tmp_path / "drawn" / "samples.json").read_text())["audited"] is False


def test_evaluating_a_prior_audits_its_samples_and_the_report_says_so(root, tmp_path):
    run = tmp_path / "prior"
    shutil.copytree(root / "prior", run)
    found = evaluate_run(run, str(root / "data"), "validate", tokenizer=root / "tokenizer", samples=5)["audit"]
    assert found["flagged"]["images"] == 5
    assert found["data"]["held_out_subjects"] == len(SUBJECTS["validate"])
    assert all(pair["subject"] is None for pair in found["closest"]), "a result may be passed on"
    assert not any("index" in key for pair in found["closest"] for key in pair if key != "sample_index")
    assert (run / "evaluation" / "validate-pairs.png").exists()
    page = write_report(run).read_text()
    assert "Not audited" not in page
    assert found["sentence"].partition(";")[0] in page


def test_where_there_are_not_two_subjects_nothing_is_audited_and_no_old_pairs_are_left(root, tmp_path):
    slices = {split: open_cache(source) for split, source in open_splits(root / "data").items() if split in SUBJECTS}
    pipeline = load_generator(root / "prior", root / "tokenizer").pipeline
    images = np.zeros((2, *SIZE), np.uint8)
    for lonely in SUBJECTS:
        alone = copy.copy(slices[lonely])
        alone.subjects = ["1"] * len(alone)
        both = {**slices, lonely: alone}
        (tmp_path / "pairs.png").write_bytes(b"of another evaluation")
        assert audit_images(images, pipeline, both["train"], both["validate"], tmp_path / "pairs.png") is None
        assert not (tmp_path / "pairs.png").exists()
