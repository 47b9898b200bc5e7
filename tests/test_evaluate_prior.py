"""Evaluation of priors that are easy to reckon with, on the codes of a tokenizer that is easy to reckon with."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from brainvq.codes import Codes, CodeSpec
from brainvq.data.loader import Cache, open_cache
from brainvq.data.sources import open_source, open_splits
from brainvq.errors import InputError
from brainvq.evaluate_prior import Evaluated, evaluate_prior
from brainvq.evaluate_prior.neighbours import EightBit
from brainvq.metrics.definitions import GENERATION
from brainvq.metrics.distortion import ssim
from brainvq.metrics.generation import described_ssim, live_share, mean_pairwise_ssim, nearest, spread_over_subjects
from brainvq.models import Model, PriorModel
from brainvq.pipeline import Generator
from brainvq.priors import histogram
from brainvq.priors.base import Prior
from brainvq.priors.conditions import Given
from brainvq.priors.drawing import PLAIN, Drawing
from brainvq.tables import generation_rows, prior_table
from brainvq.tokenizers.base import Tokenizer
from brainvq.training.encoded import EncodedSplit, encode_split
from heads import heads, to_x

TRAIN, HELD_OUT, SLICES, SIZE = 8, 4, 3, (45, 40)
N = 9


class Blocks(Tokenizer):
    """Means of 2 x 2 pixels in 16 grey levels. An image of this size has a row of padding at its end."""

    spec = CodeSpec((16,), ((2, 2),))

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("place", torch.zeros(()))

    def encode(self, x: torch.Tensor) -> Codes:
        return (((torch.nn.functional.avg_pool2d(x, 2)[:, 0] + 1) / 2 * 15).round().long(),)

    def decode(self, codes: Codes) -> torch.Tensor:
        return (codes[0] / 15 * 2 - 1)[:, None].repeat_interleave(2, 2).repeat_interleave(2, 3)


class Memoriser(histogram.Histogram):
    """Samples are train images, every second one."""

    def start(self, batches: Any, orders: Sequence[torch.Tensor]) -> None:
        seen = list(batches)
        self.kept = torch.cat([codes[0] for codes in seen])
        super().start(seen, orders)

    def sample(
        self, generators: Sequence[torch.Generator], given: Given | None = None, drawing: Drawing = PLAIN
    ) -> Codes:
        return (self.kept[[int(torch.randint(len(self.kept), (), generator=g)) // 2 * 2 for g in generators]],)


class Mute(Memoriser):
    has_likelihood = has_bound = False


class Knowing(Memoriser):
    """Spends half of the histogram's bits."""

    def log_probs(self, codes: Codes, given: Given | None = None) -> torch.Tensor:
        return super().log_probs(codes) / 2


