"""Grain: what is missing is measured, added once and for all, and nowhere but in samples."""

import json
import shutil

import numpy as np
import pytest
import torch
from scipy import fft

from brainvq.audit import audit_samples
from brainvq.config import override
from brainvq.errors import InputError
from brainvq.grain import BANDS, CENTRES, PLACES, Grain, measured
from brainvq.graining import measure_grain
from brainvq.models import GRAIN, grain_of, open_model
from brainvq.pipeline import load, load_generator
from brainvq.presets import preset
from brainvq.sampling import Wish, sample_files
from brainvq.session import evaluate_run
from brainvq.training.experiment import TokenizerExperiment, train
from brainvq.training.prior_experiment import PriorExperiment, train_prior


def grain(deviations) -> Grain:
    return Grain(weights_sha256="w", fingerprint="f", images=1, deviations=deviations)


def even(*strengths: float) -> Grain:
    return grain(tuple((strength,) * PLACES for strength in strengths))


def power(images: np.ndarray, low: float, high: float) -> float:
    """Mean square from one frequency to another."""
    frequency = np.hypot(np.fft.fftfreq(images.shape[1])[:, None], np.fft.fftfreq(images.shape[2])[None])
    spectrum = (np.abs(fft.fft2(images - images.mean())) ** 2).mean(0) / images[0].size ** 2
    return float(spectrum[(frequency >= low) & (frequency < high)].sum())


def codes(n: int) -> tuple[torch.Tensor, ...]:
    return (torch.arange(n * 4).view(n, 2, 2),)


@pytest.mark.parametrize("size", [(64, 64), (65, 96)])
@pytest.mark.parametrize("band", range(BANDS))
def test_each_band_has_its_deviation_at_its_frequency(size, band):
    flat = np.full((20, *size), 120.0, np.float32)
    found = even(*(6.0 if n == band else 0.0 for n in range(BANDS))).onto(flat, codes(20)).astype(float)
    assert found.std() == pytest.approx(6, abs=0.2)
    low, high = CENTRES[band] / 2**0.5, CENTRES[band] * 2**0.5 if band + 1 < BANDS else 1.0
    assert power(found, low, high) > 0.98 * found.var()


def test_what_is_missing_is_what_is_added():
    """Blurred noise on a wave of brightness, stronger where it is brighter: with grain it has its power again."""
    random, size = np.random.default_rng(0), (96, 96)
    wave = np.broadcast_to(120 - 60 * np.cos(np.linspace(0, 2 * np.pi, size[1], endpoint=False)), size)
    real = wave + 0.05 * wave * random.standard_normal((60, *size))
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    made = np.stack([fft.irfft2(fft.rfft2(image) * (frequency < 0.2), s=size) for image in real])
    found = grain(measured(zip(real[:30], made[:30], strict=True))).onto(made[30:].astype(np.float32), codes(30))
    for low, high in ((0.2, 0.28), (0.28, 0.4), (0.4, 1.0), (0.1, 1.0)):
        had, has = (power(images - wave, low, high) for images in (real[30:], found.astype(float)))
        assert has == pytest.approx(had, rel=0.2)
    dark, bright = (found[:, :, part] - wave[:, part] for part in (slice(0, 8), slice(44, 52)))
    assert 1.8 < bright.std() / dark.std() < 3.2


