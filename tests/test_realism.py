"""Realism: worse images rank worse in both families, no memoriser beats the floor, and misuse is refused."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from brainvq.data.cohort import write_cohort
from brainvq.data.loader import open_cache
from brainvq.data.sources import open_source, open_splits
from brainvq.errors import InputError
from brainvq.metrics import realism as module
from brainvq.metrics.realism import FAMILIES, REALISM, ImageSet, Realism, realism, standardised
from brainvq.metrics.set_distances import LOWER, MEASURES, measure, points
from planted import WORSE, memorisers, noise
from test_docs import ROOT, rows_under

FAMILY = pytest.mark.parametrize("family", FAMILIES)
DATA = pytest.mark.parametrize("data", ["cohort", "oasis"], indirect=True)
STRICT = ("frechet", "kernel")
"""The others reach 0 at once, and stay there."""


@dataclass(frozen=True, eq=False)
class Data:
    held_out: ImageSet
    train: ImageSet


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """40 synthetic subjects, half of them held out."""
    folder = tmp_path_factory.mktemp("realism")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINVQ_CACHE", str(folder / "cache"))
        cache = open_cache(open_source(write_cohort(folder / "cohort", subjects=40, slices=6, size=96), split=None))
    return halves(np.asarray(cache.images), cache.subjects)


@pytest.fixture(scope="module")
def oasis(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Four slices each of 35 validate and 35 train subjects."""
    found = []
    for source in open_splits(shared / "oasis").values():
        names = list(dict.fromkeys(item.subject for item in source.items))[:35]
        items = [item for item in source.items if item.subject in names][4::8]
        images = np.stack([np.asarray(Image.open(item.path)) for item in items])
        found.append(ImageSet(images, [item.subject for item in items]))
    train, validate, *_ = found
    return Data(held_out=validate, train=train)


def halves(images: NDArray[np.uint8], subjects: list[str]) -> Data:
    even = np.array([sorted(set(subjects)).index(name) % 2 == 0 for name in subjects])
    sides = [
        ImageSet(images[side], [s for s, taken in zip(subjects, side, strict=True) if taken]) for side in (even, ~even)
    ]
    return Data(*sides)


@pytest.fixture(scope="module")
def data(request: pytest.FixtureRequest) -> Data:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def found(data: Data) -> Realism:
    """Worse and worse images, and memorisers, at once."""
    train, subjects = np.asarray(data.train.images), list(data.train.subjects or ())
    sets = {name: ImageSet(spoil(train), subjects) for name, spoil in WORSE.items()}
    n = min(len(train), len(data.held_out.images))
    sets |= {name: ImageSet(images) for name, images in memorisers(train, subjects, n).items()}
    return realism(sets, held_out=data.held_out, train=data.train)


@DATA
@FAMILY
def test_worse_images_rank_worse(found: Realism, family: str) -> None:
    for name in MEASURES:
        ranked = [found.families[family].sets[which].measures[name].value for which in WORSE]
        steps = np.diff(ranked) * (1 if name in LOWER else -1)
        if name in STRICT:
            assert (steps > 0).all(), (name, ranked)
        assert ranked[0] != ranked[-1]
        assert (steps > -0.03).all(), (name, ranked)


@DATA
@FAMILY
def test_no_memoriser_beats_the_floor(found: Realism, family: str, data: Data) -> None:
    for name in memorisers(np.zeros((1, 8, 8), np.uint8), ["one"], 1):
        assert found.families[family].sets[name].better_than_floor == (), name
        if "five" not in name and "one image" not in name:
            assert found.families[family].sets[name].too_typical == (), name


@DATA
@FAMILY
def test_the_floor_is_what_a_copier_is_measured_as(found: Realism, family: str) -> None:
    floor, real = found.families[family].floor, found.families[family].sets["real"]
    assert real.measures == floor
    assert {each.value for each in real.above_floor.values()} == {0}


