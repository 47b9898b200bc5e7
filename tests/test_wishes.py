"""`brainvq sample` as it is wished: conditions, sharpened draws, whole heads, a part of an image that stays."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from brainvq.cli import app
from brainvq.config import override
from brainvq.data.scan import Scan, write
from brainvq.errors import InputError
from brainvq.metrics import generation
from brainvq.pipeline import load_generator
from brainvq.presets import preset
from brainvq.priors.conditions import Given
from brainvq.priors.drawing import Drawing
from brainvq.priors.maskgit import MaskGIT
from brainvq.sampling import Wish, sample_files
from brainvq.sampling.drawer import Drawer
from brainvq.session import evaluate_run
from brainvq.training import prior_experiment
from brainvq.training.experiment import TokenizerExperiment, train
from brainvq.training.prior_experiment import PriorExperiment, train_prior

SMALL = ["train.steps=3", "train.batch_size=4", "train.precision=fp32"]
PRIOR = [*SMALL, "prior.width=16", "prior.layers=1", "prior.heads=2"]


def trained(name: str, tokenizer: Path, data: Path, out: Path, *settings: str) -> Path:
    experiment = override(preset(name), [*PRIOR, *settings])
    assert isinstance(experiment, PriorExperiment)
    return train_prior(experiment, tokenizer, data, out)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data set with a table, its tokenizer, and a prior of each kind."""
    root = tmp_path_factory.mktemp("wishes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINVQ_CACHE", str(root / "cache"))
        data = root / "data"
        random = np.random.default_rng(0)
        for split, subjects in (("train", (1, 2, 3)), ("validate", (4, 5))):
            folder = data / f"keras_png_slices_{split}"
            folder.mkdir(parents=True)
            for subject in subjects:
                for n in range(4):
                    image = np.zeros((32, 32), np.uint8)
                    image[6:26, 8:24] = random.integers(30 * subject, 30 * subject + 60, (20, 16)) + 8 * n
                    Image.fromarray(image).save(folder / f"case_{subject:03}_slice_{n}.nii.png")
        (data / "subjects.csv").write_text(
            "subject,age,sex\n" + "".join(f"{s:03},{50 + s},{'FM'[s % 2]}\n" for s in range(1, 6))
        )
        small = [*SMALL, "tokenizer.network.widths=[4,6]", "tokenizer.network.dim=5", "tokenizer.quantizer.entries=16"]
        experiment = override(preset("keras_f8_ema"), small)
        assert isinstance(experiment, TokenizerExperiment)
        found = {"data": data, "cache": root / "cache", "tokenizer": train(experiment, data, root / "tokenizer")}
        columns = "conditions.columns=" + json.dumps(["slice", "age", "sex"])
        for name in ("autoregressive", "maskgit"):
            found[name] = trained(name, found["tokenizer"], data, root / name, columns, "prior.previous=true")
        found["plain"] = trained("autoregressive", found["tokenizer"], data, root / "plain", "conditions.columns=[]")
        return found


@pytest.fixture(autouse=True)
def cache(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINVQ_CACHE", str(runs["cache"]))


def drawn(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "samples.json").read_text())
    return found


def test_conditions_are_those_of_the_table_and_of_the_names(runs: dict[str, Path]) -> None:
    config = json.loads((runs["maskgit"] / "config.json").read_text())
    assert config["conditions"] == [
        {"kind": "numeric", "name": "slice", "low": 0, "high": 3, "whole": True},
        {"kind": "numeric", "name": "age", "low": 51, "high": 53, "whole": True},
        {"kind": "categorical", "name": "sex", "values": ["F", "M"]},
    ]
    assert "conditions" not in json.dumps(config["data"])  # and of nobody by name
    assert load_generator(runs["maskgit"]).prior.conditions[0].name == "slice"


def test_what_is_wished_is_what_samples_are_told(runs: dict[str, Path], tmp_path: Path) -> None:
    sample_files(runs["maskgit"], 5, tmp_path, wish=Wish({"slice": "2", "sex": "M"}))
    told = drawn(tmp_path)["told"]
    assert len(told) == 5
    assert {one["slice"] for one in told} == {"2"}
    assert {one["sex"] for one in told} == {"M"}
    assert len({one["age"] for one in told}) > 1  # drawn, since nothing was said
    assert drawn(tmp_path)["conditions"] == {"slice": "2", "sex": "M"}