def test_black_stays_black():
    """A sharp disc on black, whose rim rings, and a reconstruction without its texture."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    disc = np.hypot(y, x) < 0.5
    real = disc * (120 + 20 * random.standard_normal((20, 96, 96)))
    made = np.broadcast_to(disc * 120.0, real.shape)
    found = grain(measured(zip(real, made, strict=True))).onto(made.astype(np.float32), codes(20))
    assert found[:, disc].std() > 15
    assert not found[:, np.hypot(y, x) > 0.7].any()


def test_where_nothing_is_missing_nothing_is_added():
    real = np.random.default_rng(0).uniform(0, 255, (5, 64, 64))
    assert not np.any(measured((image, image) for image in real))
    assert not np.any(measured((image, 2 * image - 120) for image in real))  # too much is not missing either


def test_the_same_codes_give_the_same_image_and_others_another():
    flat = np.full((3, 64, 64), 120.0, np.float32)
    strong = even(*[5.0] * BANDS)
    once, again = strong.onto(flat, codes(3)), strong.onto(flat[1:2], (codes(3)[0][1:2],))
    assert np.array_equal(once[1:2], again)
    assert abs(np.corrcoef(once[0].ravel().astype(float), once[1].ravel().astype(float))[0, 1]) < 0.1


SMALL = ["train.steps=3", "train.batch_size=4", "train.precision=fp32"]


@pytest.fixture
def tokenizer(slices_folder, cache, tmp_path):
    small = [*SMALL, "tokenizer.network.widths=[4,6]", "tokenizer.network.dim=5", "tokenizer.quantizer.entries=16"]
    experiment = override(preset("keras_f8_ema"), small)
    assert isinstance(experiment, TokenizerExperiment)
    return train(experiment, slices_folder, tmp_path / "tokenizer")


def test_samples_have_the_grain_and_reconstructions_never(tokenizer, slices_folder, tmp_path, call):
    prior = override(preset("histogram"), SMALL)
    assert isinstance(prior, PriorExperiment)
    run = train_prior(prior, tokenizer, slices_folder, tmp_path / "prior")
    plain = load_generator(run)
    drawn = plain.codes(2)
    before, measures = plain.images(drawn), evaluate_run(tokenizer, str(slices_folder), "validate")["measures"]
    image = next((slices_folder / "keras_png_slices_validate").glob("*.png"))
    copy = load(tokenizer).reconstruct(image).voxels

    code, out, _ = call("grain", tokenizer, "--data", slices_folder)
    assert code == 0
    assert "grain.json" in out
    with_grain = load_generator(run)
    after = with_grain.images(drawn)
    assert (after != before).any()
    assert np.array_equal(with_grain.images(drawn, grain=False), before)
    assert np.array_equal(load(tokenizer).reconstruct(image).voxels, copy)
    assert evaluate_run(tokenizer, str(slices_folder), "validate")["measures"] == measures

    out = tmp_path / "samples"
    sample_files(run, 2, out)
    assert json.loads((out / "samples.json").read_text())["grain_sha256"] == with_grain.pipeline.grain.sha256
    with pytest.raises(InputError, match="grain_sha256"):
        sample_files(run, 3, out, wish=Wish(grain=False))
    sample_files(run, 2, tmp_path / "smooth", wish=Wish(grain=False))
    with pytest.raises(InputError, match="--no-grain to go on with them"):
        sample_files(run, 3, tmp_path / "smooth")
    code, _, said = call("grain", tokenizer, "--data", slices_folder)
    assert code == 2
    assert "--force" in said
    assert call("grain", tokenizer, "--data", slices_folder, "--force")[0] == 0


def test_a_grain_that_is_damaged_or_of_another_tokenizer_is_refused_where_it_is_needed(tokenizer, slices_folder):
    path, image = (
        measure_grain(tokenizer, str(slices_folder)),
        next((slices_folder / "keras_png_slices_validate").glob("*.png")),
    )
    kept = json.loads(path.read_text())
    assert np.shape(kept["deviations"]) == (BANDS, PLACES)
    texts = [
        json.dumps(kept | changed)
        for changed in (
            {"deviations": kept["deviations"][1:]},
            {"deviations": [[-1.0] * PLACES] * BANDS},
            {"deviations": [[float("nan")] * PLACES] * BANDS},
            {"deviations": [[1e9] * PLACES] * BANDS},
            {"images": 0},
            {"surprise": 1},
        )
    ]
    for text in (*texts, "", "[" * 1_000_000, "{}"):
        path.write_text(text)
        with pytest.raises(InputError, match="damaged") as refused:
            grain_of(open_model(tokenizer))
        assert len(str(refused.value)) < 1000
    path.write_text(json.dumps(kept | {"weights_sha256": "0" * 64}))
    pipeline = load(tokenizer)
    with pytest.raises(InputError, match="measured for the tokenizer 000000000000"):
        pipeline.grained(pipeline.tokenizer.encode(torch.zeros(1, 1, 32, 24)))
    assert pipeline.reconstruct(image).voxels.shape == (32, 24)  # has none, and does not ask
    assert measure_grain(tokenizer, str(slices_folder), force=True) == path  # mends it
    assert grain_of(open_model(tokenizer)) is not None


def test_an_audit_treats_unseen_slices_as_the_samples(tokenizer, slices_folder, tmp_path):
    """With the grain that samples were drawn with, or without; another than the tokenizer's is refused."""
    prior = override(preset("histogram"), SMALL)
    assert isinstance(prior, PriorExperiment)
    run = train_prior(prior, tokenizer, slices_folder, tmp_path / "prior")
    measure_grain(tokenizer, str(slices_folder))
    kept = load(tokenizer).grain.sha256
    for name, wanted in (("with", kept), ("without", None)):
        sample_files(run, 2, tmp_path / name, wish=Wish(grain=wanted is not None))
        found = audit_samples(tmp_path / name, str(slices_folder), tokenizer=tokenizer)
        assert found["tokenizer"]["grain_sha256"] == wanted
    (tokenizer / GRAIN).unlink()
    with pytest.raises(InputError, match=r"tokenizer's is now none"):
        audit_samples(tmp_path / "with", str(slices_folder), tokenizer=tokenizer)
    assert audit_samples(tmp_path / "without", str(slices_folder), tokenizer=tokenizer)["samples"]["n"] == 2


def test_what_has_no_grain(tokenizer, slices_folder, tmp_path):
    with pytest.raises(InputError, match="comes with the package"):
        measure_grain("brain_f8", str(slices_folder))
    assert not (tokenizer / GRAIN).exists()
    only = tmp_path / "validate"
    shutil.copytree(slices_folder / "keras_png_slices_validate", only / "validate")
    with pytest.raises(InputError, match="no train split"):
        measure_grain(tokenizer, str(only))


def test_grain_is_measured_on_the_images_of_training(tokenizer, slices_folder):
    for file in (slices_folder / "keras_png_slices_train").glob("case_001*"):
        file.unlink()
    with pytest.raises(InputError, match="was trained on other images"):
        measure_grain(tokenizer, str(slices_folder))
