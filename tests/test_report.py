"""The report of a run: numbers that are those of the run, nothing that is loaded or injected, and no crash."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from brainvq import models
from brainvq import run as runs
from brainvq.codes import Codes
from brainvq.config import override, to_json
from brainvq.data.loader import Cache, open_cache
from brainvq.data.sources import Source, open_splits
from brainvq.errors import InputError
from brainvq.evaluate import evaluate, mean_image
from brainvq.metrics.definitions import MEASURES
from brainvq.presets import preset
from brainvq.quantizers import residual, vq
from brainvq.quantizers.base import QuantizerConfig
from brainvq.report import drawings, save_examples, write_report
from brainvq.report.examples import choose, load_examples
from brainvq.report.ink import panel, style
from brainvq.report.markup import Html, tag
from brainvq.report.pictures import code_colours, error_colours
from heads import heads

SUBJECTS, SLICES, SIZE = 5, 3, (44, 40)
HOSTILE = "<script>alert(1)</script>\"'&$x_1$"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(self.source)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, {key: value or "" for key, value in attributes}))

        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(name, attributes)
        self.handle_endtag(name) if name not in VOID else None

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name, "elements are closed in their order"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for found, attributes in self.elements if found == name]


class Model:
    """An untrained tokenizer, through the interface of a pipeline."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = models.open_model(folder).tokenizer
        self.spec = self.tokenizer.spec

    @torch.no_grad()
    def reconstruct_batch(self, x: torch.Tensor) -> tuple[torch.Tensor, Codes]:
        codes = self.tokenizer.encode(x)
        return self.tokenizer.decode(codes), codes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Source, Cache]]:
    root = tmp_path_factory.mktemp("data") / "scans"
    for i, image in enumerate(heads(2 * SUBJECTS * SLICES, SIZE, 0)):
        folder = root / f"keras_png_slices_{'train' if i < SUBJECTS * SLICES else 'validate'}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"case_{i // SLICES:03}_slice_{i % SLICES}.nii.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINVQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {name: (source, open_cache(source, multiple=(8, 8))) for name, source in open_splits(root).items()}


def begin(
    folder: Path, data: dict[str, tuple[Source, Cache]], quantizer: QuantizerConfig | None = None, **changes: Any
) -> Path:
    """A run at its start, as training would write it."""
    torch.manual_seed(0)
    experiment = override(preset("keras_f8_ema"), ["tokenizer.quantizer.entries=16", "train.steps=40"])
    if quantizer is not None:
        parts = experiment.tokenizer.model_copy(update={"quantizer": quantizer})  # type: ignore[attr-defined]
        experiment = experiment.model_copy(update={"tokenizer": parts})
    tokenizer = experiment.tokenizer.build()  # type: ignore[attr-defined]
    splits = {
        name: {"subjects": SUBJECTS, "images": len(cache), "fingerprint": cache.fingerprint}
        for name, (_, cache) in data.items()
    }
    train = data["train"][1]
    facts = {
        "name": "scans",
        "splits": splits,
        "size": list(train.size),
        "mean": train.mean,
        "variance": train.variance,
    }
    config = runs.describe_run(
        kind="tokenizer",
        experiment=to_json(experiment),
        command="brainvq train x",
        data=facts,
        model=tokenizer,
        spec=tokenizer.spec,
        steps=40,
    )
    runs.start(folder, config | changes, resume=False)
    runs.save_weights(folder, dict(tokenizer.state_dict()))
    return folder


def log(folder: Path, steps: int) -> None:
    lines: list[dict[str, Any]] = []
    for step in range(10, steps + 1, 10):
        loss = 1 / step
        lines.append(
            {"event": "train", "step": step, "images": 16 * step, "seconds": step / 10, "loss": 1.25 * loss}
            | {"reconstruction": loss, "commitment": loss / 4}
        )
        lines.append(
            {"event": "validate", "step": step, "loss": loss, "reconstruction": loss, "ssim": 0.5, "seconds": 1}
            | {"live_entries": 12, "perplexity": 9.5, "commitment": 0.1}
        )
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: dict[str, tuple[Source, Cache]]) -> Path:
    """A run that is trained and evaluated."""
    folder = begin(tmp_path_factory.mktemp("runs") / "first", data)
    log(folder, 40)
    return evaluated(folder, data)


def evaluated(folder: Path, data: dict[str, tuple[Source, Cache]]) -> Path:
    runs.finish(folder, steps=40, images_seen=640, wall_time_s=75.0)
    model, (source, cache) = Model(folder), data["validate"]
    about = {"preset": "keras_f8_ema", "weights_sha256": runs.read_config(folder)["weights_sha256"]}
    train_mean = mean_image(data["train"][1])
    result = evaluate(model, source, cache, split="validate", model=about, train_mean=train_mean)
    (folder / "evaluation").mkdir()
    runs.write_json(folder / "evaluation" / "validate.json", result)
    save_examples(folder, model, cache, result)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(write_report(run))