@pytest.mark.parametrize("name", ["autoregressive", "maskgit"])
def test_wishes_are_heard(runs: dict[str, Path], name: str) -> None:
    generator = load_generator(runs[name])
    torch.manual_seed(0)
    for weight in generator.prior.parameters():
        weight.add_(0.3 * torch.randn(weight.shape))  # three steps of training say little
    plain = generator.codes(6, seed=1)[0]
    for wished in (
        generator.codes(6, seed=1, wanted={"slice": "0", "age": "51", "sex": "F"}),
        generator.codes(6, seed=1, drawing=Drawing(temperature=0.2)),
    ):
        assert not np.array_equal(wished[0].numpy(), plain.numpy())
    again = generator.codes(2, seed=1, first=3)
    assert np.array_equal(again[0].numpy(), plain[3:5].numpy())


def test_a_folder_is_of_one_wish(runs: dict[str, Path], tmp_path: Path) -> None:
    sample_files(runs["maskgit"], 2, tmp_path, wish=Wish({"slice": "1"}, Drawing(temperature=0.9)))
    for wish in (Wish({"slice": "2"}, Drawing(temperature=0.9)), Wish({"slice": "1"}), Wish()):
        with pytest.raises(InputError, match="nothing was changed"):
            sample_files(runs["maskgit"], 3, tmp_path, wish=wish)
    sample_files(runs["maskgit"], 3, tmp_path, wish=Wish({"slice": "1"}, Drawing(temperature=0.9)))
    assert drawn(tmp_path)["done"] == 3
    assert "--cond slice=1 --temperature 0.9" in drawn(tmp_path)["command"]


@pytest.mark.parametrize("name", ["autoregressive", "maskgit"])
def test_heads_are_whole_and_each_slice_knows_the_one_before(runs: dict[str, Path], tmp_path: Path, name: str) -> None:
    sample_files(runs[name], 2, tmp_path, wish=Wish({"age": "52"}, heads=True))
    found = drawn(tmp_path)
    assert (found["done"], found["heads"]) == (8, True)
    assert [one["slice"] for one in found["told"]] == ["0", "1", "2", "3"] * 2
    assert [one["sex"] for one in found["told"]][:4] == [found["told"][0]["sex"]] * 4  # one head, one person
    generator = load_generator(runs[name])
    one = generator.head(seed=0, number=1, wanted={"age": "52"})[0]
    with np.load(tmp_path / "codes.npz") as file:
        assert np.array_equal(file["codes_0"][4:], one.numpy())
    more = sample_files(runs[name], 3, tmp_path, wish=Wish({"age": "52"}, heads=True))
    assert (more.done, more.new) == (12, 4)
    assert " -n 3 " in drawn(tmp_path)["command"], "heads, as they were asked for"


def test_what_is_kept_stays_and_the_rest_is_new(runs: dict[str, Path], tmp_path: Path) -> None:
    image, mask = np.full((32, 32), 90, np.uint8), np.zeros((32, 32), np.uint8)
    image[10:20, 10:20], mask[:, :16] = 180, 255
    for name, pixels in (("image.png", image), ("mask.png", mask)):
        write(Scan(pixels, None, None, name), tmp_path / name)
    keep = (tmp_path / "mask.png", tmp_path / "image.png")
    sample_files(runs["maskgit"], 3, tmp_path / "out", wish=Wish(keep=keep))
    found = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "out" / "images").iterdir())])
    assert np.array_equal(found[:, :, :16], np.broadcast_to(image[:, :16], (3, 32, 16)))
    assert not np.array_equal(found[0], found[1])
    with np.load(tmp_path / "out" / "codes.npz") as file:
        codes = file["codes_0"]
    own = load_generator(runs["maskgit"]).pipeline.encode(keep[1]).codes[0].numpy()
    half = codes.shape[2] // 2
    assert np.array_equal(codes[:, :, :half], np.broadcast_to(own[:, :, :half], codes[:, :, :half].shape))


def test_of_an_image_that_is_kept_nothing_is_made_up(runs: dict[str, Path], tmp_path: Path) -> None:
    write(Scan(np.full((32, 32), 90, np.uint8), None, None, ""), tmp_path / "image.png")
    soft = np.full((32, 32), 40, np.uint8)  # a mask that was saved as JPEG is not quite black and white
    soft[:, :16] = 215
    write(Scan(soft, None, None, ""), tmp_path / "mask.png")
    keep = (tmp_path / "mask.png", tmp_path / "image.png")
    sample_files(runs["maskgit"], 2, tmp_path / "out", wish=Wish(keep=keep))
    assert "told" not in drawn(tmp_path / "out"), "which slice it is nobody said"
    sample_files(runs["maskgit"], 2, tmp_path / "said", wish=Wish({"slice": "1"}, keep=keep))
    assert drawn(tmp_path / "said")["told"] == [{"slice": "1"}] * 2
    found = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "out" / "images").iterdir())])
    assert np.all(found[:, :, :16] == 90)
    assert not np.all(found[:, :, 16:] == 90)


