"""Named experiments: each a function that says what differs from the defaults, and why.

Train one with `brainvq train NAME --data DATA --out RUN`; see all of them with `brainvq presets`, one in full with
`brainvq describe NAME`.
"""

from __future__ import annotations

from collections.abc import Callable

from brainvq.config import did_you_mean
from brainvq.errors import InputError
from brainvq.networks import keras_conv, pixel_shuffle, resnet
from brainvq.priors import autoregressive as autoregressive_prior
from brainvq.priors import context as context_prior
from brainvq.priors import dcgan as dcgan_prior
from brainvq.priors import histogram as histogram_prior
from brainvq.priors import maskgit as maskgit_prior
from brainvq.priors import pixelcnn as pixelcnn_prior
from brainvq.quantizers import vq
from brainvq.tokenizers import vqvae
from brainvq.training import adversarial
from brainvq.training import prior as prior_task
from brainvq.training import tokenizer as tokenizer_task
from brainvq.training.experiment import Experiment, TokenizerExperiment
from brainvq.training.labelled import ConditionsConfig
from brainvq.training.loop import TrainConfig
from brainvq.training.optimise import OptimiserConfig
from brainvq.training.prior_experiment import PriorExperiment


def keras_f8() -> TokenizerExperiment:
    """Reference system A, exactly as described: 32 x 32 codes of 7 bits from 256 x 256, codebook learned by gradient.

    K = 128, D = 30, commitment 0.5; squared error over the variance of the training pixels; Adam 1e-3 with epsilon
    1e-7, batch 128, 50 epochs, the weights of the last step. Expect most entries of its codebook to die.

        brainvq train keras_f8 --data oasis --out runs/keras_f8
    """
    return TokenizerExperiment(
        preset="keras_f8",
        tokenizer=vqvae.Config(
            network=keras_conv.Config(widths=(32, 64, 128), dim=30),
            quantizer=vq.Config(entries=128, codebook="gradient", commitment=0.5, initial_range=0.05, revive_below=0.0),
        ),
        task=tokenizer_task.Config(divide_by_variance=True, optimiser=OptimiserConfig(epsilon=1e-7)),
        train=TrainConfig(epochs=50.0, batch_size=128, learning_rate=1e-3, keep="last"),
    )


def keras_f8_ema() -> TokenizerExperiment:
    """System A's network at the same bits, cured of codebook collapse.

    The codebook follows the data by moving averages, starts at the first batch and moves entries that fall out of use;
    small batches give more steps for the same images; the learning rate falls to zero along half a cosine and the
    weights are averaged, so that the last step is also the best.

        brainvq train keras_f8_ema --data oasis --out runs/keras_f8_ema
    """
    return _cured(keras_f8(), learning_rate=2e-3, epochs=40.0)


def resnet_f4() -> TokenizerExperiment:
    """Reference system B's tokenizer, exactly as described: 64 x 64 codes of 9 bits, codebook learned by gradient.

    256 channels, two residual blocks on each side; K = 512, D = 256, commitment 1.0; squared error; Adam 3e-4, batch
    32, 20 epochs, the weights of the last step. About 39 GFLOP forward an image: for a GPU. Expect its codebook to
    collapse to a few entries.

        brainvq train resnet_f4 --data oasis --out runs/resnet_f4
    """
    return TokenizerExperiment(
        preset="resnet_f4",
        tokenizer=vqvae.Config(
            network=resnet.Config(width=256),
            quantizer=vq.Config(
                entries=512, codebook="gradient", commitment=1.0, initial_range=1 / 512, revive_below=0.0
            ),
        ),
        task=tokenizer_task.Config(divide_by_variance=False),
        train=TrainConfig(epochs=20.0, batch_size=32, learning_rate=3e-4, keep="last"),
    )


def resnet_f4_ema() -> TokenizerExperiment:
    """System B's network at the same bits, cured of codebook collapse as `keras_f8_ema` is.

    brainvq train resnet_f4_ema --data oasis --out runs/resnet_f4_ema
    """
    return _cured(resnet_f4(), learning_rate=1e-3, epochs=20.0)


def resnet_f4_narrow() -> TokenizerExperiment:
    """`resnet_f4` with 64 channels and D = 64, all else as described: what two CPU cores train in half an hour.

    brainvq train resnet_f4_narrow --data oasis --out runs/resnet_f4_narrow
    """
    return _narrow(resnet_f4())


def resnet_f4_narrow_ema() -> TokenizerExperiment:
    """`resnet_f4_ema` with 64 channels and D = 64.

    brainvq train resnet_f4_narrow_ema --data oasis --out runs/resnet_f4_narrow_ema
    """
    return _narrow(resnet_f4_ema())