def evaluation(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "evaluation" / "validate.json").read_text())
    return values


def test_the_page_needs_nothing_from_outside(page: Page) -> None:
    assert not page.all("script")
    assert not page.all("link")
    for _, attributes in page.elements:
        for name in ("src", "srcset", "href", "data", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,"))
        assert not [name for name in attributes if name.startswith("on")]
    assert "@import" not in page.source
    assert "http:" not in page.source
    assert "https:" not in page.source
    assert not re.search(r"url\((?!#|data:image/png;base64,)", page.source)
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")


def test_every_picture_has_words(page: Page) -> None:
    images, diagrams = page.all("img"), page.all("svg")
    assert len(images) == 3 * 4 + 6
    assert len(diagrams) == 9
    assert all(len(image["alt"]) > 20 for image in images)
    assert all(svg["role"] == "img" and len(svg["aria-label"]) > 20 for svg in diagrams)
    assert len({svg["aria-label"] for svg in diagrams}) == len(diagrams)


def test_cards_tell_of_the_entries(run: Path, page: Page) -> None:
    stored = json.loads((run / "evaluation" / "examples" / "validate" / "examples.json").read_text())
    (level,) = stored["codebook"]["levels"]
    cards = [attributes for _, attributes in page.elements if attributes.get("class") == "entry"]
    assert len(cards) == len(level["shown"]) > 1
    for card, entry in zip(cards, level["shown"], strict=True):
        assert card["role"] == "img"
        assert card["aria-label"].startswith(f"Entry {entry['entry']}: ")
        assert f"Nearest: {', '.join(map(str, entry['near']))}." in card["aria-label"]
    assert f"{level['used']} of 16 entries" in page.text
    assert f"subject {level['swapped']['subject']}" in page.text


def test_a_run_that_an_earlier_version_has_evaluated_says_what_to_do(tmp_path: Path, run: Path) -> None:
    folder = copied(run, tmp_path / "run")
    path = folder / "evaluation" / "examples" / "validate" / "examples.json"
    about = json.loads(path.read_text())
    del about["codebook"]
    path.write_text(json.dumps(about))
    page = Page(write_report(folder))
    assert len(page.all("img")) == 3 * 4
    assert "The patches of the entries are not in the run" in page.text
    assert "brainvq evaluate run --data DATA" in page.text


def test_every_level_is_explained(tmp_path: Path, data: dict[str, tuple[Source, Cache]]) -> None:
    stages = (vq.Config(entries=64, initial_range=0.05), vq.Config(entries=32, initial_range=0.05))
    page = Page(write_report(evaluated(begin(tmp_path / "run", data, residual.Config(stages=stages)), data)))
    for level in (1, 2):
        assert f"What the entries stand for, level {level} of 2" in page.text
        assert f"How far one code reaches, level {level}" in page.source
    assert "the patches of the coarser levels are taken away" in page.text
    assert "Stage 2: Each vector of the encoder is replaced by the nearest of 32 codebook entries" in page.text
    labels = [svg["aria-label"] for svg in page.all("svg")]
    assert len(set(labels)) == len(labels)


def test_the_page_is_well_formed(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    inside = set(re.findall(r"url\(#([^)]+)\)", page.source)) | {
        element["href"][1:] for element in (*page.all("use"), *page.all("a"))
    }
    assert inside <= set(ids)
    assert [name for name, _ in page.elements if name == "h1"] == ["h1"]
    assert not page.open, "every element is closed"


def test_numbers_are_those_of_the_evaluation(run: Path, page: Page) -> None:
    result = evaluation(run)
    for name, found in result["measures"].items():
        digits = 2 if MEASURES[name].unit else 4
        assert f"{found['mean']:.{digits}f}" in page.text, name
        assert f"[{found['low']:.{digits}f}, {found['high']:.{digits}f}]" in page.text, name
    for baseline in result["baselines"].values():
        assert f"{baseline['ssim']['mean']:.4f}" in page.text
    usage = result["usage"]
    assert f"{usage['live_entries']} of 16" in page.text
    for rate in ("nominal", "entropy", "held_out"):
        assert f"{usage[f'{rate}_bits_per_pixel']:.4f}" in page.text


def test_methods_tell_of_a_discriminator_and_of_what_fine_tuning_held(data, tmp_path: Path) -> None:
    origin = {"preset": "small", "weights_sha256": "c" * 64, "codebook": "frozen", "encoder": "frozen"}
    folder = begin(tmp_path / "sharp", data, finetuned_from=origin)
    config = runs.read_config(folder)
    config["experiment"]["task"]["patches"] = {"weight": 0.25, "scales": 2, "widths": [16, 32], "learning_rate": 2e-4}
    runs.write_json(folder / "config.json", config)
    log(folder, 40)
    text = Page(write_report(folder)).text
    for told in (
        "Training began with the weights of small (SHA-256 cccccccccccccccc); its encoder and codebook did not learn.",
        "Discriminators of patches (Isola et al. 2017) at 2 scales (Wang 2018; of means of 2 x 2 pixels and three Haar "
        "details, 16 and 32 channels",
        "together 0.25 times that of the other terms (after Esser et al. 2021)",
        "Spectral normalization for generative adversarial networks",
    ):
        assert told in text, told


def test_methods_state_what_was_done(run: Path, page: Page) -> None:
    text = page.text[page.text.index("Ready to paste") :]
    for told in (
        f"{SUBJECTS * SLICES} images of {SUBJECTS} subjects for training",
        "40 steps of 16 images (640 images, 42.7 passes)",
        "6 x 5 codes out of 16 entries (4 bits each)",
        "96,542 (encoder)",
        "learning rate of 0.002 that falls to zero along half a cosine, after a linear warm-up of 100 steps",
        "with seed 0",
        "It ran in 1 min",
        torch.__version__,
        "Neural discrete representation learning",
    ):
        assert told in text, told
    for name, definition in evaluation(run)["definitions"].items():
        assert (definition in text) == (name not in MEASURES or name in evaluation(run)["measures"]), name
    assert "AdamW" not in text, "only what was used is cited"


def test_figures_lie_beside_it(run: Path, page: Page) -> None:
    names = {path.stem for path in (run / "figures").glob("*.png")}
    assert names >= {"loss_curve", "reconstruction_curve", "quantization_curve", "ssim_curve", "codebook", "examples"}
    for path in (run / "figures").iterdir():
        with Image.open(path) as picture:
            assert picture.width > 600


def test_the_sheet_shows_codes_as_large_as_the_image_without_its_padding() -> None:
    axes = Figure().subplots()
    drawings._codes(axes, np.zeros((24, 32, 3), np.uint8), (8, 8), (188, 250))
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 250), (188, 0))
    assert axes.images[0].get_extent() == [0, 256, 192, 0]


