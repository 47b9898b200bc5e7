"""Evaluation of a small folder by a model that is easy to reckon with."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from brainvq.codes import Codes, CodeSpec
from brainvq.data.loader import Cache, open_cache
from brainvq.data.sources import Source, open_splits
from brainvq.errors import InputError
from brainvq.evaluate import compare, evaluate, mean_image
from brainvq.metrics.definitions import MEASURES
from brainvq.metrics.distortion import distortion
from brainvq.tables import difference_table, rows, table
from heads import heads, to_x

SUBJECTS, SLICES, SIZE = 4, 3, (44, 40)


class Blocks:
    """Means of 8 x 8 pixels in 16 grey levels, plus an error of its own in [-1, 1]."""

    spec = CodeSpec((16,), ((8, 8),))

    def __init__(self, error: float = 0.0) -> None:
        self.error, self.batches = error, 0

    def reconstruct_batch(self, x: torch.Tensor) -> tuple[torch.Tensor, Codes]:
        self.batches += 1
        means = torch.nn.functional.avg_pool2d(x, 8)
        codes = ((means + 1) / 2 * 15).round().long()
        return (codes / 15 * 2 - 1).repeat_interleave(8, 2).repeat_interleave(8, 3) + self.error, (codes[:, 0],)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Cache]:
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINVQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        source = write(root / "scans")
        return source, open_cache(source, multiple=(8, 8))


def write(root: Path, seed: int = 0, masks: bool = True) -> Source:
    images = heads(2 * SUBJECTS * SLICES, SIZE, seed)
    for part in ("train", "validate", "seg_validate"):
        (root / f"keras_png_slices_{part}").mkdir(parents=True)
    for i, image in enumerate(images):
        split, case = ("train", i // SLICES) if i < SUBJECTS * SLICES else ("validate", i // SLICES)
        name = f"{case:03}_slice_{i % SLICES}.nii.png"
        Image.fromarray(image).save(root / f"keras_png_slices_{split}" / f"case_{name}")
        if split == "validate" and masks:
            Image.fromarray(((image > 100) * 85).astype(np.uint8)).save(
                root / "keras_png_slices_seg_validate" / f"seg_{name}"
            )
    return open_splits(root)["validate"]


@pytest.fixture(scope="module")
def result(data: tuple[Source, Cache]) -> dict[str, Any]:
    return run(data, Blocks(), train_mean=mean_image(data[1]), model={"preset": "blocks"})


def run(data: tuple[Source, Cache], pipeline: Blocks, **options: Any) -> dict[str, Any]:
    return evaluate(pipeline, *data, split="validate", batch=5, **options)


def test_the_result_says_what_was_measured(result: dict[str, Any]) -> None:
    json.dumps(result, allow_nan=False)
    assert result["format"] == 1
    assert result["data"]["subjects"] == SUBJECTS
    assert result["data"]["images"] == SUBJECTS * SLICES
    assert result["data"]["size"] == list(SIZE)
    assert result["model"] == {"preset": "blocks"}
    assert list(result["measures"]) == list(MEASURES)
    assert result["measures"].keys() <= result["definitions"].keys()
    assert result["usage"]["images"] == SUBJECTS * SLICES
    assert result["usage"]["held_out_bits_per_pixel"] > 0
    assert result["usage"]["nominal_bits_per_pixel"] == 6 * 5 * 4 / (44 * 40), "reckoned to pixels without padding"


def test_padding_is_not_measured(data: tuple[Source, Cache], result: dict[str, Any]) -> None:
    source, cache = data
    assert cache.size == (48, 40), "the test needs padding"
    x = cache.batch(range(len(cache)))
    x_hat = Blocks().reconstruct_batch(x)[0]
    brain = np.stack([source.mask(i) for i in range(len(cache))]) > 0
    found = distortion(x[..., :44, :], x_hat[..., :44, :], brain=brain).columns()
    for name in MEASURES:
        assert result["measures"][name]["mean"] == pytest.approx(found[name].mean()), name


def test_subjects_average_to_the_whole(result: dict[str, Any]) -> None:
    by_subject = result["per_subject"].values()
    assert len(by_subject) == SUBJECTS
    for name, found in result["measures"].items():
        total = sum(row[name] * row["images"] for row in by_subject)
        assert found["mean"] == pytest.approx(total / sum(row["images"] for row in by_subject)), name
        assert found["low"] <= found["mean"] <= found["high"], name


def test_the_baselines_are_what_they_say(data: tuple[Source, Cache], result: dict[str, Any]) -> None:
    x = to_x(np.stack([scan.voxels for scan in data[0]]))
    baselines = result["baselines"]
    assert list(baselines) == ["black", "mean_train_image", "previous_slice"]
    black = distortion(x, torch.full_like(x, -1))
    assert baselines["black"]["ssim"]["mean"] == pytest.approx(black.ssim.mean().item())
    mean = distortion(x, x.double().mean(0, keepdim=True).to(x).expand_as(x))
    assert baselines["mean_train_image"]["ssim"]["mean"] == pytest.approx(mean.ssim.mean().item(), abs=1e-5)
    later = [i for i in range(len(x)) if i % SLICES]
    previous = distortion(x[later], x[[i - 1 for i in later]])
    assert baselines["previous_slice"]["ssim"]["mean"] == pytest.approx(previous.ssim.mean().item())
    assert baselines["previous_slice"]["ssim"]["missing"] == SUBJECTS


def test_batches_do_not_matter(data: tuple[Source, Cache], result: dict[str, Any]) -> None:
    calls: list[tuple[int, int]] = []
    one = evaluate(Blocks(), *data, split="validate", batch=1, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i + 1, 12) for i in range(12)]
    assert "mean_train_image" not in one["baselines"]
    for name, found in one["measures"].items():
        assert found["mean"] == pytest.approx(result["measures"][name]["mean"], rel=1e-5), name
    assert one["usage"] == result["usage"]


def test_data_without_tissue_masks_has_no_brain_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINVQ_CACHE", str(tmp_path / "cache"))
    source = write(tmp_path / "scans", masks=False)
    found = run((source, open_cache(source, multiple=(8, 8))), Blocks())
    for rated in (found["measures"], *found["baselines"].values(), *found["per_subject"].values()):
        assert "ssim_brain" not in rated
        assert "ssim_foreground" in rated


def test_a_diverged_model_is_an_error_not_a_score(data: tuple[Source, Cache]) -> None:
    with pytest.raises(InputError, match="NaN"):
        run(data, Blocks(error=float("nan")))


def test_differences_are_paired(data: tuple[Source, Cache], result: dict[str, Any]) -> None:
    worse = run(data, Blocks(error=0.1), model={"preset": "worse"})
    compared = compare(result, worse)
    json.dumps(compared, allow_nan=False)
    assert compared["model"] == {"preset": "blocks"}
    assert compared["against"] == {"preset": "worse"}
    for name in ("ssim", "psnr", "mae"):
        found = compared["differences"][name]
        expected = result["measures"][name]["mean"] - worse["measures"][name]["mean"]
        assert found["mean"] == pytest.approx(expected)
        assert found["subjects_better"] == SUBJECTS, name
        assert (found["low"] > 0) == (MEASURES[name].better == "higher"), name
        backwards = compare(worse, result)["differences"][name]
        assert backwards["mean"] == pytest.approx(-expected)
        assert backwards["subjects_better"] == 0
    same = compare(result, result)["differences"]["ssim"]
    assert (same["mean"], same["low"], same["high"], same["subjects_better"]) == (0, 0, 0, 0)


def test_other_data_is_not_compared(result: dict[str, Any]) -> None:
    other = json.loads(json.dumps(result))
    other["data"]["fingerprint"] = "abc"
    with pytest.raises(InputError, match=f"{result['data']['fingerprint']}.*abc"):
        compare(result, other)
    other = json.loads(json.dumps(result))
    other["definitions"]["ssim"] = "with one window"
    with pytest.raises(InputError, match="ssim was measured by different definitions"):
        compare(result, other)


def test_tables_show_every_measure_beside_the_baselines(result: dict[str, Any]) -> None:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table(result))
    console.print(difference_table(compare(result, result)))
    shown = console.export_text()
    for word in ("12 images of 4 subjects", "previous slice", "bootstrap over subjects", "live entries", "of 16"):
        assert word in shown
    for measure in MEASURES.values():
        assert measure.label in shown
    assert {len(row) for row in rows(result)} == {5}
    headline = next(row for row in rows(result) if row[0] == "SSIM")
    assert headline[1].startswith(f"{result['measures']['ssim']['mean']:.4f} [")


def test_nothing_to_measure_is_an_error(data: tuple[Source, Cache]) -> None:
    class Empty:
        images = np.zeros((0, 8, 8), np.uint8)

    with pytest.raises(InputError, match="no images"):
        evaluate(Blocks(), data[0], Empty(), split="test")


def test_intervals_and_dashes_are_explained_where_they_occur(result: dict[str, Any]) -> None:
    def shown(values: dict[str, Any]) -> str:
        console = Console(width=140, record=True, file=io.StringIO())
        console.print(table(values))
        return console.export_text()

    assert "cannot be measured" not in shown(result)
    one = json.loads(json.dumps(result))
    one["data"] |= {"subjects": 1, "images": 1}
    for found in one["measures"].values():
        found |= {"low": None, "high": None}
    one["usage"]["held_out_bits_per_pixel"] = None
    text = shown(one)
    for words in ("1 image of 1 subject", "-: cannot be measured", "No intervals"):
        assert words in text
    assert "[...]" not in text