class Data:
    """Two splits as images and as codes."""

    def __init__(self, root: Path) -> None:
        for split, subjects in {"train": range(TRAIN), "validate": range(TRAIN, TRAIN + HELD_OUT)}.items():
            folder = root / f"keras_png_slices_{split}"
            folder.mkdir(parents=True)
            for subject in subjects:
                for n, image in enumerate(heads(SLICES, SIZE, seed=subject)):
                    Image.fromarray(image).save(folder / f"case_{subject:03}_slice_{n}.nii.png")
        self.tokenizer = Model(Blocks().eval(), {"preset": "blocks"}, "b" * 64, root)
        splits = open_splits(root)
        self.images = {name: open_cache(splits[name], multiple=(2, 2)) for name in ("train", "validate")}
        self.codes = {name: encode_split(self.tokenizer, cache) for name, cache in self.images.items()}

    def generator(self, kind: type[Prior]) -> Generator:
        prior = kind(histogram.Config(), Blocks.spec, self.images["train"].size)  # type: ignore[arg-type]
        train = self.codes["train"]
        prior.start((train.batch(part) for part in train.batches()), train.orders)
        return Generator(PriorModel(prior.eval(), self.tokenizer, {}, "p" * 64, self.tokenizer.folder))

    def evaluate(self, kind: type[Prior], n: int = N, **options: Any) -> Evaluated:
        splits: tuple[EncodedSplit, EncodedSplit, Cache, Cache] = (
            *(self.codes[name] for name in ("train", "validate")),
            *(self.images[name] for name in ("train", "validate")),
        )  # type: ignore[assignment]
        return evaluate_prior(self.generator(kind), *splits, split="validate", model={"preset": "kind"}, n=n, **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINVQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        return Data(tmp_path_factory.mktemp("data") / "scans")


@pytest.fixture(scope="module")
def histograms(data: Data) -> Evaluated:
    return data.evaluate(histogram.Histogram)


@pytest.fixture(scope="module")
def copies(data: Data) -> Evaluated:
    return data.evaluate(Memoriser)


def test_the_result_says_what_was_measured(data: Data, histograms: Evaluated) -> None:
    result = histograms.result
    json.dumps(result, allow_nan=False)
    assert (result["format"], result["kind"], result["split"]) == (1, "prior", "validate")
    assert result["model"] == {"preset": "kind"}
    assert result["tokenizer"] == {"preset": "blocks", "weights_sha256": "b" * 64, "grain_sha256": None}
    assert result["data"] == {
        "images": HELD_OUT * SLICES,
        "subjects": HELD_OUT,
        "fingerprint": data.images["validate"].fingerprint,
        "train_images": TRAIN * SLICES,
        "train_subjects": TRAIN,
        "size": list(SIZE),
    }
    assert result["samples"].items() >= {"n": N, "seed": 0}.items()
    assert result["samples"]["seconds_each"] > 0
    assert result["real"] == {"n": N, "subjects": HELD_OUT}
    measured = {name for name in result["measures"] if not name.startswith("real_")}
    told = {f"bits_{name}" if name.startswith("per_") else name for name in result["bits"]}
    assert GENERATION.keys() == measured | told & GENERATION.keys()
    assert result["measures"]["described_ssim"]["batches"] == TRAIN * SLICES // N
    assert result["definitions"].keys() == GENERATION.keys()


def test_bits_are_those_of_the_prior_beside_the_histogram(data: Data) -> None:
    bits = data.evaluate(Knowing).result["bits"]
    prior = data.generator(Knowing).prior
    codes = data.codes["validate"].batch(range(HELD_OUT * SLICES))
    expected = -prior.log_probs(codes).double().mean().item() / math.log(2)
    assert bits["per_code"]["mean"] == pytest.approx(expected)
    assert bits["histogram_per_code"]["mean"] == pytest.approx(2 * expected)
    assert bits["per_pixel"]["mean"] == pytest.approx(expected * 23 * 20 / (45 * 40)), "pixels without padding"
    assert bits["nominal_per_code"] == 4
    assert bits["saved"]["mean"] == pytest.approx(0.5)
    for name in ("per_code", "per_pixel", "histogram_per_code", "saved"):
        assert bits[name]["low"] <= bits[name]["mean"] <= bits[name]["high"], name
    assert bits["saved"]["high"] - bits["saved"]["low"] < bits["per_code"]["high"] - bits["per_code"]["low"], "paired"
    assert len(bits["per_subject"]) == HELD_OUT
    assert np.mean([*bits["per_subject"].values()]) == pytest.approx(expected)


def test_a_histogram_saves_nothing_against_itself(histograms: Evaluated) -> None:
    assert histograms.result["bits"]["saved"] == {"mean": 0, "low": 0, "high": 0}


def test_a_prior_without_likelihood_has_no_bits(data: Data, copies: Evaluated) -> None:
    found = data.evaluate(Mute).result
    assert found["bits"] is None
    assert found["measures"] == copies.result["measures"]


def test_the_samples_are_those_of_the_sequence(data: Data, histograms: Evaluated) -> None:
    generator = data.generator(histogram.Histogram)
    codes = generator.codes(N)
    assert torch.equal(histograms.codes[0], codes[0])
    assert np.array_equal(histograms.images, generator.images(codes)[:, : SIZE[0], : SIZE[1]])
    other = data.evaluate(histogram.Histogram, seed=1)
    assert not torch.equal(other.codes[0], codes[0])
    assert other.result["samples"]["seed"] == 1


def test_real_images_went_through_the_tokenizer(data: Data, histograms: Evaluated) -> None:
    assert histograms.real_images.shape == (N, *SIZE)
    cache = data.images["validate"]
    originals = {cache.images[i].tobytes() for i in range(len(cache))}
    assert not {image.tobytes() for image in histograms.real_images} & originals
    decoded = data.generator(histogram.Histogram).images(histograms.real_codes)
    assert np.array_equal(histograms.real_images, decoded[:, : SIZE[0], : SIZE[1]])
    known = {code.numpy().tobytes() for code in data.codes["validate"].batch(range(len(cache)))[0]}
    assert {code.numpy().tobytes() for code in histograms.real_codes[0]} <= known


def test_the_real_column_is_measured_of_the_real_images(data: Data, histograms: Evaluated) -> None:
    train, held_out = (np.asarray(data.images[name].images) for name in ("train", "validate"))
    subjects = data.codes["validate"].subjects
    picked = spread_over_subjects(subjects, N)
    own, real, measures = [subjects[i] for i in picked], histograms.real_images, histograms.result["measures"]
    assert torch.equal(histograms.real_codes[0], data.codes["validate"].batch(picked)[0])
    assert measures["real_described_ssim"] == asdict(described_ssim(real, train))
    assert measures["described_ssim"] == asdict(described_ssim(histograms.images, train))
    assert measures["real_nearest_train"]["mean"] == pytest.approx(nearest(real, train).ssim.mean())
    others = nearest(real, held_out, own=own, subjects=subjects)
    assert measures["real_nearest_validate"]["mean"] == pytest.approx(others.ssim.mean())
    assert measures["diversity"]["real"] == pytest.approx(mean_pairwise_ssim(real, subjects=own))
    assert measures["diversity"]["samples"] == pytest.approx(mean_pairwise_ssim(histograms.images))
    assert measures["live_entries"]["real"] == live_share(histograms.real_codes, data.codes["train"].orders)


def test_similarities_are_those_of_the_named_neighbours(data: Data, copies: Evaluated) -> None:
    result = copies.result
    for split, name in (("train", "nearest_train"), ("validate", "nearest_validate")):
        cache, rows = data.images[split], [sample[name] for sample in result["per_sample"]]
        indices = [row["index"] for row in rows]
        scores = ssim(to_x(copies.images), to_x(np.asarray(cache.images[indices]))).numpy()
        assert [row["ssim"] for row in rows] == pytest.approx(scores)
        assert [row["subject"] for row in rows] == [cache.subjects[i] for i in indices]
        assert result["measures"][name]["mean"] == pytest.approx(scores.mean())
        assert result["measures"][name]["low"] <= scores.mean() <= result["measures"][name]["high"]
    nearest = [sample["nearest_train"]["index"] for sample in result["per_sample"]]
    assert np.array_equal(copies.nearest, data.images["train"].images[nearest])


def test_without_names_no_place_among_the_images_is_told(data: Data, histograms: Evaluated) -> None:
    rows = [row for sample in histograms.result["per_sample"] for row in sample.values()]
    assert all("index" in row for row in rows)
    found = data.evaluate(histogram.Histogram, n=2, anonymous=True).result
    assert [set(row) for sample in found["per_sample"] for row in sample.values()] == [
        {"subject", "correlation", "ssim"}
    ] * 4


def test_copies_stand_out_beside_real_images(copies: Evaluated) -> None:
    found = {name: value["mean"] for name, value in copies.result["measures"].items() if "nearest" in name}
    gap = found["nearest_train"] - found["nearest_validate"]
    real = found["real_nearest_train"] - found["real_nearest_validate"]
    assert gap > real + 0.05
    assert found["nearest_train"] > found["real_nearest_train"] + 0.05
    assert found["nearest_train_as_many"] < found["nearest_train"]
    assert found["real_nearest_train_as_many"] < found["real_nearest_train"]


def test_diversity_and_entries_stand_beside_real_images(copies: Evaluated) -> None:
    measures = copies.result["measures"]
    distinct = np.unique(copies.codes[0].reshape(N, -1), axis=0)
    assert len(distinct) < N, "this memoriser repeats itself"
    assert measures["diversity"]["samples"] > measures["diversity"]["real"]
    for value in measures["live_entries"].values():
        assert 0.5 < value <= 1


def test_progress_ends_where_it_says(data: Data) -> None:
    calls: list[tuple[int, int]] = []
    data.evaluate(Memoriser, progress=lambda done, total: calls.append((done, total)))
    assert len({total for _, total in calls}) == 1
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-2][0] > 0.8 * calls[-1][1]
    assert calls[-1][0] == calls[-1][1]