def test_one_subject_is_no_part_of_one() -> None:
    with style("x"):
        _, axes = panel("SSIM", "subjects")
        axes.scatter([1], [0.9])
        assert all(tick == round(tick) for tick in axes.get_xticks())


def test_the_report_is_a_function_of_the_run(run: Path, page: Page) -> None:
    assert Page(write_report(run)).source == page.source


def test_examples_are_the_images_of_the_subjects(run: Path, data: dict[str, tuple[Source, Cache]]) -> None:
    examples, cache = load_examples(run / "evaluation" / "examples" / "validate"), data["validate"][1]
    per_subject = evaluation(run)["per_subject"]
    ranked = sorted(per_subject, key=lambda name: per_subject[name]["ssim"])
    assert [item.about.subject for item in examples.items] == [ranked[2], ranked[-1], ranked[0]]
    model = Model(run)
    for item in examples.items:
        first = cache.subjects.index(item.about.subject)
        index = first + item.about.slice - 1
        np.testing.assert_array_equal(item.original, cache.images[index])
        x = cache.batch([index])
        assert model.tokenizer.encode(x)[0][0].tolist() == item.about.codes[0]
        assert item.reconstruction.shape == SIZE, "padding is cut off"


def test_chosen_subjects_are_different() -> None:
    assert choose({"a": 0.5}) == {"typical": "a"}
    assert choose({"a": 0.5, "b": 0.6}) == {"typical": "a", "best": "b"}
    assert choose({"a": 0.1, "b": 0.9, "c": 0.5}) == {"typical": "c", "best": "b", "worst": "a"}


