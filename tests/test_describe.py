"""The layer table counts what is there, whatever a model looks like; the diagrams and the settings say the same."""

import io
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from brainvq.config import override
from brainvq.describe import describe, draw, outline, settings
from brainvq.describe.hourglass import hourglass
from brainvq.describe.layers import Outline, folded
from brainvq.describe.prior import described_spec
from brainvq.describe.watch import prior_outline
from brainvq.errors import InputError
from brainvq.networks.base import Autoencoder
from brainvq.presets import PRESETS, preset
from brainvq.priors import dcgan, histogram, pixelcnn
from brainvq.priors.base import PriorConfig
from brainvq.quantizers import vq
from brainvq.tokenizers.vqvae import VQVAE
from brainvq.training.prior_experiment import PriorExperiment


class Residual(nn.Module):
    """A block that an outline has to look into: nested, called twice, with a parameter of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.gain * self.body(x)
        return y


class Twice(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block, self.unused = block, nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(self.block(x))
        return y


def residual_tokenizer() -> VQVAE:
    encoder = nn.Sequential(nn.Conv2d(1, 6, 4, stride=2, padding=1), Twice(Residual(6)))
    decoder = nn.Sequential(Residual(6), nn.ConvTranspose2d(6, 1, 4, stride=2, padding=1), nn.Tanh())
    quantizer = vq.Config(entries=5, codebook="ema", initial_range=0.1).build(6)
    return VQVAE(Autoencoder(encoder, decoder, 6, (2, 2)), quantizer)


def experiment_of(tokenizer: nn.Module) -> Any:
    return SimpleNamespace(tokenizer=SimpleNamespace(build=lambda: tokenizer))


def prior_of(config: PriorConfig) -> PriorExperiment:
    return preset("histogram").model_copy(update={"prior": config})  # type: ignore[return-value]


def outline_of(name: str, size: tuple[int, int]) -> Outline:
    experiment = preset(name)
    if isinstance(experiment, PriorExperiment):
        return prior_outline(experiment, described_spec(), size)
    return outline(experiment, size)


def text_of(*parts: Any, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO())
    for part in parts:
        console.print(part)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_reference_system_has_its_counts_and_shapes() -> None:
    found = outline(preset("keras_f8"), (256, 256))
    assert found.parameters == {"encoder": 96_542, "quantizer": 3_840, "decoder": 127_233}
    assert [layer.shape for layer in found.of("encoder")] == [
        (32, 128, 128),
        (64, 64, 64),
        (128, 32, 32),
        (30, 32, 32),
    ]
    assert [layer.shape[0] for layer in found.of("decoder")] == [128, 64, 32, 1]
    assert found.of("encoder")[0].kinds == ("Conv2d", "ReLU")
    assert found.of("decoder")[0].kinds == ("ConvTranspose2d", "ReLU")
    assert {layer.kernel for layer in found.layers if layer.kernel} == {(3, 3), (1, 1)}
    assert [layer.stride for layer in found.of("decoder")] == [(2, 2)] * 3 + [(1, 1)]


@pytest.mark.parametrize("name", PRESETS)
def test_rows_add_up_and_nothing_but_the_size_of_the_image_changes_them(name: str) -> None:
    state = torch.random.get_rng_state()
    small, large = (outline_of(name, size) for size in ((64, 64), (64, 128)))
    assert torch.equal(torch.random.get_rng_state(), state), "describing takes no random numbers from anyone"
    for found in (small, large):
        for part, total in found.parameters.items():
            assert sum(layer.parameters for layer in found.of(part)) == total
    assert [layer.shape for layer in small.layers] != [layer.shape for layer in large.layers]
    if not isinstance(preset(name), PriorExperiment):  # whose tables and stages follow the grid
        assert [layer.parameters for layer in small.layers] == [layer.parameters for layer in large.layers]
        assert [2 * layer.flops for layer in small.layers] == [layer.flops for layer in large.layers]


def test_nested_shared_and_silent_layers_are_all_counted_once() -> None:
    tokenizer = residual_tokenizer()
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    found = outline(experiment_of(tokenizer), (16, 16))
    assert sum(found.parameters.values()) == sum(p.numel() for p in tokenizer.parameters()) + 5 * 6
    for part, total in found.parameters.items():
        assert sum(layer.parameters for layer in found.of(part)) == total
    assert found.sides == (found.parameters["encoder"], found.parameters["decoder"])
    assert {layer.kinds for layer in found.of("encoder") if layer.name == "1.block.body.2"} == {("BatchNorm2d",)}
    names = [layer.name for layer in found.of("encoder")]
    assert names.count("1.block.body.1") == 2, "each call is a row"
    assert "1.block" in names, "a block with parameters of its own is a row"
    assert next(layer for layer in found.of("encoder") if layer.name == "1.unused").shape == ()
    assert all(torch.equal(tensor, before[name]) for name, tensor in tokenizer.state_dict().items())
    assert not any(module._forward_hooks for module in tokenizer.modules())


def test_a_size_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    for call in (
        lambda: describe(preset("keras_f8"), (100, 256)),
        lambda: draw(preset("keras_f8"), (256, 4), tmp_path / "figure.png"),
    ):
        with pytest.raises(InputError, match="multiples of 8 x 8"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_the_screen_tells_counts_rates_and_shapes() -> None:
    text = text_of(*describe(preset("keras_f8"), (256, 256)))
    for told in ("96,542", "127,233", "3,840", "227,615", "32 x 128 x 128", "7,168 bits", "0.1094 bits a pixel"):
        assert told in text
    assert "z_q  30 x 32 x 32" in text
    lines = text_of(describe(preset("keras_f8"), (256, 256))[0], width=80).splitlines()
    assert any("ConvTranspose2d, ReLU" in line and "18,464" in line for line in lines), "fits 80 columns"


def test_the_hourglass_is_narrowest_at_the_codes_and_whole() -> None:
    for experiment, size in ((preset("keras_f8"), (256, 256)), (experiment_of(residual_tokenizer()), (16, 48))):
        found = outline(experiment, size)
        lines = hourglass(found).plain.splitlines()
        rows = [line for line in lines if "│" in line]
        widths = {line.strip(" │").split("  ")[0]: line.rindex("│") - line.index("│") for line in rows}
        assert widths["codes"] == widths["z"] == min(widths.values())
        assert widths["x"] == widths["x_hat"] == max(widths.values())
        assert len({line.index("│") + line.rindex("│") for line in rows}) == 1, "symmetric"
        for above, below in pairwise(lines):
            down = {n for n, sign in enumerate(above) if sign in "│├┤┬╭╮"}
            up = {n for n, sign in enumerate(below) if sign in "│├┤┴╰╯"}
            assert down == up, "lines meet"


@pytest.mark.parametrize("name", PRESETS)
def test_settings_are_what_set_accepts(name: str) -> None:
    experiment = preset(name)
    lines = [f"{path}={value}" for path, value in settings(experiment)]
    assert override(experiment, lines) == experiment
    text = text_of(*describe(experiment, (64, 64)), width=400)
    assert all(line in text for line in lines)


def test_text_that_looks_like_json_stays_text() -> None:
    for pattern in ("7", "null", r"case_(\d+)_", '"', " (x) ", "[1]"):
        experiment = preset("keras_f8").model_copy(deep=True)
        experiment = experiment.model_copy(
            update={"data": experiment.data.model_copy(update={"subject_pattern": pattern})}
        )
        lines = [f"{path}={value}" for path, value in settings(experiment)]
        assert override(preset("keras_f8"), lines) == experiment


def test_settings_other_than_the_exact_system_are_told_with_its_value() -> None:
    changed = override(preset("keras_f8"), ["train.batch_size=7"])
    (text,) = (part for part in describe(changed, (64, 64)) if "train.batch_size" in str(part))
    marked = [line for line in str(text).splitlines() if "#" in line]
    assert marked == ["train.batch_size=7  # 128"]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_is_written_and_repeats_itself(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        draw(preset("keras_f8"), (64, 64), path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix])
    if suffix == "png":
        with Image.open(paths[0]) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert (pixels[:8] == 255).all(), "nothing is cut off above"
        assert (pixels[-8:] == 255).all(), "nor below"
        assert (pixels != 255).any()


def test_figures_show_any_network_and_replace_no_file(tmp_path: Path) -> None:
    draw(experiment_of(residual_tokenizer()), (16, 16), tmp_path / "figure.png")
    with pytest.raises(InputError, match="exists"):
        draw(preset("keras_f8"), (64, 64), tmp_path / "figure.png")
    with pytest.raises(InputError, match=r"\.svg"):
        draw(preset("keras_f8"), (64, 64), tmp_path / "figure.jpg")


def test_system_b_has_its_counts_shapes_and_cost() -> None:
    found = outline(preset("resnet_f4"), (64, 64))
    assert found.parameters == {"encoder": 2_367_488, "quantizer": 512 * 256, "decoder": 2_367_233}
    assert found.of("encoder")[0].shape == (256, 32, 32)
    assert {layer.shape for layer in found.of("encoder")[2:]} == {(256, 16, 16)}
    assert [layer.kinds[-1] for layer in found.of("decoder")][-1] == "Tanh"
    w, grid = 256, 16 * 16  # multiply-adds by hand: strided convolutions, and 3 x 3 with 1 x 1 of two blocks, on a side
    side = 4 * grid * 16 * w + grid * 16 * w * w + 2 * grid * 10 * w * w
    assert found.flops == {"encoder": 2 * side, "quantizer": 2 * grid * 512 * w, "decoder": 2 * side}
    assert round(16 * (found.flops["encoder"] + found.flops["decoder"]) / 1e9) == 39, "at 256 x 256"


def test_blocks_that_repeat_are_told_once() -> None:
    found = outline(preset("resnet_f4"), (64, 64))
    encoder, decoder = (folded(found.of(part)) for part in ("encoder", "decoder"))
    assert [group.kind for group in encoder] == ["", "", "", "Residual"]
    assert encoder[-1].paths == ("layers.4", "layers.5")
    assert [layer.inside for layer in encoder[-1].layers] == ["relu", "branch.0", "branch.1", "branch.3", "branch.4"]
    for groups, part in ((encoder, "encoder"), (decoder, "decoder")):
        times = [(max(1, len(group.paths)), layer) for group in groups for layer in group.layers]
        assert sum(n * layer.parameters for n, layer in times) == found.parameters[part], "nothing is lost"
    text = text_of(describe(preset("resnet_f4"), (64, 64))[0], width=80)
    assert text.count("Residual") == 2, "once a side"
    assert text.count("2 × 656,896") == 2
    assert len(text.splitlines()) < 40


def test_blocks_that_differ_are_told_apart() -> None:
    encoder = nn.Sequential(nn.Conv2d(1, 6, 2, stride=2), Residual(6), Twice(Residual(6)), Residual(6), Residual(6))
    quantizer = vq.Config(entries=5, codebook="ema", initial_range=0.1).build(6)
    decoder = nn.Sequential(nn.ConvTranspose2d(6, 1, 2, stride=2))
    found = outline(experiment_of(VQVAE(Autoencoder(encoder, decoder, 6, (2, 2)), quantizer)), (8, 8))
    groups = [(group.kind, group.paths) for group in folded(found.of("encoder"))]
    never_called = ("Twice", ("2",))
    assert groups == [("", ()), ("Residual", ("1",)), ("Twice", ("2",)), ("Residual", ("3", "4")), never_called]


def test_a_gan_shows_both_networks() -> None:
    experiment = prior_of(dcgan.Config())
    found = prior_outline(experiment, described_spec(), (256, 256))
    up, down = ([layer.shape for layer in found.of(part) if layer.kernel] for part in ("generator", "discriminator"))
    assert up == [(512, 4, 4), (256, 8, 8), (128, 16, 16), (64, 32, 32), (1, 64, 64)]
    assert down == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (1, 1, 1)]
    kinds = {layer.kinds for layer in found.of("discriminator")}
    assert kinds == {("Conv2d",), ("BatchNorm2d", "LeakyReLU")}
    model = experiment.prior.build(described_spec(), (256, 256))
    for part in ("generator", "discriminator"):
        assert found.parameters[part] == sum(p.numel() for p in getattr(model, part).parameters())
        assert found.flops[part] > 0
    text = text_of(*describe(experiment, (256, 256)))
    for told in (
        "generator",
        "discriminator",
        "64 x 64 codes of 512 entries",
        "resnet_f4",
        "image of indices  1 x 64 x 64",
    ):
        assert told in text
    widths = [line.rindex("│") - line.index("│") for line in text.splitlines() if line.count("│") == 2]
    assert widths == widths[::-1], "as wide up as down"
    assert max(widths) == widths[len(widths) // 2]


def test_a_pixelcnn_shows_its_layers_once_and_all_its_parameters() -> None:
    experiment = prior_of(pixelcnn.Config(layers=5))
    found = prior_outline(experiment, described_spec(), (64, 64))
    model = experiment.prior.build(described_spec(), (64, 64))
    assert sum(found.parameters.values()) == sum(p.numel() for p in model.parameters())
    assert found.parameters["position"] == 64 * 16 * 16, "a parameter outside any layer"
    text = text_of(*describe(experiment, (64, 64)))
    assert "4 × Layer" in text, "the last has no residual connection"
    assert "16 x 16 codes of 512 entries" in text
    assert "256 x 512" in text, "its log-frequencies"
    assert "7 rows up, 6 codes to either side" in text


def test_a_histogram_is_a_table_and_costs_nothing() -> None:
    text = text_of(*describe(prior_of(histogram.Config()), (64, 64)))
    assert "table of counts" in text
    assert "256 x 512" in text
    assert "FLOP" not in text


def test_a_prior_that_cannot_model_the_codes_says_so(tmp_path: Path) -> None:
    for size, said in (((66, 64), "multiples of 4 x 4"), ((96, 96), "DCGAN")):
        with pytest.raises(InputError, match=said):
            describe(prior_of(dcgan.Config()), size)
        with pytest.raises(InputError, match=said):
            draw(prior_of(dcgan.Config()), size, tmp_path / "figure.png")
    assert list(tmp_path.iterdir()) == []


PRIORS = [dcgan.Config(), dcgan.Config(greys="raw_indices", width=8), pixelcnn.Config(kernel=5), histogram.Config()]


@pytest.mark.parametrize("config", PRIORS, ids=lambda config: config.kind)
def test_priors_have_figures_that_are_whole(config: PriorConfig, tmp_path: Path) -> None:
    for suffix in ("png", "svg"):
        draw(prior_of(config), (64, 64), tmp_path / f"figure.{suffix}")
    with Image.open(tmp_path / "figure.png") as image:
        pixels = np.asarray(image.convert("L"))
    for edge in (pixels[:8], pixels[-8:], pixels[:, :8], pixels[:, -8:]):
        assert (edge == 255).all(), "nothing is cut off"
    assert (pixels != 255).mean() > 0.05


def test_settings_are_compared_with_the_first_preset_of_the_same_design() -> None:
    for name, reference in (("resnet_f4_narrow", "resnet_f4"), ("demo", "keras_f8"), ("histogram", "histogram")):
        (text,) = (part for part in describe(preset(name), (64, 64)) if "train.batch_size" in str(part))
        assert f"other than in {reference}" in str(text)
        assert ("tokenizer.network.width=64  # 256" in str(text)) is (reference == "resnet_f4")