@FAMILY
def test_measured_against_what_it_learned_a_memoriser_would_shine(cohort: Data, family: str) -> None:
    """Why the reference is held out: the same set, the same measures, and nothing refused."""
    train, subjects = np.asarray(cohort.train.images), cohort.train.subjects
    features = FAMILIES[family](train)
    placed = standardised(features, features)
    against_its_own = measure(points(placed), points(placed, subjects)).estimates()
    others = standardised(FAMILIES[family](np.asarray(cohort.held_out.images)), features)
    floor = measure(points(others, cohort.held_out.subjects), points(placed, subjects)).estimates()
    assert against_its_own["frechet"].value < 0.01 * floor["frechet"].value
    assert against_its_own["precision"].value == 1 > floor["precision"].value


def test_what_was_trained_on_is_no_reference(cohort: Data) -> None:
    with pytest.raises(InputError, match="also among the held-out images"):
        realism({}, held_out=cohort.train, train=cohort.train)
    with pytest.raises(InputError, match=r"reconstructed: subject .* also among the held-out"):
        realism({"reconstructed": cohort.held_out}, held_out=cohort.held_out, train=cohort.train)
    with pytest.raises(InputError, match="samples: 120 of the images are among the held-out ones"):
        realism({"samples": ImageSet(cohort.held_out.images)}, held_out=cohort.held_out, train=cohort.train)
    with pytest.raises(ValueError, match="their subjects are needed"):
        realism({}, held_out=ImageSet(cohort.held_out.images), train=cohort.train)


def test_too_few_and_unlike_images_are_named(cohort: Data) -> None:
    few = ImageSet(np.asarray(cohort.train.images)[:99])
    with pytest.raises(InputError, match="few: 99 images; realism needs at least 100"):
        realism({"few": few}, held_out=cohort.held_out, train=cohort.train)
    small = ImageSet(np.asarray(cohort.train.images)[:, :80])
    with pytest.raises(InputError, match=r"small: images of \(80, 96\) pixels"):
        realism({"small": small}, held_out=cohort.held_out, train=cohort.train)
    with pytest.raises(InputError, match="8-bit"):
        realism({"x": ImageSet(np.zeros((120, 96, 96)))}, held_out=cohort.held_out, train=cohort.train)
    with pytest.raises(ValueError, match="expected one each"):
        ImageSet(few.images, ["one"])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One family of a few numbers."""
    monkeypatch.setattr(
        module, "FAMILIES", {"means": lambda images: images[:, ::24, ::24].reshape(len(images), -1)[:, 5:11]}
    )


def test_all_sets_are_of_one_size_and_samples_may_come_in_any_order(cohort: Data, quick: None) -> None:
    samples = noise(np.asarray(cohort.train.images))
    turned = samples[np.random.default_rng(1).permutation(len(samples))]
    first, second = (
        realism({"samples": ImageSet(images)}, held_out=cohort.held_out, train=cohort.train)
        for images in (samples, turned)
    )
    assert first == second
    assert first.images == 120
    fewer = realism({"samples": ImageSet(samples[:104])}, held_out=cohort.held_out, train=cohort.train)
    assert fewer.images == 104
    assert (fewer.held_out_subjects, fewer.train_subjects) == (20, 20), "spread over all"


def test_the_result_is_plain_json_with_its_definitions(cohort: Data, quick: None) -> None:
    found = realism({"again": cohort.train}, held_out=cohort.held_out, train=cohort.train).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))
    assert found["definitions"].keys() == REALISM.keys() == set(MEASURES)
    assert found["families"]["means"]["floor"].keys() == set(MEASURES)


def test_progress_counts_every_image_of_every_family(cohort: Data) -> None:
    counted: list[int] = []
    realism({}, held_out=cohort.held_out, train=cohort.train, advance=counted.append)
    assert counted == [120] * 4


def test_far_features_count_by_their_logarithm_and_constant_ones_by_their_unit() -> None:
    reference = np.stack([np.linspace(-1, 1, 101), np.full(101, 3.0)], 1)
    found = standardised(np.array([[0.0, 3.0], [1e6, 4.0]]), reference)
    assert found[0] == pytest.approx([0, 0], abs=1e-9)
    assert found[1] == pytest.approx([np.log(2e6 / reference[:, 0].std()), np.arcsinh(1)])


def test_the_page_defines_the_measures_word_for_word() -> None:
    told = rows_under(ROOT / "docs" / "realism.md", "## The measures")
    assert told == [[f"`{name}`", each.label, each.better, each.definition] for name, each in REALISM.items()]