def test_one_sample_has_no_interval_and_no_pair(data: Data) -> None:
    found = data.evaluate(Memoriser, n=1).result
    json.dumps(found, allow_nan=False)
    assert found["measures"]["diversity"] == {"samples": None, "real": None}
    assert found["measures"]["nearest_train"]["low"] is None
    console(prior_table(found))


def test_more_samples_than_real_images(data: Data) -> None:
    evaluated = data.evaluate(Memoriser, n=20)
    found = evaluated.result
    assert torch.equal(evaluated.codes[0], data.generator(Memoriser).codes(20)[0]), "in two batches or in one"
    assert found["real"]["n"] == HELD_OUT * SLICES
    assert len(found["per_sample"]) == 20


def test_one_held_out_subject_leaves_no_other_to_compare_with(data: Data) -> None:
    class Part:
        def __init__(self, whole: Any) -> None:
            self.whole = whole

        def __getattr__(self, name: str) -> Any:
            value = getattr(self.whole, name)
            return value[:SLICES] if name in ("subjects", "images") else value

        def __len__(self) -> int:
            return SLICES

    train = data.codes["train"], data.images["train"]
    found = evaluate_prior(
        data.generator(Memoriser),
        train[0],
        Part(data.codes["validate"]),  # type: ignore[arg-type]
        train[1],
        Part(data.images["validate"]),  # type: ignore[arg-type]
        split="validate",
        model={},
        n=N,
    ).result
    json.dumps(found, allow_nan=False)
    assert "real_nearest_validate" not in found["measures"]
    assert found["measures"]["nearest_validate"]["low"] is not None
    assert found["bits"]["per_code"]["low"] is None
    console(prior_table(found))


