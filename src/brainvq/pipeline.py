"""The hourglass as code: scans to codes and back, by a trained model.

The command line, the evaluation and the Python interface reconstruct only through this file, so they cannot disagree.
Everything here is float32, but for `unrounded`, and changes nothing in the model.
"""

from __future__ import annotations

import copy
import io
import json
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainvq.codes import Codes, CodeSpec
from brainvq.data.columns import SLICE
from brainvq.data.planes import AXES, Plane
from brainvq.data.scan import LARGEST_VOLUME, Scan, atomic, read
from brainvq.data.transforms import Frame, frame_of, in_units, tensor_of, to_scan
from brainvq.errors import InputError
from brainvq.grain import Grain
from brainvq.models import Model, PriorModel, grain_of, open_model, open_prior
from brainvq.priors.conditions import Given, Numeric, told
from brainvq.priors.drawing import PLAIN, Drawing
from brainvq.tokenizers.base import Tokenizer

FORMAT = 1
LARGEST_ARCHIVE = 1 << 28  # bytes of a file of codes, decompressed
LARGEST_IMAGE = LARGEST_VOLUME  # pixels with padding
TOGETHER = 16  # slices of a volume that go through the model at once
NOTHING: Mapping[str, str] = MappingProxyType({})
DAMAGE = (  # what the decoders of ZIP, NPY and JSON raise on foreign bytes
    *(OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, MemoryError, SyntaxError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)


@dataclass(frozen=True, eq=False)
class Encoded:
    """One scan as codes.

    `codes`: each level (1, *grid), or (slices, *grid) of a volume. `frame`: what undoes the preprocessing. `name`,
    `subject`: the scan's. `weights_sha256`: of the tokenizer that made the codes, and that alone can decode them.
    """

    codes: Codes
    frame: Frame
    name: str
    subject: str | None
    weights_sha256: str


class Pipeline:
    """A trained tokenizer with its preprocessing.

    Args:
        model: as `brainvq.models.open_model` gives it.
    """

    def __init__(self, model: Model) -> None:
        self.tokenizer, self.config, self.weights_sha256 = model.tokenizer, model.config, model.weights_sha256
        self._model = model
        self.device = model.tokenizer.device
        self.tokenizer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def spec(self) -> CodeSpec:
        return self.tokenizer.spec

    @cached_property
    def grain(self) -> Grain | None:
        """What sampled images get, where it was measured.

        Raises:
            InputError: it is damaged, or of other weights.
        """
        return grain_of(self._model)

    @property
    def plane(self) -> Plane:
        """In which volumes are cut: that of training."""
        experiment = self.config.get("experiment")
        data = experiment.get("data") if isinstance(experiment, dict) else None
        told = data.get("plane") if isinstance(data, dict) else None
        return told if told in AXES else "axial"

    def encode(self, scan: Scan | str | Path) -> Encoded:
        """A scan, or the path of one, as codes; a volume slice by slice, if the tokenizer takes slices.

        Raises:
            InputError: the file cannot be read, or has too few axes for the tokenizer.
        """
        scan = scan if isinstance(scan, Scan) else read(scan)
        if scan.voxels.ndim < self.spec.axes:
            raise InputError(
                f"{scan.name}: has {scan.voxels.ndim} axes; this tokenizer takes images of {self.spec.axes}."
            )
        frame = frame_of(scan, self.spec.multiple, self.plane)
        parts = [self._encode(tensor_of(scan, frame, part)) for part in _parts(frame.stack[0])]
        codes = tuple(torch.cat(level) for level in zip(*parts, strict=True))
        return Encoded(codes, frame, scan.name, scan.subject, self.weights_sha256)

    def decode(self, encoded: Encoded) -> Scan:
        """The scan that the codes stand for: shape, intensities and dtype of the one that was encoded.

        Raises:
            InputError: the codes come from another tokenizer, or do not fit the frame; or the weights give NaN.
        """
        if encoded.weights_sha256 != self.weights_sha256:
            raise InputError(
                f"{encoded.name}: its codes were made by the tokenizer {encoded.weights_sha256[:12]}, and this one is "
                f"{self.weights_sha256[:12]}. Decode with the model that encoded."
            )
        frame, codes = encoded.frame, encoded.codes
        size = [n + sum(ends) for n, ends in zip(frame.image, frame.padding, strict=True)]
        try:
            self.spec.check(codes, size)
            if len(codes[0]) != frame.stack[0]:
                raise InputError(f"codes of {len(codes[0])} slices, and a frame of {frame.stack[0]}")
        except InputError as error:
            raise InputError(f"{encoded.name}: {error}") from error
        parts = (self._decode(tuple(level[part] for level in codes)) for part in _parts(frame.stack[0]))
        return to_scan(parts, frame, encoded.name, encoded.subject)

    def unrounded(self, codes: Codes, frame: Frame, name: str) -> NDArray[np.float64]:
        """(B, *S): what `decode` gives of slices of a scan (each level (B, *grid)) before it rounds, by float64 on the
        CPU, where machines differ in the last digits only."""
        with torch.inference_mode():
            parts = [self._exact.decode(tuple(level[part].cpu() for level in codes)) for part in _parts(len(codes[0]))]
        return np.concatenate([in_units(part, frame, name) for part in parts])

    @cached_property
    def _exact(self) -> Tokenizer:
        return copy.deepcopy(self.tokenizer).to("cpu", torch.float64)

    def reconstruct(self, scan: Scan | str | Path) -> Scan:
        """Through the codes and back."""
        return self.decode(self.encode(scan))

    def images(self, codes: Codes) -> NDArray[np.uint8]:
        """Codes (each level (B, *grid)) as 8-bit images (B, *S).

        Raises:
            InputError: the codes are not of this tokenizer, or the weights give NaN.
        """
        return np.asarray(self._greys(codes).round().astype(np.uint8))

    def grained(self, codes: Codes) -> NDArray[np.uint8]:
        """As `images`, with the tokenizer's grain where it has one: what sampled images are.

        Raises:
            InputError: as `images`.
        """
        grain = self.grain
        return self.images(codes) if grain is None or not len(codes[0]) else grain.onto(self._greys(codes), codes)

    def _greys(self, codes: Codes) -> NDArray[np.float32]:
        """(B, *S), from 0 to 255."""
        self.spec.check(codes)
        x_hat = self._decode(codes)[:, 0]
        if not x_hat.isfinite().all():
            raise InputError("the decoder gives numbers that are not finite. Its weights may be damaged.")
        return np.asarray(((x_hat.clamp(-1, 1) + 1) * 127.5).cpu().numpy())

    def through(self, x: Tensor, *, grain: bool) -> NDArray[np.uint8]:
        """x (B, 1, *S) in [-1, 1] through its codes and back as a sampled image, with `grain` or without, (B, *S)."""
        codes = self._encode(x)
        return self.grained(codes) if grain else self.images(codes)

    def reconstruct_batch(self, x: Tensor) -> tuple[Tensor, Codes]:
        """x (B, 1, *S) in [-1, 1] -> x_hat of the same shape, and the codes between."""
        codes = self._encode(x)
        return self._decode(codes), codes

    @torch.inference_mode()
    def _encode(self, x: Tensor) -> Codes:
        return self.tokenizer.encode(x.to(self.device))

    @torch.inference_mode()
    def _decode(self, codes: Codes) -> Tensor:
        return self.tokenizer.decode(tuple(code.to(self.device) for code in codes))


class Generator:
    """A trained prior with the pipeline of its tokenizer: new images from nothing but a seed.

    Args:
        model: as `brainvq.models.open_prior` gives it.
    """

    def __init__(self, model: PriorModel) -> None:
        self.prior, self.config, self.weights_sha256 = model.prior, model.config, model.weights_sha256
        self.folder, self.tokenizer = model.folder, model.tokenizer
        self.pipeline = Pipeline(model.tokenizer)

    @property
    def orders(self) -> tuple[Tensor, ...]:
        """As `Prior.orders`."""
        return self.prior.orders

    @torch.inference_mode()
    def codes(
        self,
        n: int,
        *,
        seed: int = 0,
        first: int = 0,
        wanted: Mapping[str, str] = NOTHING,
        drawing: Drawing = PLAIN,
        keep: tuple[Codes, Tensor] | None = None,
    ) -> Codes:
        """Samples `first` .. `first + n - 1` of the endless sequence that `seed` starts, each level (n, *grid).

        Sample i is a function of seed and i alone, whatever it is drawn together with. `wanted`: conditions by name;
        `conditions` tells what the others are. `keep`: codes and which of them, as `Prior.fill`; the prior is then told
        what is wanted and nothing else, for the image that is kept is what it is.

        Raises:
            InputError: a condition that the prior does not know, or a value that it never saw; or it cannot draw so.
        """
        if n < 1:
            raise InputError(f"{n} samples were asked for; at least 1 is needed.")
        numbers = range(first, first + n)
        generators = [_random(seed, i) for i in numbers]
        if keep is not None:
            return self.prior.fill(generators, *keep, self._given([wanted] * n), drawing)
        return self.prior.sample(generators, self._given([self.conditions(seed, i, wanted) for i in numbers]), drawing)

    @torch.inference_mode()
    def head(
        self, *, seed: int = 0, number: int = 0, wanted: Mapping[str, str] = NOTHING, drawing: Drawing = PLAIN
    ) -> Codes:
        """Head `number` of `seed`, each level (slices, *grid): slice after slice, each on the codes of the one before.

        Raises:
            InputError: the prior was not trained on slices and those before them; or as `codes`.
        """
        return self.heads([number], seed=seed, wanted=wanted, drawing=drawing)

    @torch.inference_mode()
    def heads(
        self, numbers: Sequence[int], *, seed: int = 0, wanted: Mapping[str, str] = NOTHING, drawing: Drawing = PLAIN
    ) -> Codes:
        """Heads of these numbers one after another, each as `head` has it: each level (heads * slices, *grid).

        Raises:
            InputError: as `head`.
        """
        conditions = [self.conditions(seed, number, wanted) for number in numbers]
        found: list[Codes] = []
        for i in self.slices:
            values = [told(self.prior.conditions, {**known, SLICE: str(i)}) for known in conditions]
            given = Given(torch.stack(values), found[-1] if found else None)
            found.append(self.prior.sample([_random(seed, number, i) for number in numbers], given, drawing))
        return tuple(torch.stack(level, 1).flatten(0, 1) for level in zip(*found, strict=True))

    @property
    def slices(self) -> range:
        """Of a head.

        Raises:
            InputError: the prior makes none.
        """
        known = next((one for one in self.prior.conditions if one.name == SLICE), None)
        if not (isinstance(known, Numeric) and known.whole and self.prior.takes_previous):
            raise InputError(
                "this prior makes single slices: it was not trained on the slice before. Train one with --set "
                f"prior.previous=true --set 'conditions.columns=[\"{SLICE}\"]'."
            )
        return range(int(known.low), int(known.high) + 1)

    def conditions(self, seed: int, i: int, wanted: Mapping[str, str] = NOTHING) -> dict[str, str]:
        """What sample i of a seed is told: `wanted`, and else what is drawn evenly from what training has seen."""
        told(self.prior.conditions, wanted)
        drawn = np.random.SeedSequence((seed, i)).generate_state(2 + len(self.prior.conditions))[2:]
        each = zip(self.prior.conditions, drawn.tolist(), strict=True)
        return {one.name: wanted.get(one.name, one.text(word / (1 << 32))) for one, word in each}

    def _given(self, known: Sequence[Mapping[str, str]]) -> Given | None:
        """What the prior is told of each image; None where that is nothing."""
        rows = [told(self.prior.conditions, each) for each in known]
        return Given(torch.stack(rows)) if any(known) else None

    def images(self, codes: Codes, *, grain: bool = True) -> NDArray[np.uint8]:
        """Codes (each level (n, *grid)) as 8-bit images (n, *S), as large as those of training were without padding.

        `grain`: with the tokenizer's grain, where that was measured.
        """
        images = self.pipeline.grained(codes) if grain else self.pipeline.images(codes)
        return images[(slice(None), *(slice(side) for side in self.size))]

    @property
    def size(self) -> list[int]:
        """Pixels of an image, as of those of training; with their padding where the run does not tell."""
        data = self.config.get("data")
        told = data.get("size") if isinstance(data, dict) else None
        padded = list(self.prior.size)
        if not isinstance(told, list) or len(told) != len(padded):
            return padded
        fits = all(type(n) is int and 0 < n <= most for n, most in zip(told, padded, strict=True))
        return told if fits else padded


def _random(*numbers: int) -> torch.Generator:
    """Of its own for these numbers."""
    high, low = (int(word) for word in np.random.SeedSequence(numbers).generate_state(2))
    return torch.Generator().manual_seed(high << 32 | low)


def load(model: str | Path, device: str | torch.device | None = None) -> Pipeline:
    """The trained tokenizer of a run folder, or the shipped one of that name, ready to encode, decode and reconstruct.

    `device` defaults to a GPU where there is one.

    Raises:
        InputError: not a run, a prior's, or damaged.
    """
    return Pipeline(open_model(model, device or _device()))


def load_generator(
    model: str | Path, tokenizer: str | Path | None = None, device: str | torch.device | None = None
) -> Generator:
    """The trained prior of a run folder with its tokenizer, ready to sample.

    `tokenizer` says where that lies, if it is not where it was during training.

    Raises:
        InputError: not a prior's run, or damaged; or its tokenizer is missing, or another one.
    """
    return Generator(open_prior(model, tokenizer, device or _device()))


def _parts(slices: int) -> Iterator[slice]:
    """Of a batch of so many, those that go through the model together."""
    return (slice(start, start + TOGETHER) for start in range(0, slices, TOGETHER))


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def save_encoded(encoded: Encoded, path: Path) -> None:
    """Codes and frame as .npz, without pickle; the smallest unsigned integers that hold the codes. Atomic."""
    arrays: dict[str, Any] = {}
    for level, code in enumerate(encoded.codes):
        values = code.cpu().numpy()
        arrays[f"codes_{level}"] = values.astype(np.min_scalar_type(int(values.max(initial=0))))
    about = {
        "format": FORMAT,
        "frame": encoded.frame.to_json(),
        "name": encoded.name,
        "subject": encoded.subject,
        "weights_sha256": encoded.weights_sha256,
    }
    with atomic(path) as file:
        np.savez_compressed(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)


def load_encoded(path: Path) -> Encoded:
    """What `save_encoded` wrote. A stranger's file is held against its own sizes before memory is taken for it.

    Raises:
        InputError: the file is missing, damaged, or of another format.
    """
    try:
        arrays = _arrays(path)
        about = json.loads(arrays.pop("about").tobytes())
        if about["format"] != FORMAT:
            raise InputError(f"format {about['format']!r}; this version reads format {FORMAT}")
        frame = Frame.from_json(about["frame"])
        name, subject, weights = about["name"], about["subject"], about["weights_sha256"]
        if not (isinstance(name, str) and isinstance(subject, str | None) and isinstance(weights, str)):
            raise InputError("its name, subject or hash is no text")
        padded = [n + sum(ends) for n, ends in zip(frame.image, frame.padding, strict=True)]
        if math.prod((frame.stack[0], *padded)) > LARGEST_IMAGE:
            raise InputError(f"an image of {frame.shape} with padding is beyond {LARGEST_IMAGE:,} pixels")
        levels = [arrays[f"codes_{level}"] for level in range(len(arrays))]
        if not levels or any(level.ndim == 0 or len(level) != frame.stack[0] for level in levels):
            raise InputError("the codes of one scan are expected")
        codes = tuple(torch.from_numpy(level.astype(np.int64)) for level in levels)
    except DAMAGE as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise InputError(f"{path} is not a file of codes ({said}). Make one with `brainvq encode`.") from error
    return Encoded(codes, frame, name, subject, weights)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz. A member is never decompressed beyond the size that the archive's directory gives it, and
    these are summed first; a header inside must agree with what was read, and allocates nothing."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > LARGEST_ARCHIVE:
            raise InputError(f"it unpacks to more than {LARGEST_ARCHIVE:,} bytes")
        if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
            raise InputError("its compression is not NumPy's")
        return {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}


def _array(data: bytes) -> NDArray[Any]:
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise InputError("an array of another version of .npy")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind != "u":
        raise InputError(f"an array of {dtype}; unsigned integers are expected")
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise InputError(f"an array of shape {shape} in {len(data)} bytes")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
