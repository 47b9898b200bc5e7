"""Fine-tuning: the codebook stays to the bit or learns, new data are learned, resume is exact, the origin is kept."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from brainvq import session
from brainvq.config import kinds, override, part_config
from brainvq.data.cohort import write_cohort
from brainvq.errors import InputError
from brainvq.models import open_model
from brainvq.networks import keras_conv
from brainvq.presets import preset
from brainvq.run import read_config
from brainvq.tokenizers.vqvae import VQVAE
from brainvq.training.experiment import train
from brainvq.training.tokenizer import TokenizerTask

SMALL = (
    *("train.precision=fp32", "train.steps=150", "train.batch_size=8", "train.validate_every=50"),
    *("tokenizer.network.widths=[4,6,8]", "tokenizer.network.dim=5", "tokenizer.quantizer.entries=16"),
    *("train.learning_rate=0.01", "task.optimiser.average=0.9"),
)
MORE = ("train.steps=30", "train.checkpoint_every=7", "task.optimiser.warmup=0")


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("heads") / "heads", subjects=6, slices=4, size=64)


@pytest.fixture(scope="module")
def darker(heads) -> Path:
    """The same heads from another scanner: dark, and of less contrast."""
    copy = heads.parent / "darker"
    shutil.copytree(heads, copy)
    for path in copy.glob("keras_png_slices_*/case_*.png"):
        if "seg" not in path.parent.name:
            Image.fromarray((20 + 0.3 * np.asarray(Image.open(path))).astype(np.uint8)).save(path)
    return copy


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINVQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", params=["keras_f8_ema", "keras_f8"])
def either(request, heads, tmp_path_factory) -> Path:
    """A trained tokenizer, of a codebook by moving averages or by gradient."""
    return train(override(preset(request.param), list(SMALL)), heads, tmp_path_factory.mktemp("base") / request.param)


@pytest.fixture(scope="module")
def base(heads, tmp_path_factory) -> Path:
    return train(override(preset("keras_f8_ema"), list(SMALL)), heads, tmp_path_factory.mktemp("base") / "base")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def changed(before: Path, after: Path) -> set[str]:
    """Parts of which some weight differs."""
    ours, theirs = weights(before), weights(after)
    return {name.partition(".")[0] for name in ours if not torch.equal(ours[name], theirs[name])}


def test_the_codebook_stays_to_the_bit_unless_it_is_asked_for(either, darker, tmp_path):
    for codebook, parts in ((False, {"encoder", "decoder"}), (True, {"encoder", "quantizer", "decoder"})):
        out = session.finetune_run(either, darker, tmp_path / str(codebook), codebook=codebook, settings=MORE)
        assert changed(either, out) == parts
        config, origin = read_config(out), read_config(either)
        assert config["finetuned_from"] == {
            "preset": origin["preset"],
            "weights_sha256": origin["weights_sha256"],
            "codebook": "trained" if codebook else "frozen",
        }
        assert config["weights_sha256"] != origin["weights_sha256"]
        assert config["experiment"]["tokenizer"] == origin["experiment"]["tokenizer"]
        assert config["spec"] == origin["spec"]


def test_the_decoder_alone_learns_and_every_image_keeps_its_codes(call, base, darker, tmp_path):
    words = ("--data", darker, "--out", tmp_path / "out", *(word for each in MORE for word in ("--set", each)))
    code, _, err = call("finetune", base, *words, "--decoder")
    assert code == 0, err
    assert changed(base, tmp_path / "out") == {"decoder"}
    assert read_config(tmp_path / "out")["finetuned_from"]["encoder"] == "frozen"
    images = torch.rand(3, 1, 64, 64) * 2 - 1
    before, after = (open_model(run).tokenizer.encode(images) for run in (base, tmp_path / "out"))
    assert before[0].equal(after[0])
    code, _, err = call("finetune", base, "--data", darker, "--out", tmp_path / "both", "--decoder", "--codebook")
    assert code == 2
    assert "Leave out --codebook or --decoder" in err


@pytest.mark.parametrize("kind", kinds("quantizers"))
def test_any_quantizer_can_be_held_while_the_encoder_learns(kind):
    tokenizer = VQVAE(keras_conv.Config(widths=(4, 4, 4), dim=8).build(), part_config(kind)().build(8))
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    tokenizer.hold(encoder=False)
    optimiser = torch.optim.AdamW(tokenizer.parameters(), lr=0.01, weight_decay=0.1)
    x = torch.rand(4, 1, 32, 32) * 2 - 1
    for _ in range(3):
        output = tokenizer.train()(x)
        optimiser.zero_grad()
        (sum(output.losses.values()) + (output.x_hat - x).square().mean()).backward()
        optimiser.step()
    moved = {name.partition(".")[0] for name, value in tokenizer.state_dict().items() if not value.equal(before[name])}
    assert moved == {"encoder", "decoder"}


def test_it_learns_what_the_new_data_look_like(base, darker, tmp_path):
    before = session._evaluate_tokenizer(base, str(darker), "validate", None, None)["measures"]
    out = session.finetune_run(base, darker, tmp_path / "out", settings=[*MORE, "train.steps=60"])
    after = session._evaluate_tokenizer(out, str(darker), "validate", None, None)["measures"]
    assert after["psnr"]["mean"] > before["psnr"]["mean"] + 0.5


@pytest.mark.parametrize(("codebook", "more"), [(False, ()), (True, ()), (False, ('task.patches={"widths": [4, 8]}',))])
def test_stopped_and_resumed_is_bit_equal(codebook, more, base, darker, tmp_path, monkeypatch):
    settings = {"codebook": codebook, "settings": (*MORE, *more)}
    whole = session.finetune_run(base, darker, tmp_path / "whole", **settings)
    step = TokenizerTask.step

    def killed(self, x, number, total):
        if number == 17:
            raise Killed
        return step(self, x, number, total)

    with monkeypatch.context() as patch:
        patch.setattr(TokenizerTask, "step", killed)
        with pytest.raises(Killed):
            session.finetune_run(base, darker, tmp_path / "run", **settings)
    run = session.finetune_run(base, darker, tmp_path / "run", resume=True, **settings)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match=f"codebook {'trained' if codebook else 'frozen'}, and this starts from"):
        session.finetune_run(base, darker, run, resume=True, settings=settings["settings"], codebook=not codebook)


def test_it_is_gentle_and_short_by_default_and_settings_win(base, darker, tmp_path):
    experiment = read_config(session.finetune_run(base, darker, tmp_path / "a"))["experiment"]
    assert experiment["train"]["steps"] == 15
    assert experiment["train"]["learning_rate"] == pytest.approx(0.01 / 3)
    epochs = read_config(session.finetune_run(base, darker, tmp_path / "b", settings=["train.epochs=0.5"]))
    assert epochs["planned_steps"] == 1, "steps by default do not win over epochs that were asked for"


def test_what_does_not_fit_is_refused(call, base, darker, slices_folder, tmp_path):
    words = ("--data", darker, "--out", tmp_path / "out")
    prior = tmp_path / "prior"
    prior.mkdir()
    (prior / "config.json").write_text(json.dumps({**read_config(base), "kind": "prior"}))
    for given, said in (
        (("finetune", prior, *words), "is a prior; fine-tuning is for tokenizers"),
        (("finetune", base, *words, "--set", "tokenizer.quantizer.entries=32"), "keeps their tokenizer"),
        (("finetune", base, *words, "--set", "train.learning_rat=1"), "did you mean 'train.learning_rate'"),
        (("finetune", base, "--data", tmp_path / "none", "--out", tmp_path / "out"), "none"),
        (("finetune", base, "--data", darker, "--out", base, "--resume"), "was trained with other settings"),
        (("finetune", "brain_f9", *words), "'brain_f9' is neither a run folder here nor a shipped model"),
    ):
        code, out, err = call(*given)
        assert (code, out) == (2, ""), given
        assert said in err
        assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_did(call, base, darker, tmp_path):
    out = tmp_path / "mine"
    code, told, err = call("finetune", base, "--data", darker, "--out", out, "--codebook", "--set", "train.steps=2")
    assert code == 0, err
    assert f"model: {out}" in told
    command = read_config(out)["command"]
    assert command == "brainvq finetune base --data darker --out mine --codebook --set train.steps=2"