def test_images_of_16_bits_are_compared_in_8(tmp_path: Path, cache: Path) -> None:
    images, folder = heads(3, SIZE), tmp_path / "scans"
    folder.mkdir()
    for n, image in enumerate(images):
        Image.fromarray(image.astype(np.uint16) * 257).save(folder / f"case_00{n}_slice_0.png")
    found = open_cache(open_source(folder, split=None), multiple=(2, 2))
    assert found.images.dtype == np.uint16
    seen = EightBit(found)[np.array([2, 0])]
    assert (seen.dtype, seen.shape) == (np.uint8, (2, *SIZE))
    assert seen.astype(float) == pytest.approx(found.images[[2, 0]] / 257, abs=0.51), "as the model sees them"


def test_what_cannot_be_measured_is_an_error(data: Data) -> None:
    class Diverged(Memoriser):
        def log_probs(self, codes: Codes, given: Given | None = None) -> torch.Tensor:
            return super().log_probs(codes) * math.nan

    with pytest.raises(InputError, match="diverged"):
        data.evaluate(Diverged)
    with pytest.raises(InputError, match="0 samples were asked for"):
        data.evaluate(Memoriser, n=0)

    class Wider:
        size, images = (48, 80), data.images["validate"].images

        def __len__(self) -> int:
            return len(self.images)

    train, held_out = data.codes["train"], data.codes["validate"]
    with pytest.raises(InputError, match=r"48 x 80 pixels with padding; this prior was trained on 46 x 40"):
        evaluate_prior(
            data.generator(Memoriser),
            train,
            held_out,
            data.images["train"],
            Wider(),  # type: ignore[arg-type]
            split="validate",
            model={},
        )


def test_the_table_labels_every_number(histograms: Evaluated, data: Data) -> None:
    shown = console(prior_table(histograms.result))
    for word in (
        "validate: 12 images of 4 subjects",
        "9 samples",
        "seed 0",
        "SSIM, best of 2 ",
        "SSIM, mean of 2 ",
        "the best is a maximum",
        "histogram",
        "as many subjects",
        "real",
    ):
        assert word in shown, word
    assert "…" not in shown, "it fits 80 columns"
    rows = {row[0]: row[1:] for row in generation_rows(histograms.result)}
    bits = histograms.result["bits"]
    assert rows["bits a code"][0].startswith(f"{bits['per_code']['mean']:.3f} [")
    assert all(len(row) == 2 for row in rows.values())
    mute = {row[0] for row in generation_rows(data.evaluate(Mute).result)}
    assert mute == {name for name in rows if not name.startswith("bits") and "histogram" not in name}


def console(shown: object) -> str:
    screen = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    screen.print(shown)
    return screen.export_text()