def test_hostile_text_stays_text(tmp_path: Path, run: Path, data: dict[str, tuple[Source, Cache]]) -> None:
    changes: dict[str, Any] = {
        "command": HOSTILE,
        "versions": {HOSTILE: HOSTILE},
        "preset": HOSTILE,
        "parameters": {HOSTILE: 1},
    }
    folder = begin(tmp_path / "run<b>$y$", data, **changes)
    config = runs.read_config(folder)
    config["experiment"]["preset"] = HOSTILE
    config["experiment"]["data"]["subject_pattern"] = HOSTILE
    config["data"]["name"] = HOSTILE
    config["hardware"] |= {"cpu": HOSTILE, "gpu": HOSTILE}
    config["data"]["splits"][HOSTILE] = config["data"]["splits"]["train"] | {"fingerprint": HOSTILE}
    runs.write_json(folder / "config.json", config)
    log(folder, 20)
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps({"event": "note", "step": HOSTILE, "message": HOSTILE}) + "\n")
    result = json.loads(json.dumps(evaluation(run)).replace(json.dumps(worst(run)), json.dumps(HOSTILE)))
    result["data"]["name"] = HOSTILE
    result["model"]["preset"] = HOSTILE
    result["definitions"] |= {"ssim": HOSTILE, HOSTILE: HOSTILE}
    result["baselines"][HOSTILE] = result["baselines"]["black"]
    (folder / "evaluation").mkdir()
    runs.write_json(folder / "evaluation" / "validate.json", result | {"model": {"preset": HOSTILE}})
    page = Page(write_report(folder))
    assert not page.all("script")
    assert not page.all("b>$y$")
    assert HOSTILE in page.text
    assert "<script" not in page.source
    assert not [name for name, attributes in page.elements if any("script" in key for key in attributes)]


def worst(run: Path) -> str:
    per_subject: dict[str, dict[str, float]] = evaluation(run)["per_subject"]
    return min(per_subject, key=lambda name: per_subject[name]["ssim"])


def test_a_run_in_training_says_so(tmp_path: Path, data: dict[str, tuple[Source, Cache]]) -> None:
    folder = begin(tmp_path / "my run", data)
    page = Page(write_report(folder))
    assert "step 0 of 40" in page.text
    log(folder, 20)
    page = Page(write_report(folder))
    assert "step 20 of 40" in page.text
    assert "brainvq train keras_f8_ema --data DATA --out 'my run' --resume" in page.text
    assert "brainvq evaluate 'my run' --data DATA" in page.text
    assert "training had not ended" in page.text
    assert len(page.all("svg")) == 6
    assert str(tmp_path) not in page.source, "a page tells no path of the machine"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}', '{"format": 2}'])
def test_a_damaged_evaluation_is_named(tmp_path: Path, data: dict[str, tuple[Source, Cache]], damage: str) -> None:
    folder = begin(tmp_path / "run", data)
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "validate.json").write_text(damage)
    text = Page(write_report(folder)).text
    assert "evaluation/validate.json is damaged" in text
    assert "brainvq evaluate run --data DATA" in text


def test_pictures_of_other_weights_are_not_shown(tmp_path: Path, run: Path) -> None:
    folder = copied(run, tmp_path / "run")
    result = evaluation(folder)
    result["model"]["weights_sha256"] = "0" * 64
    runs.write_json(folder / "evaluation" / "validate.json", result)
    page = Page(write_report(folder))
    assert not page.all("img")
    assert "evaluated with earlier weights" in page.text
    assert "pictures of this evaluation are not in the run" in page.text


@pytest.mark.parametrize("name", ["examples.json", "typical_original.png", "codebook_0_maps.png"])
def test_damaged_pictures_are_left_out(tmp_path: Path, run: Path, name: str) -> None:
    folder = copied(run, tmp_path / "run")
    (folder / "evaluation" / "examples" / "validate" / name).write_bytes(b"x")
    page = Page(write_report(folder))
    assert not page.all("img")
    assert "pictures of this evaluation are not in the run" in page.text


def copied(run: Path, to: Path) -> Path:
    for path in run.rglob("*"):
        if path.is_file() and "checkpoints" not in path.parts:
            (to / path.relative_to(run)).parent.mkdir(parents=True, exist_ok=True)
            (to / path.relative_to(run)).write_bytes(path.read_bytes())
    return to


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run"):
        write_report(tmp_path)
    runs.write_json(tmp_path / "config.json", {"format": 1, "preset": "x"})
    with pytest.raises(InputError, match=r"config\.json is damaged: command"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_markup_escapes_all_but_markup() -> None:
    assert tag("p", "<b>", Html("<i></i>"), title='"<') == '<p title="&quot;&lt;">&lt;b&gt;<i></i></p>'
    assert unescape(tag("p", HOSTILE)[3:-4]) == HOSTILE


def test_colours_of_errors_and_codes() -> None:
    original = np.full((2, 2), 100, np.uint8)
    copy = np.array([[100, 0], [124, 255]], np.uint8)
    colours = error_colours(original, copy)
    assert colours[0, 0].tolist() == [0, 0, 0]
    assert colours[0, 1, 2] > colours[0, 1, 0], "too dark is blue"
    assert colours[1, 1, 0] > colours[1, 1, 2], "too bright is orange"
    assert 0 < colours[1, 0].sum() < colours[1, 1].sum()
    shown = code_colours([[0, 1], [2, 3]], [200.0, None, 10.0, 100.0]).astype(int).sum(axis=-1)
    assert shown[1, 0] < shown[1, 1] < shown[0, 0], "darker entries have darker colours"
