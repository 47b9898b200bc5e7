"""The words that a methods paragraph uses for parts, losses and optimisers, and the references that they name.

A part (network, quantizer) that has a sentence here is told in words; any other by its kind and settings, so that a new
part is never left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brainvq.report.prior_prose import SENTENCES as PRIORS
from brainvq.report.quantizer_prose import SENTENCES as QUANTIZERS
from brainvq.report.words import listed, settings
from brainvq.training.optimise import MATRIX_DECAY


def _vqvae(part: dict[str, Any]) -> str:
    return "The model is a vector-quantised autoencoder (van den Oord et al. 2017)."


def _keras_conv(part: dict[str, Any]) -> str:
    widths = listed([str(width) for width in part["widths"]])
    return (
        f"Its encoder has {len(part['widths'])} convolutions (3 x 3, stride 2, {widths} channels, each followed by "
        f"ReLU) and a 1 x 1 convolution to {part['dim']} channels; its decoder mirrors it with transposed convolutions "
        "and ends in a 3 x 3 transposed convolution to one channel, without activation. Weights start Glorot uniform "
        "(Glorot and Bengio 2010), biases at zero."
    )


def _resnet(part: dict[str, Any]) -> str:
    width = part["width"]
    start = (
        "Weights of convolutions start Glorot uniform (Glorot and Bengio 2010), biases at zero."
        if part["initialisation"] == "glorot"
        else "Weights start as PyTorch initialises them."
    )
    return (
        f"Its encoder has two convolutions (4 x 4, stride 2, {width} channels; batch normalisation, Ioffe and Szegedy "
        "2015, and ReLU between them) and two residual blocks (He et al. 2016) of ReLU, a 3 x 3 convolution, batch "
        "normalisation, ReLU, a 1 x 1 convolution and batch normalisation, each added to its rectified input; its "
        "decoder has two such blocks, ReLU and two transposed convolutions (4 x 4, stride 2), with batch "
        f"normalisation and ReLU between them and tanh at the end. {start} Outside training, batch normalisation uses "
        "its running statistics."
    )


def _pixel_shuffle(part: dict[str, Any]) -> str:
    widths, encoder, decoder = (
        listed([str(n) for n in part[name]]) for name in ("widths", "encoder_blocks", "decoder_blocks")
    )
    halved = ", each with half the resolution of the one before," if len(part["widths"]) > 1 else ""
    return (
        f"Its encoder makes channels of squares of {part['patch']} x {part['patch']} pixels (Shi et al. 2016); it has "
        f"{len(part['widths'])} stages of {widths} channels{halved} with {encoder} residual blocks (He et al. 2016), "
        f"and a 1 x 1 convolution to {part['dim']} channels. Its decoder mirrors it with {decoder} blocks and shuffles "
        "channels back to pixels, without activation at the end. A block is batch normalisation (Ioffe and Szegedy "
        "2015), SiLU, a 3 x 3 convolution, SiLU and a 3 x 3 convolution, added to its input; the last one starts at "
        "zero (Zhang et al. 2019), other weights as PyTorch initialises them. Outside training, batch normalisation "
        "uses its running statistics."
    )


def _reconstruction(task: dict[str, Any]) -> str:
    scale = ", divided by the variance of the training pixels" if task["divide_by_variance"] else ""
    terms = [f"the mean squared error of the reconstruction{scale}"]
    if task["absolute"]:
        terms.append(f"{task['absolute']:g} times its mean absolute error")
    if task["structural"]:
        terms.append(f"{task['structural']:g} times 1 - SSIM (Wang 2004; as a loss, Zhao et al. 2017)")
    text = f"The loss is the sum of {listed([*terms, 'the losses of the quantizer'])}."
    if patches := task.get("patches"):
        widths = listed([str(n) for n in patches["widths"]])
        text += (
            f" Discriminators of patches (Isola et al. 2017) at {patches['scales']} scales (Wang 2018; of means of "
            f"2 x 2 pixels and three Haar details, {widths} channels, 4 x 4 convolutions of stride 2 with spectral "
            "normalisation, Miyato et al. 2018; hinge loss; Adam at a learning rate of "
            f"{patches['learning_rate']:g}) were trained beside it; their gradients at the reconstruction were scaled "
            f"to the same length, together {patches['weight']:g} times that of the other terms (after Esser et al. "
            "2021)."
        )
    if task["forgive"]:
        text += " What lies beyond black or white where the original is black or white is no error."
    if task["crop"] < 1:
        text += f" Training saw crops of {100 * task['crop']:g} % of each edge, at random places."
    if task["mirror"]:
        axis = "top to bottom" if task.get("lying") else "left to right"
        text += f" Half of the training images were mirrored, {axis}."
    return text


SENTENCES: dict[str, Callable[[dict[str, Any]], str]] = {
    "tokenizers.vqvae": _vqvae,
    "networks.keras_conv": _keras_conv,
    "networks.resnet": _resnet,
    "networks.pixel_shuffle": _pixel_shuffle,
    "training.tokenizer": _reconstruction,
    **QUANTIZERS,
    **PRIORS,
}


def loss(task: dict[str, Any]) -> str:
    """What a task brings down."""
    return SENTENCES.get(task["kind"], settings)({name: value for name, value in task.items() if name != "optimiser"})


def optimiser(optimiser: dict[str, Any], rate: float) -> str:
    if not optimiser:
        return ""
    name = {
        "adam": "Adam (Kingma and Ba 2015)",
        "adamw": "AdamW (Loshchilov and Hutter 2019)",
        "muon": "Muon (Jordan et al. 2024; steps as large as those of AdamW, Liu et al. 2025; weight decay "
        f"{MATRIX_DECAY:g}) for matrices inside the transformer, and AdamW (Loshchilov and Hutter 2019) for all else",
    }[optimiser["name"]]
    betas = " and ".join(f"{beta:g}" for beta in optimiser["betas"])
    text = f"We used {name} with betas {betas}, epsilon {optimiser['epsilon']:g}"
    if optimiser["weight_decay"]:
        text += f", weight decay {optimiser['weight_decay']:g}"
    text += f" and a learning rate of {rate:g}"
    text += {
        "constant": "",
        "cosine": " that falls to zero along half a cosine",
        "linear": " that falls linearly to zero",
    }[optimiser["schedule"]]
    if optimiser["warmup"]:
        text += f", after a linear warm-up of {optimiser['warmup']:,} steps"
    if optimiser["clip"] is not None:
        text += f"; gradients were clipped to norm {optimiser['clip']:g}"
    if optimiser["average"]:
        text += f"; the weights that are used are an exponential moving average (decay {optimiser['average']:g})"
    return text + "."


def precision(precision: str, kept: str = "the quantizer") -> str:
    """`kept`: the part that is float32 whatever the precision."""
    return {
        "bf16": f"Training ran in bfloat16, but for {kept}, which is float32.",
        "fp32": "Training ran in float32.",
        "auto": f"Training ran in bfloat16 where the hardware multiplies it, else in float32; {kept} is float32.",
    }[precision]