def _cured(exact: TokenizerExperiment, *, learning_rate: float, epochs: float) -> TokenizerExperiment:
    """The same network and number of entries, with the codebook and the training that keep all entries alive."""
    part = exact.tokenizer
    quantizer = vq.Config(entries=part.quantizer.entries, codebook="ema", commitment=0.25)  # type: ignore[attr-defined]
    optimiser = OptimiserConfig(schedule="cosine", warmup=100, clip=1.0, average=0.999)
    train = {"batch_size": 16, "learning_rate": learning_rate, "epochs": epochs}
    return exact.model_copy(
        update={
            "preset": f"{exact.preset}_ema",
            "tokenizer": vqvae.Config(network=part.network, quantizer=quantizer),  # type: ignore[attr-defined]
            "task": tokenizer_task.Config(divide_by_variance=True, optimiser=optimiser),
            "train": exact.train.model_copy(update=train),
        }
    )


def _narrow(wide: TokenizerExperiment) -> TokenizerExperiment:
    quantizer = wide.tokenizer.quantizer  # type: ignore[attr-defined]
    tokenizer = vqvae.Config(network=resnet.Config(width=64), quantizer=quantizer)
    return wide.model_copy(
        update={"preset": wide.preset.replace("resnet_f4", "resnet_f4_narrow"), "tokenizer": tokenizer}
    )


def brain_f8() -> TokenizerExperiment:
    """Our own tokenizer at system A's bits: 32 x 32 codes of 7 bits from 256 x 256.

    Most of the work is done at 32 x 32; the codebook follows the data within some ten steps, so that entries are found
    early; squared and absolute error serve fidelity, structural dissimilarity the folds; what is darker than black
    costs nothing, so that the background is black on purpose; crops and mirror images make more of few subjects.

        brainvq train brain_f8 --data oasis --out runs/brain_f8
    """
    return _brain(
        "brain_f8",
        pixel_shuffle.Config(widths=(48, 192), encoder_blocks=(1, 2), decoder_blocks=(1, 2), dim=4),
        entries=128,
        epochs=60.0,
    )


def brain_f4() -> TokenizerExperiment:
    """Our own tokenizer for near-faithful copies: 64 x 64 codes of 9 bits; all else as `brain_f8`.

    brainvq train brain_f4 --data oasis --out runs/brain_f4
    """
    return _brain(
        "brain_f4",
        pixel_shuffle.Config(widths=(96,), encoder_blocks=(2,), decoder_blocks=(2,), dim=4),
        entries=512,
        epochs=60.0,
    )


def brain_f16() -> TokenizerExperiment:
    """Our own tokenizer for the fewest bits: 16 x 16 codes of 10 bits; all else as `brain_f8`.

    brainvq train brain_f16 --data oasis --out runs/brain_f16
    """
    return _brain(
        "brain_f16",
        pixel_shuffle.Config(widths=(48, 128, 224), encoder_blocks=(1, 1, 2), decoder_blocks=(1, 1, 2), dim=8),
        entries=1024,
        epochs=40.0,
    )


def _brain(name: str, network: pixel_shuffle.Config, *, entries: int, epochs: float) -> TokenizerExperiment:
    """What the tokenizers of our own share."""
    optimiser = OptimiserConfig(name="adamw", weight_decay=0.01, schedule="linear", warmup=50, clip=1.0, average=0.999)
    return TokenizerExperiment(
        preset=name,
        tokenizer=vqvae.Config(network=network, quantizer=vq.Config(entries=entries, decay=0.9)),
        task=tokenizer_task.Config(
            absolute=1.0, structural=1.0, forgive=True, crop=0.75, mirror=True, lying=True, optimiser=optimiser
        ),
        train=TrainConfig(
            epochs=epochs, batch_size=16, learning_rate=3e-3, checkpoint_every=500, validate_every=500, keep="last"
        ),
    )


def demo() -> TokenizerExperiment:
    """A small relative of `keras_f8_ema` that a laptop trains in a minute on 128 x 128: to show, not for results.

    One stage less, so that its codes cover 4 x 4 pixels.

        brainvq demo
    """
    cured = keras_f8_ema()
    quantizer = cured.tokenizer.quantizer  # type: ignore[attr-defined]
    return cured.model_copy(
        update={
            "preset": "demo",
            "tokenizer": vqvae.Config(network=keras_conv.Config(widths=(32, 64), dim=16), quantizer=quantizer),
            "train": TrainConfig(steps=800, batch_size=16, learning_rate=2e-3, validate_every=100, keep="last"),
        }
    )


def histogram() -> PriorExperiment:
    """Independent codes by position, the baseline of every prior: counts of the train split, no training.

    brainvq train histogram --tokenizer runs/keras_f8_ema --data oasis --out runs/histogram
    """
    return PriorExperiment(
        preset="histogram",
        prior=histogram_prior.Config(),
        task=prior_task.Config(),
        train=TrainConfig(steps=1, batch_size=1, keep="last"),
    )


_FEW_HEADS = OptimiserConfig(name="adamw", weight_decay=0.01, schedule="cosine", warmup=100, clip=1.0, average=0.999)
_MATRICES = _FEW_HEADS.model_copy(update={"name": "muon"})
"""For transformers, which learn more from each step by it."""


