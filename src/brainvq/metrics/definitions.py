"""The names, units and exact definitions of the measures: the words for tables, and for a methods section.

The order is the order of every table: the headline first, the shifted scale last. The arithmetic is in `distortion.py`.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Measure:
    """What a number is called, what it counts in, which way is good, and the sentence for a methods section.

    "as real": good is what real images have; more is as wrong as less.
    """

    label: str
    unit: str
    better: Literal["higher", "lower", "as real"]
    definition: str


MEASURES = {
    "ssim": Measure(
        "SSIM",
        "",
        "higher",
        "SSIM (Wang 2004) of 8-bit images: Gaussian window 11 x 11, sigma 1.5, K1 0.01, K2 0.03, population "
        "covariance, L 255; mean over the windows that lie wholly inside the image.",
    ),
    "ssim_foreground": Measure(
        "SSIM foreground",
        "",
        "higher",
        "Mean of the 8-bit SSIM map over the window centres inside the head mask of the original.",
    ),
    "ssim_brain": Measure(
        "SSIM brain",
        "",
        "higher",
        "Mean of the 8-bit SSIM map over the window centres inside the tissue mask that comes with the data.",
    ),
    "ms_ssim": Measure(
        "MS-SSIM",
        "",
        "higher",
        "Multi-scale SSIM (Wang 2003) of 8-bit images: five scales, each the 2 x 2 average of the one before; below "
        "176 pixels as many scales as the window fits into, the weights of those divided by their sum.",
    ),
    "psnr": Measure(
        "PSNR",
        "dB",
        "higher",
        "Peak signal to noise ratio of 8-bit images, an image at a time, then averaged; the mean squared error is "
        "taken as at least 1/12 (rounding), so that equal images have 58.9 dB.",
    ),
    "psnr_foreground": Measure(
        "PSNR foreground", "dB", "higher", "The same PSNR over the pixels inside the head mask of the original."
    ),
    "psnr_brain": Measure(
        "PSNR brain",
        "dB",
        "higher",
        "The same PSNR over the pixels inside the tissue mask that comes with the data.",
    ),
    "mae": Measure("MAE", "grey levels", "lower", "Mean absolute difference of 8-bit images."),
    "gmsd": Measure(
        "GMSD",
        "",
        "lower",
        "Gradient magnitude similarity deviation (Xue 2014) of 8-bit images: 2 x 2 average, every second pixel, "
        "Prewitt gradients, T 170; standard deviation of the similarity map.",
    ),
    "spectrum_error": Measure(
        "Spectrum error",
        "dB",
        "lower",
        "Mean absolute difference of the radially averaged power spectra of 8-bit images (mean removed, Hann window, "
        "rings one frequency wide from 1 to Nyquist, the power of rounding noise added to both).",
    ),
    "ssim_shifted": Measure(
        "SSIM, shifted",
        "",
        "higher",
        "The same SSIM on unclipped float images in [-0.5, 0.5] with L 1; it forgives errors of the background and "
        "only stands beside numbers published on this scale.",
    ),
}

GENERATION = {
    "bits_per_code": Measure(
        "Bits a code",
        "",
        "lower",
        "Negative log2 likelihood of the codes of a held-out image, divided by their number; mean over images.",
    ),
    "bits_per_pixel": Measure(
        "Bits a pixel", "", "lower", "The same bits divided by the pixels of the image without padding."
    ),
    "saved": Measure(
        "Saved against the histogram",
        "",
        "higher",
        "One minus the bits by those of a histogram by position (priors.histogram) that has seen the same train codes, "
        "paired by subject.",
    ),
    "described_ssim": Measure(
        "Described: SSIM with train batches",
        "",
        "higher",
        "Mean shifted SSIM of the first 16 samples with 16 training images, the first with the first and so on; the "
        "best of all batches of 16 in file order, and the mean over batches.",
    ),
    "nearest_train": Measure(
        "SSIM to the nearest training image",
        "",
        "as real",
        "SSIM of 8-bit images to the most similar training image: of the eight with the highest correlation at 64 x 64 "
        "(means of areas) the one with the highest SSIM.",
    ),
    "nearest_train_as_many": Measure(
        "The same, as many subjects as held out",
        "",
        "as real",
        "The same among the images of as many training subjects, drawn by the seed, as there are held-out ones.",
    ),
    "nearest_validate": Measure(
        "SSIM to the nearest held-out image",
        "",
        "as real",
        "The same among the held-out images; for a real image among those of other subjects.",
    ),
    "diversity": Measure(
        "Diversity: SSIM of pairs",
        "",
        "as real",
        "Mean SSIM of 8-bit images over all pairs of samples (1,024 drawn by the seed where there are more); of real "
        "images over pairs of different subjects.",
    ),
    "live_entries": Measure(
        "Live entries that occur",
        "%",
        "as real",
        "Share of the codebook entries in use in the train split that occur in the samples, all levels together.",
    ),
}

WHOLE_HEADS = {
    "neighbour_ssim": Measure(
        "Heads: SSIM of neighbouring slices",
        "",
        "as real",
        "Mean SSIM of 8-bit slices that are neighbours in a head, of heads made slice after slice; mean over heads.",
    ),
    "flicker": Measure(
        "Heads: flicker",
        "",
        "as real",
        "How far the mean grey inside the head of a slice lies from the mean of those of its two neighbours, relative "
        "to the mean over slices; mean over slices, then over heads.",
    ),
}
"""Of heads that are made slice after slice."""
