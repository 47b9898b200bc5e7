"""The report of a prior: its numbers and pictures, words for every part, nothing loaded or injected, and no crash."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic_core import to_jsonable_python

from brainvq import run as runs
from brainvq.codes import CodeSpec
from brainvq.config import kinds, part_config, to_json
from brainvq.errors import InputError
from brainvq.metrics.definitions import GENERATION
from brainvq.presets import preset
from brainvq.priors import dcgan, histogram
from brainvq.report import prior_methods, save_prior_examples, write_report
from brainvq.report.prior_examples import SHOWN, load_prior_examples
from brainvq.report.prose import SENTENCES
from brainvq.report.references import REFERENCES
from brainvq.training import adversarial
from brainvq.training.loop import TrainConfig
from brainvq.training.prior_experiment import PriorExperiment
from test_report import HOSTILE, Page, copied

SPEC, SIZE, SAMPLES = CodeSpec((8,), ((8, 8),)), (48, 40), 16
TOKENIZER, WEIGHTS = "a" * 64, "b" * 64
ORDER = torch.tensor([3, 0, 5, 1, 2, 7, 6])  # entry 4 does not occur
GAN = PriorExperiment(
    preset="dcgan", prior=dcgan.Config(), task=adversarial.Config(), train=TrainConfig(epochs=1.0, keep="last")
)


def begin(folder: Path, experiment: PriorExperiment | None = None, **changes: Any) -> Path:
    """A prior's run at its start, as training would write it."""
    experiment = preset("pixelcnn") if experiment is None else experiment  # type: ignore[assignment]
    splits = {
        name: {"subjects": subjects, "images": 3 * subjects, "fingerprint": name * 8}
        for name, subjects in (("train", 9), ("validate", 5))
    }
    config = runs.describe_run(
        kind="prior",
        experiment=to_json(experiment),  # type: ignore[arg-type]
        command="brainvq train x --tokenizer y",
        data={"name": "scans", "splits": splits, "size": list(SIZE), "mean": -0.5, "variance": 0.2},
        model=histogram.Config().build(SPEC, SIZE),
        spec=SPEC,
        steps=40,
    )
    config |= {"size": list(SIZE), "tokenizer": {"path": "../t", "preset": "small", "weights_sha256": TOKENIZER}}
    runs.start(folder, config | changes, resume=False)
    return folder


def log(folder: Path, steps: int, *, gan: bool = False) -> None:
    lines: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        two = {"generator": 1.5, "discriminator": 0.9, "real": 0.7, "fake": 0.2} if gan else {}
        lines.append({"event": "train", "step": step, "loss": 2 + 1 / step, **two})
        seen = {"live_share": 0.8} if gan else {"bits_per_code": 2.1}
        lines.append({"event": "validate", "step": step, **seen})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


def evaluation(*, likelihood: bool = True) -> dict[str, Any]:
    """What an evaluation on validate would have found; numbers that occur nowhere else."""
    bits = {
        "per_code": interval(2.1357),
        "per_pixel": interval(0.0334),
        "histogram_per_code": interval(2.6789),
        "saved": interval(0.2028),
        "nominal_per_code": 3,
        "nominal_per_pixel": 0.0469,
        "per_subject": {f"s{i}": 2 + i / 10 for i in range(5)},
    }
    near = ("nearest_train", "nearest_train_as_many", "nearest_validate")
    return {
        "kind": "prior",
        "split": "validate",
        "model": {"preset": "pixelcnn", "weights_sha256": WEIGHTS},
        "tokenizer": {"preset": "small", "weights_sha256": TOKENIZER},
        "data": {"images": 15, "subjects": 5, "fingerprint": "validate" * 8, "train_images": 27, "train_subjects": 9},
        "bits": bits if likelihood else None,
        "samples": {"n": SAMPLES, "seed": 7, "seconds_each": 0.43},
        "real": {"n": 15, "subjects": 5},
        "measures": {
            "described_ssim": {"best_batch": 0.6111, "mean_batch": 0.5222, "batches": 17},
            "real_described_ssim": {"best_batch": 0.6444, "mean_batch": 0.5222, "batches": 17},
            **{name: interval(0.7101 + i / 100) for i, name in enumerate(near)},
            **{f"real_{name}": interval(0.6101 + i / 100) for i, name in enumerate(near)},
            "diversity": {"samples": 0.5333, "real": 0.4888},
            "live_entries": {"samples": 0.857, "real": 1.0},
        },
        "per_sample": [
            {"nearest_train": {"index": i, "subject": f"s{i}", "correlation": 0.9, "ssim": 0.7 + i / 100}}
            for i in range(SAMPLES)
        ],
        "definitions": {name: measure.definition for name, measure in GENERATION.items()},
    }


