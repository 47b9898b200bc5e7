"""Grain: what is missing is measured, added once and for all, and nowhere but in samples."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import fft

from brainvq.config import override
from brainvq.errors import InputError
from brainvq.grain import BANDS, EDGES, PLACES, Grain, measured
from brainvq.graining import measure_grain
from brainvq.models import GRAIN, open_model
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


def powers(images: np.ndarray) -> list[float]:
    """Mean square of each band."""
    frequency = np.hypot(np.fft.fftfreq(images.shape[1])[:, None], np.fft.fftfreq(images.shape[2])[None])
    spectrum = (np.abs(fft.fft2(images - images.mean())) ** 2).mean(0) / images[0].size ** 2
    return [float(spectrum[(frequency >= low) & (frequency < high)].sum()) for low, high in pairwise(EDGES)]


def codes(n: int) -> tuple[torch.Tensor, ...]:
    return (torch.arange(n * 4).view(n, 2, 2),)


@pytest.mark.parametrize("size", [(64, 64), (65, 96)])
def test_each_band_has_its_deviation(size):
    flat = np.full((40, *size), 120.0, np.float32)
    found = even(4.0, 0.0, 6.0, 0.0, 8.0).onto(flat, codes(40)).astype(float)
    assert np.allclose(np.sqrt(powers(found)), [4, 0.2, 6, 0.2, 8], atol=0.35)


def test_what_is_missing_is_what_is_added():
    """Blurred noise on a wave of brightness, stronger where it is brighter: with grain it has its power again."""
    random, size = np.random.default_rng(0), (96, 96)
    wave = np.broadcast_to(120 - 60 * np.cos(np.linspace(0, 2 * np.pi, size[1], endpoint=False)), size)
    real = wave + 0.05 * wave * random.standard_normal((60, *size))
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None])
    made = np.stack([fft.irfft2(fft.rfft2(image) * (frequency < 0.2), s=size) for image in real])
    found = grain(measured(zip(real[:30], made[:30], strict=True))).onto(made[30:].astype(np.float32), codes(30))
    assert np.allclose(powers(found.astype(float) - wave), powers(real[30:] - wave), rtol=0.1)
    dark, bright = (found[:, :, part] - wave[:, part] for part in (slice(0, 8), slice(44, 52)))
    assert 1.8 < bright.std() / dark.std() < 3.2


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
    code, _, said = call("grain", tokenizer, "--data", slices_folder)
    assert code == 2
    assert "--force" in said
    assert call("grain", tokenizer, "--data", slices_folder, "--force")[0] == 0


def test_a_grain_that_is_damaged_or_of_another_tokenizer_is_refused(tokenizer, slices_folder, tmp_path):
    path = measure_grain(tokenizer, str(slices_folder))
    kept = json.loads(path.read_text())
    assert np.shape(kept["deviations"]) == (BANDS, PLACES)
    for changed, said in (
        ({"weights_sha256": "0" * 64}, "measured for the tokenizer 000000000000"),
        ({"deviations": kept["deviations"][1:]}, "damaged"),
        ({"deviations": [[-1.0] * PLACES] * BANDS}, "damaged"),
        ({"deviations": [[1e9] * PLACES] * BANDS}, "damaged"),
        ({"surprise": 1}, "damaged"),
    ):
        path.write_text(json.dumps(kept | changed))
        with pytest.raises(InputError, match=said):
            open_model(tokenizer)
    for text in ("", "[" * 100_000, "{}"):
        path.write_text(text)
        with pytest.raises(InputError, match="damaged"):
            open_model(tokenizer)
    assert measure_grain(tokenizer, str(slices_folder), force=True) == path  # mends it
    assert open_model(tokenizer).grain is not None


def test_what_has_no_grain(tokenizer, slices_folder, tmp_path):
    with pytest.raises(InputError, match="comes with the package"):
        measure_grain("brain_f8", str(slices_folder))
    assert not (tokenizer / GRAIN).exists()
    only = tmp_path / "validate"
    shutil.copytree(slices_folder / "keras_png_slices_validate", only / "validate")
    with pytest.raises(InputError, match="no train split"):
        measure_grain(tokenizer, str(only))
