"""The words that a methods paragraph uses for priors and for what trains them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _histogram(part: dict[str, Any]) -> str:
    return (
        "The prior takes codes as independent: at each position, the probability of an entry is how often it stood "
        f"there in the training split, with {part['borrowed']:g} images' worth of counts borrowed from its frequency "
        "over all positions (Jelinek and Mercer 1980)."
    )


def _pixelcnn(part: dict[str, Any]) -> str:
    reach = (part["layers"] + 1) * (part["kernel"] // 2)
    text = (
        "The prior is a gated PixelCNN (van den Oord et al. 2016) without blind spot: the probability of each code is "
        f"conditioned on those above it and to its left, up to {reach} codes away, by a vertical and a horizontal "
        f"stack of {part['layers']} gated layers of {part['width']} channels, with kernels as wide as "
        f"{part['kernel']} codes, after a linear one. Entries are embedded, a learned vector for each position enters "
        "the vertical stack, and both stacks have residual connections; the skips of all layers meet in a head of "
        f"{part['head']} channels, whose logits are added to the log-frequencies of the entries at each position. "
    )
    text += f"Training drops {100 * part['dropout']:g} % of the channels of each gate"
    text += f" and hides {100 * part['forget']:g} % of the codes from those after them" if part["forget"] else ""
    return text + ". Codes are sampled in order, each from its full conditional distribution."


LIKENESS = (
    "Entries enter and leave it by vectors of their own and by linear functions of what their codebook vectors have in "
    "common: coordinates along its main axes, and products of these. "
)


def _transformer(part: dict[str, Any]) -> str:
    text = (
        f"{part['layers']} layers of width {part['width']} with {part['heads']} heads (Vaswani et al. 2017; "
        "normalisation before each part), queries and keys rotated by the place in the image (Su et al. 2021) and a "
        f"learned vector for each position. {LIKENESS if part.get('likeness') else ''}Its logits are added to the "
        "log-frequencies of the entries by position. "
        f"Training drops {100 * part['dropout']:g} % of what a layer adds."
    )
    if part["previous"]:
        wrong = (
            f", of which training replaces up to {100 * part['misread']:g} % by wrong ones"
            if part.get("misread")
            else ""
        )
        text += f" The codes of the slice before are a condition{wrong}."
    return f"{text} Conditions are left out at random, with probability {part['forget']:g} (Ho and Salimans 2021)."


def _autoregressive(part: dict[str, Any]) -> str:
    return (
        "The prior is a transformer over the codes one after another: each is conditioned on all before it, of which "
        f"those around it are shown to its position. It has {_transformer(part)} Codes are sampled in order."
    )


def _maskgit(part: dict[str, Any]) -> str:
    return (
        "The prior is a transformer that foretells hidden codes from those that are not (MaskGIT, Chang et al. 2022): "
        f"{_transformer(part)} Codes are sampled in {part['steps']} steps, the surest first, as many at each as the "
        f"cosine schedule says, with Gumbel noise of {part['wavering']:g} on what is sure, falling to nothing."
    )


def _context(part: dict[str, Any]) -> str:
    return (
        f"The prior is a network in whole numbers that predicts codes in {part['period']} x {part['period']} "
        "interleaved passes, from coarse to fine (Reed et al. 2017), each code from the "
        f"{part['near']} nearest of earlier passes and its place"
        + (f", and from the {part['near'] + 1} nearest of the slice before" if part["previous"] else "")
        + f": a first layer for each pass, then {part['layers']} residual layers that all share, of width "
        f"{part['width']}, with weights and activations of 8 bits that were rounded in training too (Balle et al. "
        "2019), so that every machine computes the same. Its logits are added to the log-frequencies of the entries at "
        f"each position. Training drops {100 * part['dropout']:g} % of what a layer gives"
        + (f" and the slice before of {100 * part['forget']:g} % of the images." if part["previous"] else ".")
    )


def _dcgan(part: dict[str, Any]) -> str:
    greys = {
        "ordered": "Entries were first ordered by the mean grey of the training pixels that they cover; each has a "
        "bin of its own between -1 and 1, through whose middle it goes to the image and by which an image goes back "
        "to entries, without loss on the way there and back.",
        "raw_indices": "The index of an entry itself was taken for its brightness, and greys went back to entries by "
        "bins of equal width over those in use; this loses entries on the way there and back.",
    }[part["greys"]]
    return (
        "The prior is a generator of images of code indices (DCGAN, Radford et al. 2016): from "
        f"{part['latent']} normal numbers, transposed convolutions (4 x 4, stride 2, batch normalisation, ReLU; tanh "
        "at the end) double a grid of 4 x 4 until it has the size of the codes, their channels falling to "
        f"{part['width']}; the discriminator mirrors it with convolutions, batch normalisation and leaky ReLU (slope "
        f"0.2). {greys} Outside training, batch normalisation uses its running statistics. A GAN has no likelihood."
    )


def _likelihood(task: dict[str, Any]) -> str:
    return "The loss is the mean number of bits of a code given those that its position is shown."


def _adversarial(task: dict[str, Any]) -> str:
    return (
        "Generator and discriminator were trained in turn, one step each, by binary cross entropy (Goodfellow et al. "
        "2014); the generator maximised the log-probability that its images are taken for real. Each network has an "
        "optimiser of its own with the same settings."
    )


SENTENCES: dict[str, Callable[[dict[str, Any]], str]] = {
    "priors.histogram": _histogram,
    "priors.pixelcnn": _pixelcnn,
    "priors.autoregressive": _autoregressive,
    "priors.maskgit": _maskgit,
    "priors.context": _context,
    "priors.dcgan": _dcgan,
    "training.prior": _likelihood,
    "training.adversarial": _adversarial,
}