def pictures(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (SAMPLES, *SIZE), np.uint8)


def codes(seed: int) -> tuple[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (ORDER[torch.randint(len(ORDER), (SAMPLES, 6, 5), generator=generator)],)


def keep(folder: Path, result: dict[str, Any]) -> Path:
    return save_prior_examples(
        folder,
        result,
        codes=codes(0),
        images=pictures(0),
        nearest=pictures(1),
        real_codes=codes(1),
        real_images=pictures(2),
        orders=(ORDER,),
    )


def evaluated(folder: Path, *, gan: bool = False) -> Path:
    """A run that is trained and evaluated."""
    begin(folder, GAN if gan else None, steps=40, images_seen=640, wall_time_s=75.0, weights_sha256=WEIGHTS)
    log(folder, 40, gan=gan)
    result = evaluation(likelihood=not gan)
    (folder / "evaluation").mkdir()
    runs.write_json(folder / "evaluation" / "validate.json", result)
    keep(folder, result)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(tmp_path_factory.mktemp("runs") / "first")


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(write_report(run))


def test_the_page_needs_nothing_from_outside(page: Page) -> None:
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.elements:
        for name in ("src", "srcset", "href", "data", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"@import|https?:|url\((?!#)", page.source)
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")


def test_the_page_is_well_formed(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    inside = set(re.findall(r"url\(#([^)]+)\)", page.source)) | {a["href"][1:] for a in page.all("a")}
    assert inside <= set(ids)
    assert [name for name, _ in page.elements if name == "h1"] == ["h1"]
    assert not page.open, "every element is closed"


def test_every_picture_has_words(page: Page) -> None:
    images, diagrams = page.all("img"), page.all("svg")
    assert len(images) == 6 * SHOWN, "samples, real ones, the codes of both, samples again beside their neighbours"
    assert all(len(image["alt"]) > 20 for image in images)
    assert {svg["aria-label"].partition(" ")[0] for svg in diagrams} == {"Bits", "Mean", "SSIM"}
    assert all(svg["role"] == "img" and len(svg["aria-label"]) > 20 for svg in diagrams)


def test_numbers_are_those_of_the_evaluation(page: Page) -> None:
    for number in ("2.136", "[2.126, 2.146]", "2.679", "20.3 %", "[19.3, 21.3]", "0.0334", "0.0469"):  # bits
        assert number in page.text, number
    for number in ("0.7101", "[0.7001, 0.7201]", "0.6101", "0.7201", "0.6201", "0.7301", "0.6301"):  # nearest
        assert number in page.text, number
    for number in ("0.5333", "0.4888", "85.7 %", "100.0 %", "0.43", "0.6111", "0.5222", "0.6444", "0.63", "17 batches"):
        assert number in page.text, number
    for i in range(SHOWN):
        assert f"SSIM {0.7 + i / 100:.3f}, correlation 0.900, subject s{i}" in page.text


def test_the_page_says_what_it_must(page: Page) -> None:
    assert "27 training images" in page.text
    assert "beside 15 real images" in page.text
    assert "15 images of 5 subjects not seen in training" in page.text
    assert "6\u00a0×\u00a05 codes of 8 entries for an image of 48\u00a0×\u00a040 pixels" in page.text
    assert "samples 0 to 11 of the sequence of seed 7" in page.text
    assert "Not a medical device" in page.text
    assert page.text.count("Not audited for copies of training subjects") == 2
    assert "share it as you may share them" in page.text


def test_methods_state_what_was_done(page: Page) -> None:
    text = page.text[page.text.index("Ready to paste") :]
    for told in (
        "27 images of 9 subjects for training",
        f"tokenizer of the preset small (the SHA-256 of its weights is {TOKENIZER})",
        "gated PixelCNN (van den Oord et al. 2016)",
        "6 x 5 codes out of 8 entries (3 bits each)",
        "40 steps of 16 images (640 images, 23.7 passes)",
        "16 samples were drawn with seed 7",
        GENERATION["nearest_train"].definition,
        "not audited for copies of training subjects",
        "Conditional image generation with PixelCNN decoders",
    ):
        assert told in text, told
    assert "Goodfellow" not in text, "only what was used is cited"


def test_a_gan_shows_both_networks_and_no_bits(tmp_path: Path) -> None:
    page = Page(write_report(evaluated(tmp_path / "gan", gan=True)))
    shown = " ".join(svg["aria-label"] for svg in page.all("svg"))
    for told in ("generator 1.5, discriminator 0.9", "0.70 for real and 0.20 for generated", "80% at the end"):
        assert told in shown, told
    assert "has no likelihood" in page.text
    assert "Bits a code" not in page.text
    assert "by binary cross entropy (Goodfellow et al. 2014)" in page.text
    names = {path.stem for path in (tmp_path / "gan" / "figures").glob("*.png")}
    assert names == {"losses_curve", "probabilities_curve", "live_share_curve", "nearest", "samples"}


def test_a_histogram_is_not_said_to_be_trained(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", preset("histogram"))  # type: ignore[arg-type]
    text = Page(write_report(folder)).text
    assert "the codes of the training split were counted once" in text
    assert "Nothing was trained by steps" in text
    assert "Adam" not in text
    log(folder, 10)
    assert not Page(write_report(folder)).all("svg"), "one step is no curve"


def test_figures_lie_beside_it(run: Path, page: Page) -> None:
    names = {path.stem for path in (run / "figures").glob("*.png")}
    assert names == {"bits_curve", "bits_subjects", "nearest", "samples"}
    for path in (run / "figures").iterdir():
        with Image.open(path) as picture:
            assert picture.width > 600


def test_the_report_is_a_function_of_the_run(run: Path, page: Page) -> None:
    assert Page(write_report(run)).source == page.source


def test_examples_are_the_first_ones(tmp_path: Path) -> None:
    found = load_prior_examples(keep(tmp_path, evaluation()))
    assert len(found.samples) == len(found.real) == len(found.nearest) == SHOWN
    for i in range(SHOWN):
        np.testing.assert_array_equal(found.samples[i], pictures(0)[i])
        np.testing.assert_array_equal(found.nearest[i], pictures(1)[i])
        np.testing.assert_array_equal(found.real[i], pictures(2)[i])
        assert found.about.samples[i] == [codes(0)[0][i].tolist()]
        assert found.about.nearest[i].subject == f"s{i}"
    assert found.ranks(0)[:8] == [1, 3, 4, 0, None, 2, 6, 5], "from dark to bright"


def test_a_run_in_training_says_so(tmp_path: Path) -> None:
    folder = begin(tmp_path / "my run")
    text = Page(write_report(folder)).text
    assert "step 0 of 40" in text
    assert "The log holds no training steps yet" in text
    log(folder, 20)
    page = Page(write_report(folder))
    assert "step 20 of 40" in page.text
    assert "brainvq train pixelcnn --tokenizer TOKENIZER --data DATA --out 'my run' --resume" in page.text
    assert "brainvq evaluate 'my run' --data DATA" in page.text
    assert "brainvq sample 'my run' -n 64 --out DIR" in page.text
    assert "training had not ended" in page.text
    assert len(page.all("svg")) == 1
    assert str(tmp_path) not in page.source, "a page tells no path of the machine"


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run<b>$y$", command=HOSTILE, preset=HOSTILE, versions={HOSTILE: HOSTILE})
    config = runs.read_config(folder)
    config["experiment"]["preset"] = HOSTILE
    config["tokenizer"] = {"preset": HOSTILE, "weights_sha256": HOSTILE}
    config["parameters"] = {HOSTILE: 1}
    config["data"]["name"] = HOSTILE
    runs.write_json(folder / "config.json", config)
    log(folder, 20)
    result = evaluation()
    result["model"] = {"preset": HOSTILE, "weights_sha256": HOSTILE}
    result["bits"]["per_subject"] = {HOSTILE: 1.0}
    for found in result["per_sample"]:
        found["nearest_train"]["subject"] = HOSTILE
    (folder / "evaluation").mkdir()
    runs.write_json(folder / "evaluation" / "validate.json", result)
    keep(folder, result)
    page = Page(write_report(folder))
    assert len(page.all("img")) == 6 * SHOWN
    assert not page.all("script")
    assert not page.all("b>$y$")
    assert "<script" not in page.source
    assert f"subject {HOSTILE}" in page.text
    assert "another tokenizer than this prior was trained on" in page.text
    assert not [name for name, attributes in page.elements if any("script" in key for key in attributes)]


@pytest.mark.parametrize("damage", ["", "[]", '{"kind": "prior"}', '{"format": 1, "split": "validate"}'])
def test_a_damaged_evaluation_is_named(tmp_path: Path, damage: str) -> None:
    folder = begin(tmp_path / "run")
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "validate.json").write_text(damage)
    text = Page(write_report(folder)).text
    assert "evaluation/validate.json is damaged" in text
    assert "brainvq evaluate run --data DATA" in text


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    folder, result = begin(tmp_path / "run"), evaluation()
    result["measures"] = {"diversity": {"samples": None, "real": None}}
    result["samples"]["seconds_each"] = None
    (folder / "evaluation").mkdir()
    runs.write_json(folder / "evaluation" / "validate.json", result)
    text = Page(write_report(folder)).text
    assert "2.136" in text
    for absent in (GENERATION["nearest_train"], GENERATION["described_ssim"], GENERATION["diversity"]):
        assert absent.definition not in text, absent.label
    assert "Seconds a sample" not in text


def test_pictures_of_other_weights_are_not_shown(tmp_path: Path, run: Path) -> None:
    folder, result = copied(run, tmp_path / "run"), evaluation()
    result["model"]["weights_sha256"] = "0" * 64
    runs.write_json(folder / "evaluation" / "validate.json", result)
    page = Page(write_report(folder))
    assert not page.all("img")
    assert "evaluated with earlier weights" in page.text
    assert "pictures of this evaluation are not in the run" in page.text


@pytest.mark.parametrize("name", ["examples.json", "sample_00.png", "real_03.png", "nearest_11.png"])
def test_damaged_pictures_are_left_out(tmp_path: Path, run: Path, name: str) -> None:
    folder = copied(run, tmp_path / "run")
    (folder / "evaluation" / "examples" / "validate" / name).write_bytes(b"x")
    page = Page(write_report(folder))
    assert not page.all("img")
    assert "pictures of this evaluation are not in the run" in page.text


@pytest.mark.parametrize(
    "change",
    [
        {"orders": [[]]},
        {"orders": [[-1]]},
        {"orders": [[10**12]]},
        {"orders": []},
        {"nearest": []},
        {"samples": []},
        {"samples": [[[[0, 1], [2]]]]},
    ],
)
def test_examples_that_contradict_themselves_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = keep(tmp_path, evaluation()) / "examples.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=r"examples\.json"):
        load_prior_examples(path.parent)


def test_a_damaged_config_is_refused(tmp_path: Path) -> None:
    folder = begin(tmp_path / "run", tokenizer={"preset": "x"})
    with pytest.raises(InputError, match=r"config\.json is damaged: tokenizer\.weights_sha256"):
        write_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    "kind", [k for folder in ("networks", "quantizers", "tokenizers", "priors", "training") for k in kinds(folder)]
)
def test_every_part_has_its_words(kind: str) -> None:
    assert kind in SENTENCES
    fields = {name: field for name, field in part_config(kind).model_fields.items() if not field.is_required()}
    values = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    told = SENTENCES[kind](to_jsonable_python(values))
    assert told.endswith(".")
    assert "None" not in told
    for author in re.findall(r"[(,] ?((?:van den )?[A-Z]\w+ (?:and \w+ |et al\. )(?:19|20)\d\d)", told):
        assert author in REFERENCES, author


@pytest.mark.parametrize(
    "ending",
    ["0.7 by chance; the closest are in pairs.png.", "0.0 by chance; look at those flagged, in pairs.png.",
     "than held-out slices are (0.7 by chance): look at pairs.png."],
)  # fmt: skip
def test_methods_name_no_file_of_the_audit(ending: str) -> None:
    text = prior_methods.audit(cast("Any", SimpleNamespace(audit=SimpleNamespace(sentence=f"7 samples, {ending}"))))
    assert "pairs.png" not in text
    assert "by chance" in text
    assert text.endswith(".")
