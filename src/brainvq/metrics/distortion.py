"""How far reconstructions lie from their originals: one definition of each measure, for training, evaluation, report.

Images come in as float tensors (B, 1, H, W) in [-1, 1]; all measures but `ssim_shifted` compare them as the 8-bit
images a user would save (`to_uint8`). Every measure is one number an image, in float64, because variances are small
differences of large numbers; devices without float64 (MPS) are measured on the CPU.

Sources: SSIM, Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error visibility to
structural similarity", 2004; MS-SSIM, Z. Wang, E. P. Simoncelli, A. C. Bovik, "Multiscale structural similarity for
image quality assessment", 2003; GMSD, W. Xue, L. Zhang, X. Mou, A. C. Bovik, "Gradient magnitude similarity deviation:
a highly efficient perceptual image quality index", 2014.

Borders: only windows that lie wholly inside the image count, as in Wang's own program and as scikit-image averages.
torchmetrics pads by reflection and averages the border too, and its two-dimensional convolution costs four times as
much; the tests hold us to both. Where we differ from a source, the function says so.
"""

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from brainvq.errors import InputError
from brainvq.head import head_mask

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
BLOCK = 32  # rows of a window matrix at a time
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Rounding to 8 bits alone has this mean squared error. Images that differ by less count as equal: PSNR ends at 58.9 dB.
ROUNDING_ERROR = 1 / 12


@dataclass(frozen=True, eq=False)
class Distortion:
    """One float64 number an image, (B,) on the CPU; NaN only where a mask is empty (or where no brain mask came)."""

    ssim: Tensor
    ssim_foreground: Tensor
    ssim_brain: Tensor
    ms_ssim: Tensor
    psnr: Tensor
    psnr_foreground: Tensor
    psnr_brain: Tensor
    mae: Tensor
    gmsd: Tensor
    spectrum_error: Tensor
    ssim_shifted: Tensor

    def columns(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name).numpy() for field in fields(self)}


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] -> whole grey levels 0..255 (rounded, clipped), in x's own float type. Refuses NaN and infinity."""
    return ((_finite(x) + 1) * 127.5).round().clamp(0, 255)


def ssim(reference: Tensor, reconstruction: Tensor) -> Tensor:
    """The headline: SSIM of two batches (B, 1, H, W) in [-1, 1], compared as 8-bit images -> (B,) float64."""
    x, y = (to_uint8(image).double() for image in _pair(reference, reconstruction))
    return _mean(_similarity(x, y, 255)[0])


def ssim_shifted(reference: Tensor, reconstruction: Tensor) -> Tensor:
    """SSIM on x / 2 in [-0.5, 0.5], unclipped, L = 1 -> (B,). Not the headline: see definitions.py."""
    x, y = _pair(reference, reconstruction)
    return _mean(_similarity(_finite(x).double() / 2, _finite(y).double() / 2, 1)[0])


def distortion(
    reference: Tensor, reconstruction: Tensor, *, head: np.ndarray | None = None, brain: np.ndarray | None = None
) -> Distortion:
    """All measures of a batch (B, 1, H, W) in [-1, 1].

    `head`, `brain`: bool (B, H, W). The head mask is found in the reference when it is not given; an image whose mask
    is empty has NaN for the measures inside it.
    """
    shifted = ssim_shifted(reference, reconstruction)
    x, y = (to_uint8(image).double() for image in _pair(reference, reconstruction))
    if head is None:
        head = head_mask(x[:, 0].to(torch.uint8).cpu().numpy())
    inside_head = torch.from_numpy(head)[:, None].to(x.device)
    inside_brain = torch.zeros_like(inside_head) if brain is None else torch.from_numpy(brain)[:, None].to(x.device)
    similarity, structure = _similarity(x, y, 255)
    square = (x - y).square()
    measured = Distortion(
        ssim=_mean(similarity),
        ssim_shifted=shifted,
        ssim_foreground=_mean_inside(similarity, _centres(inside_head)),
        ssim_brain=_mean_inside(similarity, _centres(inside_brain)),
        psnr=_decibel(_mean(square)),
        psnr_foreground=_decibel(_mean_inside(square, inside_head)),
        psnr_brain=_decibel(_mean_inside(square, inside_brain)),
        mae=_mean((x - y).abs()),
        ms_ssim=_ms_ssim(x, y, similarity, structure),
        gmsd=_gmsd(x.float(), y.float()),
        spectrum_error=_spectrum_error(x.float(), y.float()),
    )
    return Distortion(**{field.name: getattr(measured, field.name).double().cpu() for field in fields(Distortion)})


def _finite(x: Tensor) -> Tensor:
    if not torch.isfinite(x).all():
        raise InputError("images to be measured hold NaN or infinity: has the model that made them diverged?")
    return x


def _pair(reference: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor]:
    if reference.shape != reconstruction.shape or reference.ndim != 4 or reference.shape[1] != 1:
        raise ValueError(
            f"reference is {tuple(reference.shape)} and reconstruction {tuple(reconstruction.shape)}; "
            "both must be (B, 1, H, W)"
        )
    if min(reference.shape[2:]) < WINDOW:
        raise InputError(f"images are {reference.shape[2]} x {reference.shape[3]}; SSIM needs at least 11 x 11 pixels")
    device = "cpu" if reference.device.type == "mps" else reference.device
    return reference.detach().to(device), reconstruction.detach().to(device)


