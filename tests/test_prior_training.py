"""Training a prior: images are encoded once, a run resumes bit-equal, and only its own tokenizer serves."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from brainvq import models, session
from brainvq import run as runs
from brainvq.config import override
from brainvq.data.loader import open_cache
from brainvq.data.sources import open_splits
from brainvq.errors import InputError
from brainvq.models import open_model
from brainvq.pipeline import load_generator
from brainvq.presets import preset
from brainvq.sampling import sample_files
from brainvq.session import evaluate_run, train_run
from brainvq.training import encoded
from brainvq.training.experiment import TokenizerExperiment, train
from brainvq.training.finetune import finetune
from brainvq.training.prior import LikelihoodTask
from brainvq.training.prior_experiment import PriorExperiment, _from, train_prior

SMALL = ("train.steps=3", "train.batch_size=4", "tokenizer.network.widths=[4,6]", "tokenizer.network.dim=5")


def tokenizer_experiment(*settings: str) -> TokenizerExperiment:
    experiment = override(preset("keras_f8_ema"), [*SMALL, "tokenizer.quantizer.entries=16", *settings])
    assert isinstance(experiment, TokenizerExperiment)
    return experiment


def prior_experiment(*settings: str) -> PriorExperiment:
    every = ("train.steps=9", "train.batch_size=4", "train.checkpoint_every=3", "train.validate_every=4")
    small = ("prior.width=8", "prior.layers=2", "train.precision=fp32")
    experiment = override(preset("pixelcnn"), [*every, *small, *settings])
    assert isinstance(experiment, PriorExperiment)
    return experiment


@pytest.fixture
def tokenizer(slices_folder: Path, cache: Path, tmp_path: Path) -> Path:
    return train(tokenizer_experiment(), slices_folder, tmp_path / "tokenizer")


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.mark.parametrize("stop", [1, 5, 8])
def test_stopped_and_resumed_is_bit_equal(tokenizer, slices_folder, tmp_path, monkeypatch, stop):
    whole = train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "whole")
    run, step = tmp_path / "stopped", LikelihoodTask.step

    def killed(self, codes, /, number, total):
        if number == stop:
            raise Killed
        return step(self, codes, number, total)

    with monkeypatch.context() as patch:
        patch.setattr(LikelihoodTask, "step", killed)
        with pytest.raises(Killed):
            train_prior(prior_experiment(), tokenizer, slices_folder, run)
    train_prior(prior_experiment(), tokenizer, slices_folder, run, resume=True)
    assert weights(run) == weights(whole)


@pytest.mark.parametrize("name", ["histogram", "pixelcnn", "dcgan"])
def test_a_prior_of_every_preset_comes_back_out_of_its_run(name, slices_folder, cache, tmp_path):
    for path in slices_folder.rglob("*.png"):
        Image.open(path).crop((0, 0, 16, 32)).save(path)  # 8 x 4 codes: powers of two, which a DCGAN needs
    tokenizer = train(tokenizer_experiment(), slices_folder, tmp_path / "tokenizer")
    small = {"pixelcnn": ("prior.width=8", "prior.layers=2"), "dcgan": ("prior.width=2", "prior.latent=4")}
    experiment = override(preset(name), [*small.get(name, ()), "train.steps=2", "train.precision=fp32"])
    assert isinstance(experiment, PriorExperiment)
    generator = load_generator(train_prior(experiment, tokenizer, slices_folder, tmp_path / "prior"))
    assert generator.images(generator.codes(2)).shape == (2, 32, 16)


def test_bits_and_neighbours_are_measured_with_the_data_of_training_alone(tokenizer, slices_folder, tmp_path):
    run = train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "prior")
    path = next((slices_folder / "keras_png_slices_train").glob("case_001*"))
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    with pytest.raises(InputError, match=r"trained on other images .* Give the data"):
        evaluate_run(run, str(slices_folder), "validate")
    assert not (run / "evaluation").exists()


def test_evaluating_tells_of_encoding_too(tokenizer, slices_folder, tmp_path, cache, monkeypatch):
    run = train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "prior")
    shutil.rmtree(cache / "codes")

    def stop(*args, **settings):
        raise Killed

    monkeypatch.setattr(session, "evaluate_prior", stop)
    told = []
    with pytest.raises(Killed):
        evaluate_run(run, str(slices_folder), "validate", progress=lambda done, total: told.append((done, total)))
    assert told == [(12, 12), (8, 8)]


def test_samples_are_as_large_as_the_images_without_padding(slices_folder, cache, tmp_path):
    for path in slices_folder.rglob("*.png"):
        Image.open(path).crop((0, 0, 23, 30)).save(path)
    tokenizer = train(tokenizer_experiment(), slices_folder, tmp_path / "tokenizer")
    run = train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "prior")
    sample_files(run, 2, tmp_path / "samples")
    assert Image.open(tmp_path / "samples" / "images" / "0001.png").size == (23, 30)
    assert json.loads((tmp_path / "samples" / "samples.json").read_text())["size"] == [30, 23]
    config = json.loads((run / "config.json").read_text())
    for size in (None, [64, 23], [0, 1], ["30", 23], [30]):
        (run / "config.json").write_text(json.dumps({**config, "data": {"size": size}}))
        generator = load_generator(run)
        assert generator.images(generator.codes(1)).shape == (1, 32, 24)


def test_a_run_without_its_tokenizers_hash_is_not_resumed(tokenizer, slices_folder, tmp_path):
    run = train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "prior")
    config = json.loads((run / "config.json").read_text())
    for bad in ({**config, "tokenizer": {}}, {**config, "spec": {}}, {**config, "tokenizer": None}):
        (run / "config.json").write_text(json.dumps(bad))
        with pytest.raises(InputError, match=r"config\.json is damaged"):
            train_prior(prior_experiment("train.steps=12"), tokenizer, slices_folder, run, resume=True)


def test_images_are_encoded_once(tokenizer, slices_folder, tmp_path):
    for number, expected in enumerate([{"train", "validate"}, set()]):
        events = []
        train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / f"run-{number}", watch=events.append)
        assert {event["split"] for event in events if event["event"] == "encode"} == expected


def test_encoded_codes_are_the_tokenizers(tokenizer, slices_folder):
    model = models.open_model(tokenizer)
    images = open_cache(open_splits(slices_folder)["train"], multiple=model.tokenizer.spec.multiple)
    for _ in range(2):  # encoded, and read back
        split = encoded.encode_split(model, images)
        (codes,) = split.batch(range(len(split)))
        (expected,) = model.tokenizer.encode(images.batch(range(len(images))))
        assert torch.equal(codes, expected)
        assert codes.dtype == torch.int64
        assert split.subjects == images.subjects


def test_orders_run_from_dark_to_bright(tokenizer, slices_folder):
    model = models.open_model(tokenizer)
    images = open_cache(open_splits(slices_folder)["train"], multiple=model.tokenizer.spec.multiple)
    split = encoded.encode_split(model, images)
    (codes,), x = split.batch(range(len(split))), images.batch(range(len(images)))
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).mean((-2, -1))[:, 0]
    greys = [float(patches[codes == entry].double().mean()) for entry in split.orders[0]]
    assert np.all(np.diff(greys) >= -1e-6)
    assert sorted(split.orders[0].tolist()) == sorted(codes.unique().tolist())


def test_a_damaged_cache_of_codes_is_made_anew(tokenizer, slices_folder, cache):
    model = models.open_model(tokenizer)
    images = open_cache(open_splits(slices_folder)["train"], multiple=model.tokenizer.spec.multiple)
    before = encoded.encode_split(model, images).codes[0].clone()
    (path,) = (cache / "codes").iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-7], whole[:-1] + bytes([whole[-1] ^ 1]), b"", b"no codes"):
        path.write_bytes(damaged)
        assert torch.equal(encoded.encode_split(model, images).codes[0], before)
        assert path.read_bytes() == whole


def other(tokenizer: Path, to: Path) -> Path:
    """A tokenizer of the same spec and other weights."""
    shutil.copytree(tokenizer, to)
    tensors = load_file(to / "model.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in tensors.items()}, to / "model.safetensors")
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, "weights_sha256": None}))
    return to


def test_a_tokenizer_whose_decoder_alone_was_trained_further_draws_the_same_codes(tokenizer, slices_folder, tmp_path):
    run = train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "prior")
    short = {"settings": ["train.steps=2", "train.precision=fp32"]}
    sharp = finetune(open_model(tokenizer), slices_folder, tmp_path / "sharp", encoder=False, **short)
    moved = finetune(open_model(tokenizer), slices_folder, tmp_path / "moved", **short)
    plain, drawn = load_generator(run, tokenizer), load_generator(run, sharp)
    codes = plain.codes(2, seed=0)
    assert codes[0].equal(drawn.codes(2, seed=0)[0])
    assert (plain.images(codes) != drawn.images(codes)).any()
    with pytest.raises(InputError, match="was trained on the codes of"):
        load_generator(run, moved)


def test_another_tokenizer_is_refused(tokenizer, slices_folder, tmp_path):
    run = train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "prior")
    before = sorted(path.name for path in run.iterdir())
    stranger = other(tokenizer, tmp_path / "stranger")
    with pytest.raises(InputError, match="was trained on the codes of"):
        load_generator(run, stranger)
    with pytest.raises(InputError, match="was trained on the codes of"):
        train_prior(prior_experiment("train.steps=12"), stranger, slices_folder, run, resume=True)
    wide = train(tokenizer_experiment("tokenizer.quantizer.entries=8"), slices_folder, tmp_path / "wide")
    with pytest.raises(InputError, match=r"\[8\].*\[16\]"):
        load_generator(run, wide)
    assert sorted(path.name for path in run.iterdir()) == before


def test_a_tokenizer_that_moved_is_named_or_given(tokenizer, slices_folder, tmp_path):
    run = train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "prior")
    expected = load_generator(run).codes(2)
    both = tmp_path / "elsewhere"
    both.mkdir()
    for folder in (run, tokenizer):
        shutil.copytree(folder, both / folder.name)
    assert torch.equal(load_generator(both / run.name).codes(2)[0], expected[0]), "moved together"
    tokenizer.rename(tmp_path / "renamed")
    with pytest.raises(InputError, match="--tokenizer"):
        load_generator(run)
    assert torch.equal(load_generator(run, tmp_path / "renamed").codes(2)[0], expected[0])


def test_priors_and_tokenizers_are_not_confused(tokenizer, slices_folder, tmp_path):
    run = train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "prior")
    with pytest.raises(InputError, match="is a prior, and a tokenizer is needed"):
        models.open_model(run)
    with pytest.raises(InputError, match="is a tokenizer, and a prior is needed"):
        load_generator(tokenizer)
    with pytest.raises(InputError, match="is a prior, and a tokenizer is needed"):
        train_prior(prior_experiment(), run, slices_folder, tmp_path / "prior of a prior")
    with pytest.raises(InputError, match="--tokenizer"):
        train_run(prior_experiment(), slices_folder, tmp_path / "without")
    with pytest.raises(InputError, match="leave --tokenizer out"):
        train_run(tokenizer_experiment(), slices_folder, tmp_path / "with", tokenizer=tokenizer)
    assert not (tmp_path / "without").exists()
    assert not (tmp_path / "with").exists()


def test_samples_are_functions_of_seed_and_number(tokenizer, slices_folder, tmp_path):
    generator = load_generator(train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "prior"))
    (whole,) = generator.codes(5, seed=3)
    (part,) = generator.codes(2, seed=3, first=2)
    assert torch.equal(whole[2:4], part)
    assert not torch.equal(whole, generator.codes(5, seed=4)[0])
    images = generator.images((whole,))
    assert images.shape == (5, 32, 24)
    assert images.dtype == np.uint8


def test_codes_that_do_not_fit_are_refused(tokenizer, slices_folder, tmp_path):
    generator = load_generator(train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "prior"))
    with pytest.raises(InputError, match="entries"):
        generator.images((torch.full((1, 8, 6), 99),))


def test_a_tokenizers_folder_is_not_taken_for_a_priors(tokenizer, slices_folder, tmp_path):
    with pytest.raises(InputError, match="holds a tokenizer, and this is a prior"):
        train_prior(prior_experiment(), tokenizer, slices_folder, tokenizer, resume=True)
    run = train_prior(prior_experiment(), tokenizer, slices_folder, tmp_path / "prior")
    with pytest.raises(InputError, match="holds a prior, and this is a tokenizer"):
        train(tokenizer_experiment(), slices_folder, run, resume=True)


def test_a_tokenizer_far_away_is_remembered_by_name_alone(tokenizer, slices_folder, tmp_path):
    out = tmp_path / "a" / "b" / "c" / "prior"
    run = train_prior(prior_experiment("train.steps=1"), tokenizer, slices_folder, out)
    assert runs.read_config(run)["tokenizer"]["path"] == "tokenizer"
    with pytest.raises(InputError, match="--tokenizer"):
        load_generator(run)
    assert len(load_generator(run, tokenizer).codes(1)[0]) == 1


@pytest.mark.parametrize(
    ("out", "tokenizer", "kept"),
    [
        ("/a/runs/prior", "/a/runs/ema", "../ema"),
        ("/a/prior", "/a/weights/brain_f16", "../weights/brain_f16"),
        ("/a/runs/prior", "/a/weights/brain_f16", "../../weights/brain_f16"),
        ("/a/runs/prior", "/b/ema", "ema"),
        ("/a/runs/prior", "/a/b/c/ema", "ema"),
    ],
)
def test_a_tokenizer_near_by_is_found_again_and_one_far_away_tells_no_folders(out, tokenizer, kept):
    assert _from(Path(out), Path(tokenizer)) == kept