def pixelcnn() -> PriorExperiment:
    """Gated PixelCNN, the prior of the VQ-VAE paper: each code from those above it and to its left.

    Few images and a thousand codes in each: channels are dropped, weights decay and are averaged, the learning rate
    falls to zero along half a cosine, and the weights that were best on validate are kept.

        brainvq train pixelcnn --tokenizer runs/keras_f8_ema --data oasis --out runs/pixelcnn
    """
    return PriorExperiment(
        preset="pixelcnn",
        prior=pixelcnn_prior.Config(),
        task=prior_task.Config(optimiser=_FEW_HEADS),
        train=TrainConfig(epochs=12.0, batch_size=16, learning_rate=2e-3),
    )


def autoregressive() -> PriorExperiment:
    """A transformer over the codes, one after another, told which slice it draws: exact bits, and steerable samples.

    Few heads: each epoch sees them a little otherwise (`variants`), beside dropout, weight decay, averaged weights and
    the best on validate.

        brainvq train autoregressive --tokenizer weights/brain_f16 --data oasis --out runs/autoregressive
    """
    return PriorExperiment(
        preset="autoregressive",
        prior=autoregressive_prior.Config(dropout=0.2, misread=0.3, likeness=True),
        task=prior_task.Config(optimiser=_MATRICES),
        conditions=ConditionsConfig(columns=("slice",)),
        variants=12,
        train=TrainConfig(epochs=12.0, batch_size=16, learning_rate=2e-3),
    )


def maskgit() -> PriorExperiment:
    """A transformer that fills in hidden codes, all at once in a dozen steps; told which slice it draws.

    It fills in parts of given images too (`brainvq sample --keep`). A step teaches the hidden codes alone, not all of
    them: twice the epochs of `autoregressive`.

        brainvq train maskgit --tokenizer weights/brain_f16 --data oasis --out runs/maskgit
    """
    return PriorExperiment(
        preset="maskgit",
        prior=maskgit_prior.Config(dropout=0.1, misread=0.3, likeness=True),
        task=prior_task.Config(optimiser=_MATRICES),
        conditions=ConditionsConfig(columns=("slice",)),
        variants=12,
        train=TrainConfig(epochs=24.0, batch_size=16, learning_rate=2e-3),
    )


def context() -> PriorExperiment:
    """The entropy model of the codec: codes in 16 passes, each from those around it, in whole numbers.

    For files of one slice, or of slices that are no neighbours; for those of a volume, `context_previous`. Training as
    that of `autoregressive`, with more of the same heads' slices at once, since a step is cheap.

        brainvq train context --tokenizer brain_f8 --data oasis --out runs/context
    """
    return PriorExperiment(
        preset="context",
        prior=context_prior.Config(),
        task=prior_task.Config(optimiser=_FEW_HEADS),
        variants=12,
        train=TrainConfig(epochs=12.0, batch_size=16, learning_rate=5e-3),
    )


def context_previous() -> PriorExperiment:
    """`context`, told the codes of the slice before too: neighbours are nearly copies, so that most is known there.

    brainvq train context_previous --tokenizer brain_f8 --data oasis --out runs/context_previous
    """
    alone = context()
    prior = alone.prior.model_copy(update={"previous": True})
    return alone.model_copy(update={"preset": "context_previous", "prior": prior})


def dcgan() -> PriorExperiment:
    """Reference system B's generator of code indices, as described: a DCGAN over their image, 40 epochs.

    Indices are ordered by brightness first; `--set prior.greys=raw_indices` takes them as described. At 64 x 64 codes
    the layers are those described, at 32 x 32 there is one stage less. A GAN says nothing of likelihood, and its losses
    do not tell when to stop: the weights of the last step.

        brainvq train dcgan --tokenizer runs/resnet_f4_narrow --data oasis --out runs/dcgan
    """
    return PriorExperiment(
        preset="dcgan",
        prior=dcgan_prior.Config(),
        task=adversarial.Config(),
        train=TrainConfig(epochs=40.0, batch_size=32, learning_rate=2e-4, keep="last"),
    )


def demo_prior() -> PriorExperiment:
    """A small relative of `pixelcnn` that a laptop trains in a minute on the codes of `demo`: to show, not for results.

    brainvq demo
    """
    full = pixelcnn()
    return full.model_copy(
        update={
            "preset": "demo_prior",
            "prior": pixelcnn_prior.Config(width=32, layers=6, head=64),
            "train": TrainConfig(steps=400, batch_size=16, learning_rate=3e-3, validate_every=100),
        }
    )


PRESETS: dict[str, Callable[[], Experiment]] = {
    function.__name__: function
    for function in (
        *(keras_f8, keras_f8_ema),
        *(resnet_f4, resnet_f4_ema, resnet_f4_narrow, resnet_f4_narrow_ema),
        *(brain_f8, brain_f4, brain_f16),
        *(histogram, pixelcnn, autoregressive, maskgit, dcgan),
        *(context, context_previous),
        *(demo, demo_prior),
    )
}


def preset(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: no such preset; the nearest name is given.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}{did_you_mean(name, list(PRESETS))} Presets: {', '.join(PRESETS)}.")
    return PRESETS[name]()


def reason(name: str) -> str:
    """The preset's docstring."""
    return (PRESETS[name].__doc__ or "").strip()