@lru_cache(maxsize=32)
def window_matrix(length: int, device: torch.device) -> Tensor:
    """(length - 10, length): row i holds the Gaussian window over the pixels i .. i + 10. Two products blur an image,
    several times faster on a CPU than a convolution with one channel."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    gaussian = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    windows = torch.zeros(length - WINDOW + 1, length, dtype=torch.float64)
    for row in range(len(windows)):
        windows[row, row : row + WINDOW] = gaussian / gaussian.sum()
    return windows.to(device)


def _similarity(x: Tensor, y: Tensor, L: float) -> tuple[Tensor, Tensor]:
    """Maps (B, 1, H - 10, W - 10): SSIM (eq. 13), and its contrast-structure factor alone."""
    rows, columns = (window_matrix(length, x.device) for length in x.shape[2:])
    mean_x, mean_y, power, product = (_windowed(v, rows, columns) for v in (x, y, x * x + y * y, x * y))
    c1, c2 = (K1 * L) ** 2, (K2 * L) ** 2
    means, square_means = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    structure = (2 * (product - means) + c2) / (power - square_means + c2)
    return (2 * means + c1) / (square_means + c1) * structure, structure


def _windowed(v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ v @ columns.T, by blocks that leave the zeros of the window matrices out: three times faster."""
    reach = BLOCK + WINDOW - 1
    starts = (range(0, len(matrix), BLOCK) for matrix in (rows, columns))
    down, right = ([slice(i, i + BLOCK) for i in each] for each in starts)
    v = torch.cat([rows[i, i.start : i.start + reach] @ v[..., i.start : i.start + reach, :] for i in down], -2)
    return torch.cat([v[..., i.start : i.start + reach] @ columns[i, i.start : i.start + reach].T for i in right], -1)


def _ms_ssim(x: Tensor, y: Tensor, similarity: Tensor, structure: Tensor) -> Tensor:
    """Wang 2003, eq. 7: contrast-structure at every scale but the coarsest, SSIM there. We deviate in that a scale of
    negative mean counts as 0 (a root of it does not exist), and in the number of scales of small images."""
    fits = [s for s in range(len(MS_SSIM_WEIGHTS)) if min(x.shape[2:]) // 2**s >= WINDOW]
    weights = np.array(MS_SSIM_WEIGHTS[: len(fits)]) / sum(MS_SSIM_WEIGHTS[: len(fits)])
    score = torch.ones(len(x), dtype=x.dtype, device=x.device)
    for scale, weight in enumerate(weights):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
            similarity, structure = _similarity(x, y, 255)
        factor = similarity if scale == len(weights) - 1 else structure
        score = score * _mean(factor).clamp(min=0) ** float(weight)
    return score


def _gmsd(x: Tensor, y: Tensor) -> Tensor:
    """Xue 2014, eqs. 3-6, with their T = 170 for 8-bit images; gradients only where the 3 x 3 filter fits."""
    magnitude_x, magnitude_y = _gradient(F.avg_pool2d(x, 2)), _gradient(F.avg_pool2d(y, 2))
    map_ = (2 * magnitude_x * magnitude_y + 170) / (magnitude_x.square() + magnitude_y.square() + 170)
    return map_.flatten(1).double().std(dim=1, correction=0)


def _gradient(image: Tensor) -> Tensor:
    """Magnitude of the Prewitt gradient, filters [1 0 -1] / 3 smoothed over three pixels across."""
    across = image[..., :, 2:] - image[..., :, :-2]
    down = image[..., 2:, :] - image[..., :-2, :]
    across = across[..., :-2, :] + across[..., 1:-1, :] + across[..., 2:, :]
    down = down[..., :, :-2] + down[..., :, 1:-1] + down[..., :, 2:]
    return torch.hypot(across, down) / 3


def _spectrum_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean over rings of |10 log10 P_x - 10 log10 P_y|, in dB."""
    return (_radial_power(x) - _radial_power(y)).abs().mean(dim=1)


def _radial_power(image: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, rings) in dB, for the rings 1 .. min(H, W) / 2 of a spectrum of min(H, W) frequencies."""
    height, width = image.shape[2:]
    window = torch.outer(torch.hann_window(height), torch.hann_window(width)).to(image.device)
    spectrum = torch.fft.rfft2((image[:, 0] - image.mean(dim=(1, 2, 3))[:, None, None]) * window)
    rings, sizes = _rings(height, width, image.device)
    # rfft2 keeps half the plane: columns that stand for two conjugate ones count twice
    twice = torch.full((width // 2 + 1,), 2.0, device=image.device)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    power = ((spectrum.real.square() + spectrum.imag.square()) * twice).flatten(1)
    summed = torch.zeros(len(image), len(sizes), device=image.device).index_add_(1, rings, power)
    floor = ROUNDING_ERROR * window.square().sum()
    return 10 * torch.log10(summed[:, 1:-1] / sizes[1:-1] + floor).double()


@lru_cache(maxsize=8)
def _rings(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The ring of every coefficient of rfft2, flat, and the coefficients of the whole plane in each ring. The last
    ring gathers the corners beyond Nyquist."""
    shorter = min(height, width)
    full = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None, :])
    ring = (full * shorter).round().long().clamp(max=shorter // 2 + 1)
    sizes = torch.bincount(ring.flatten(), minlength=shorter // 2 + 2).float()
    return ring[:, : width // 2 + 1].flatten().to(device), sizes.to(device)


def _centres(mask: Tensor) -> Tensor:
    """The part of a mask (B, 1, H, W) where a window fits around the pixel."""
    edge = WINDOW // 2
    return mask[..., edge:-edge, edge:-edge]


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)


def _mean_inside(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over a mask, an image at a time; NaN (0 / 0) where the mask is empty."""
    return (values * mask).flatten(1).sum(dim=1) / mask.flatten(1).sum(dim=1)


def _decibel(square_error: Tensor) -> Tensor:
    return 10 * torch.log10(255**2 / square_error.clamp(min=ROUNDING_ERROR))