def test_a_prior_that_fills_in_is_told_what_was_said_alone(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = load_generator(runs["maskgit"])
    codes = tuple(level[:1] for level in generator.codes(1))
    keep = (codes, torch.arange(generator.prior.length) < 3)
    seen: list[Given | None] = []
    real = MaskGIT.fill

    def fill(self: MaskGIT, generators: Any, codes: Any, kept: Any, given: Given | None, drawing: Drawing) -> Any:
        seen.append(given)
        return real(self, generators, codes, kept, given, drawing)

    monkeypatch.setattr(MaskGIT, "fill", fill)
    generator.codes(2, keep=keep)
    generator.codes(2, keep=keep, wanted={"age": "52"})
    assert seen[0] is None
    assert seen[1] is not None
    assert seen[1].values.isnan().tolist() == [[True, False, True]] * 2  # slice, age, sex
    always = tmp_path / "run"
    shutil.copytree(runs["maskgit"], always)
    config = json.loads((always / "config.json").read_text())
    config["experiment"]["prior"]["forget"] = 0
    (always / "config.json").write_text(json.dumps(config))
    generator = load_generator(always, runs["tokenizer"])
    with pytest.raises(InputError, match=r"always told slice, sex in training.*say them by --cond"):
        Drawer(generator, 0, Wish({"age": "52"}, keep=(tmp_path, tmp_path)))


def test_samples_that_were_told_otherwise_are_not_gone_on_with(runs: dict[str, Path], tmp_path: Path) -> None:
    sample_files(runs["maskgit"], 2, tmp_path)
    found = drawn(tmp_path)
    found["told"][1]["sex"] = "MF"[found["told"][1]["sex"] == "M"]
    (tmp_path / "samples.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match=r"were told otherwise.*--force"):
        sample_files(runs["maskgit"], 3, tmp_path)
    sample_files(runs["maskgit"], 3, tmp_path, force=True)


def test_a_slip_in_a_table_is_told_in_training(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["data"], tmp_path / "data")
    table = tmp_path / "data" / "subjects.csv"
    table.write_text(table.read_text().replace("002,52", "002,5z"))
    said: list[Any] = []
    experiment = override(preset("maskgit"), [*PRIOR, 'conditions.columns=["age"]'])
    assert isinstance(experiment, PriorExperiment)
    train_prior(experiment, runs["tokenizer"], tmp_path / "data", tmp_path / "run", watch=said.append)
    assert any("'5z' is no number" in str(event.get("message")) for event in said)


@pytest.mark.parametrize(
    ("run", "options", "said"),
    [
        ("autoregressive", ["--steps", "8"], "steps: it heeds guidance, temperature, top-k, top-p"),
        ("plain", ["--guidance", "2", "--steps", "8"], "guidance, steps: it heeds temperature, top-k, top-p"),
        ("maskgit", ["--keep", "MASK", "GREY", "--guidance", "2"], "told nothing, does not know what to do with guid"),
        ("maskgit", ["--keep", "GREY", "MASK"], "GREY.png: 50% of it are neither black nor white"),
        ("maskgit", ["--heads", "-n", "2501"], "10,004 images were asked for; a folder takes at most 10,000"),
        ("maskgit", ["--cond", "slice=9"], "slice=9 was never seen in training. Give slice from 0 to 3"),
        ("maskgit", ["--cond", "sex=X"], "Give sex as one of F, M"),
        ("maskgit", ["--cond", "slyce=1"], "no condition 'slyce'"),
        ("plain", ["--cond", "slice=1"], "no condition 'slice'"),
        ("maskgit", ["--cond", "slice"], "expected NAME=VALUE"),
        ("maskgit", ["--cond", "slice=1", "--cond", "slice=2"], "each name once"),
        ("maskgit", ["--temperature", "0"], "temperature is 0.0; expected a number above 0"),
        ("maskgit", ["--heads", "--cond", "slice=1"], "--heads draws all slices"),
        ("plain", ["--heads"], "this prior makes single slices"),
        ("plain", ["--keep", "MASK", "IMAGE"], "priors.autoregressive cannot fill in"),
        ("maskgit", ["--keep", "SMALL", "IMAGE"], "has shape (8, 8); this prior makes images of (32, 32)"),
        ("maskgit", ["--keep", "IMAGE", "IMAGE"], "keeps everything"),
        ("maskgit", ["--keep", "MASK", "MISSING"], "MISSING"),
        ("maskgit", ["-n", "0"], "-n is 0"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(
    runs: dict[str, Path], tmp_path: Path, run: str, options: list[str], said: str
) -> None:
    for name, pixels in (
        ("MASK", np.eye(32, dtype=np.uint8)),
        ("SMALL", np.eye(8, dtype=np.uint8)),
        ("IMAGE", np.ones((32, 32), np.uint8)),
        ("GREY", np.repeat(np.uint8([0, 1, 1, 2]), 8)[:, None].repeat(32, 1)),
    ):
        write(Scan(pixels, None, None, name), tmp_path / f"{name}.png")
    options = [str(tmp_path / f"{word}.png") if word.isupper() else word for word in options]
    with pytest.raises(InputError) as error:
        CliRunner().invoke(
            app, ["sample", str(runs[run]), "--out", str(tmp_path / "out"), *options], catch_exceptions=False
        )
    assert said in str(error.value)
    assert not (tmp_path / "out").exists()


def test_bits_are_told_with_and_without_conditions(runs: dict[str, Path], tmp_path: Path) -> None:
    exact = evaluate_run(runs["autoregressive"], str(runs["data"]), "validate")["bits"]
    bound = evaluate_run(runs["maskgit"], str(runs["data"]), "validate")["bits"]
    assert (exact["exact"], bound["exact"]) == (True, False)
    for bits in (exact, bound):
        assert bits["told"] == ["slice", "age", "sex", "previous slice"]
        assert bits["told_per_code"]["mean"] != bits["per_code"]["mean"]
    hashed = evaluate_run(runs["maskgit"], str(runs["data"]), "validate", key=tmp_path / "key")
    assert hashed["bits"]["told_per_code"]["mean"] == bound["told_per_code"]["mean"]
    assert not {"004", "005"} & set(hashed["bits"]["per_subject"])
    whole = evaluate_run(runs["plain"], str(runs["data"]), "validate")
    plain = whole["bits"]
    assert whole["heads"] is None
    assert plain["told"] == []
    assert plain["told_per_code"] == plain["per_code"]


@pytest.mark.parametrize(("samples", "of_heads", "made"), [(6, 2, 8), (36, 9, 9)])
def test_heads_are_measured_beside_real_ones(
    samples: int, of_heads: int, made: int, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "LOOKED", 5)
    result = evaluate_run(runs["maskgit"], str(runs["data"]), "validate", samples=samples)
    assert result["samples"]["heads"] == of_heads, "heads of 4 slices"
    assert (result["samples"]["n"], len(result["per_sample"])) == (samples, 5)
    heads = result["heads"]
    assert (heads["n"], heads["real_n"], heads["slices"]) == (made, 2, 4)
    generator = load_generator(runs["maskgit"])
    one, two = (generator.images(generator.head(seed=0, number=number)) for number in (0, 1))
    both = generator.images(generator.heads([0, 1], seed=0))
    assert np.array_equal(both, np.concatenate([one, two]))
    for side in ("samples", "real"):
        assert 0 < heads[side]["neighbour_ssim"]["mean"] <= 1
        assert heads[side]["flicker"]["mean"] > 0


def test_what_cannot_be_learned_is_refused_before_images_are_encoded(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prior_experiment, "encode_split", lambda *_, **__: pytest.fail("encoded"))
    with pytest.raises(InputError, match="no column 'hight'"):
        trained("maskgit", runs["tokenizer"], runs["data"], tmp_path / "run", 'conditions.columns=["hight"]')
    experiment = override(preset("pixelcnn"), [*SMALL, 'conditions.columns=["slice"]'])
    assert isinstance(experiment, PriorExperiment)
    with pytest.raises(InputError, match="takes no conditions"):
        train_prior(experiment, runs["tokenizer"], runs["data"], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_table_is_needed_where_its_columns_are_asked_for(runs: dict[str, Path], tmp_path: Path) -> None:
    (runs["data"] / "subjects.csv").rename(tmp_path / "subjects.csv")
    try:
        with pytest.raises(InputError, match="no table of subjects"):
            trained("maskgit", runs["tokenizer"], runs["data"], tmp_path / "run", 'conditions.columns=["age"]')
        assert not (tmp_path / "run").exists()
    finally:
        (tmp_path / "subjects.csv").rename(runs["data"] / "subjects.csv")
