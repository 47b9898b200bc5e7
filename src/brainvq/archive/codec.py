"""Scans -> bytes -> scans: the pipeline, with its codes in the format of `codec/` between.

What comes back is what the pipeline reconstructs, to the bit. A file names the tokenizer and the entropy model that it
was made with by their hashes, and is refused by any other: a wrong model would give noise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from brainvq import models
from brainvq.archive.lossless import pixels_of, scan_of, values_of
from brainvq.codec import entropy
from brainvq.codec.bitstream import Bitstream, Fault, Group
from brainvq.codec.entropy import EntropyModel
from brainvq.codec.header import HASH, Header, Item
from brainvq.codec.uniform import Uniform
from brainvq.codec.writer import GROUP, Writer
from brainvq.data.frame_bytes import frame_from_bytes, frame_to_bytes
from brainvq.data.scan import Scan, read
from brainvq.data.transforms import Frame
from brainvq.errors import InputError
from brainvq.models import is_shipped, model_folder, shipped
from brainvq.pipeline import LARGEST_IMAGE, Encoded, Pipeline, load, load_generator
from brainvq.run import read_config

ENTROPY = "entropy.safetensors"
"""Beside a tokenizer's weights, where it has an entropy model."""


class Codec:
    """A tokenizer with an entropy model of its codes.

    Args:
        entropy: None for one in which all codes are equally likely.
        name: of the shipped model that has both, for the file to name; else "".

    Raises:
        InputError: the entropy model is of other codes.
    """

    def __init__(self, pipeline: Pipeline, entropy: EntropyModel | None = None, name: str = "") -> None:
        self.pipeline, self.name = pipeline, name
        self.entropy = Uniform(pipeline.spec.entries) if entropy is None else entropy
        if self.entropy.entries != pipeline.spec.entries:
            raise InputError(
                f"an entropy model of {list(self.entropy.entries)} entries, and a tokenizer of "
                f"{list(pipeline.spec.entries)}. Give the prior that was trained on this tokenizer."
            )

    def compress(
        self, scans: Scan | str | Path | Iterable[Scan | str | Path], *, lossless: bool = False, group: int = GROUP
    ) -> bytes:
        """One file of all `scans`, or of the files at these paths, in their order; or of a single one. Slices whose
        names differ in one number follow each other in a head, for an entropy model that looks at the slice before.

        Args:
            lossless: whether the very pixels come back; then the file is decoded once, to be sure of it.
            group: slices that share a chunk at most; damage costs one.

        Raises:
            InputError: there are none, or too many; `group` is none; lossless ones are not of whole numbers of 16
                bits; or what `Pipeline.encode` raises.
        """
        if group < 1:
            raise InputError(f"groups of {group} slices. Give 1 at least, or leave it at {GROUP}.")
        writer, before = Writer(self.header, self.entropy, group=group, lossless=lossless), None
        for one in [scans] if isinstance(scans, Scan | str | Path) else scans:
            scan = one if isinstance(one, Scan) else read(one)
            encoded = self.pipeline.encode(scan)
            codes = self.pipeline.spec.flatten(encoded.codes).cpu().numpy()
            pixels = pixels_of(scan, encoded, self.pipeline) if lossless else None
            writer.add(_item(encoded), codes, pixels, follows=before is not None and _follows(before, encoded))
            before = encoded
        if before is None:
            raise InputError("there is no scan to compress. Give one at least.")
        data = writer.finish()
        if lossless:
            self.decompress(data)
        return data

    def decompress(self, data: bytes, name: str = "the file") -> list[Scan]:
        """The scans of a file, as `Pipeline.reconstruct` gives them, or as they were if it is lossless.

        Raises:
            InputError: it is none, is damaged, or was made by another model; both are named then.
        """
        file = Bitstream(data, name)
        file.refuse_damage()
        found = []
        for item, scan in self.scans(file):
            if isinstance(scan, Fault):
                raise file.lost(item, scan)
            found.append(scan)
        return found

    def scans(self, file: Bitstream, which: Iterable[int] | None = None) -> Iterator[tuple[Item, Scan | Fault]]:
        """Each scan of a parsed file, decoded when it is asked for, or what is wrong with the group that it lies in.

        Args:
            which: numbers of scans; None for all. No group is decoded but those in which they lie.

        Raises:
            InputError: the file was made by another model, tells of frames that cannot be, or has no scan of such a
                number.
        """
        self.refuse_other(file)
        frames, numbers = frames_of(file), file.numbers(which)

        def read_group(group: Group) -> NDArray[np.int64]:
            if file.lossless:
                return values_of(group, file, frames, self.pipeline, self.entropy)
            return file.codes(group, self.entropy)

        for number, (item, found) in zip(numbers, file.each(read_group, numbers), strict=True):
            if isinstance(found, Fault):
                yield item, found
                continue
            if file.lossless:
                whole: Scan | Fault
                try:
                    whole = scan_of(found, frames[number], item)
                except InputError as error:
                    whole = Fault(int(file.starts[number]), item.slices, str(error))
                yield item, whole
                continue
            codes = self.pipeline.spec.unflatten(torch.from_numpy(found), item.size)
            weights = self.pipeline.weights_sha256
            yield item, self.pipeline.decode(Encoded(codes, frames[number], item.name, item.subject, weights))

    def refuse_other(self, file: Bitstream) -> None:
        """Raises InputError, with both hashes, unless `file` was made by this tokenizer and this entropy model."""
        head, pipeline = file.header, self.pipeline
        if head.tokenizer != pipeline.weights_sha256[: 2 * HASH]:
            named = f" ({head.model})" if head.model else ""
            raise InputError(
                f"{file.name}: was made by the tokenizer {head.tokenizer[:12]}{named}, and this one is "
                f"{pipeline.weights_sha256[:12]}. Give the model that made it by --model."
            )
        if head.spec != pipeline.spec:
            raise InputError(
                f"{file.name}: holds codes of {head.spec.to_json()}; this tokenizer makes {pipeline.spec.to_json()}. "
                "Compress the images again."
            )
        if head.entropy != self.entropy.sha256[: 2 * HASH] or head.previous != self.entropy.takes_previous:
            raise InputError(
                f"{file.name}: was made with the entropy model {head.entropy[:12]} ({head.kind}), and this one is "
                f"{self.entropy.sha256[:12]} ({self.entropy.kind}). Give the prior that made it by --model."
            )

    @property
    def header(self) -> Header:
        """What a file says of this codec."""
        return Header(
            tokenizer=self.pipeline.weights_sha256[: 2 * HASH],
            entropy=self.entropy.sha256[: 2 * HASH],
            kind=self.entropy.kind,
            model=self.name,
            spec=self.pipeline.spec,
            previous=self.entropy.takes_previous,
        )


def load_codec(
    model: str | Path, tokenizer: str | Path | None = None, device: str | torch.device | None = None
) -> Codec:
    """What compresses with MODEL: a prior's run that has an entropy model (presets `histogram`, `context`), or a
    tokenizer, shipped or a run, with the one that lies beside its weights, if any.

    `tokenizer` says where a prior's lies, if it is not where it was during training.

    Raises:
        InputError: not a model, or damaged; or a prior of a kind that has no entropy model.
    """
    folder = model_folder(model)
    if read_config(folder).get("kind") == "prior":
        generator = load_generator(folder, tokenizer, device)
        found = generator.prior.entropy()
        if found is None:
            raise InputError(
                f"{model}: this kind of prior has no tables that every machine computes alike. Train one that has: "
                f"brainvq train histogram --tokenizer ... --data ... --out ..."
            )
        return Codec(generator.pipeline, entropy.build(found[0], generator.prior.spec.entries, found[1]))
    beside = folder / ENTROPY
    name = folder.resolve().name if is_shipped(folder) else ""
    return Codec(load(folder, device), entropy.load(beside) if beside.exists() else None, name)


def codec_of(
    file: Bitstream,
    model: str | Path | None = None,
    tokenizer: str | Path | None = None,
    device: str | torch.device | None = None,
) -> Codec:
    """What decompresses `file`: `model`, or the shipped one whose hash it names.

    Raises:
        InputError: none has that hash, or `model` is another one.
    """
    codec = load_codec(_shipped_for(file) if model is None else model, tokenizer, device)
    if file.header.kind == Uniform.kind:  # every tokenizer has that one
        codec = Codec(codec.pipeline, None, codec.name)
    codec.refuse_other(file)
    return codec


def _shipped_for(file: Bitstream) -> Path:
    for name in shipped():
        weights = read_config(models.SHIPPED / name).get("weights_sha256")
        if isinstance(weights, str) and weights.startswith(file.header.tokenizer):
            return models.SHIPPED / name
    raise InputError(
        f"{file.name}: was made by the tokenizer {file.header.tokenizer[:12]}, which is none of those that come with "
        f"brainvq ({', '.join(shipped()) or 'none'}). Give the model that made it by --model."
    )


def _item(encoded: Encoded) -> Item:
    frame = encoded.frame
    return Item(encoded.name, encoded.subject, frame.stack[0], _padded(frame), frame_to_bytes(frame))


def frames_of(file: Bitstream) -> list[Frame]:
    """Of each scan.

    Raises:
        InputError: one that is not of the images that the file tells of.
    """
    known: dict[tuple[int, tuple[int, ...], bytes], Frame] = {}
    for item in file.items:
        key = (item.slices, item.size, item.frame)
        if key not in known:
            try:
                known[key] = _frame_of(item)
            except ValueError as error:
                said = str(error).removesuffix(".")
                raise InputError(
                    f"{file.name}: the frame of {item.name} cannot be: {said}. Compress the images again."
                ) from error
    return [known[item.slices, item.size, item.frame] for item in file.items]


def _frame_of(item: Item) -> Frame:
    if item.slices * math.prod(item.size) > LARGEST_IMAGE:
        raise InputError(f"an image of {item.slices} x {item.size} pixels is beyond {LARGEST_IMAGE:,}")
    frame = frame_from_bytes(item.frame)
    if (frame.stack[0], _padded(frame)) != (item.slices, item.size):
        raise InputError(f"it is of {frame.stack[0]} x {_padded(frame)} pixels, and not {item.slices} x {item.size}")
    return frame


def _padded(frame: Frame) -> tuple[int, ...]:
    return tuple(n + sum(ends) for n, ends in zip(frame.image, frame.padding, strict=True))


def _follows(before: Encoded, now: Encoded) -> bool:
    """Whether these are neighbouring slices of one head: pictures of one subject whose names differ in the last number
    alone."""
    pictures = before.frame.affine is None and now.frame.affine is None
    return pictures and before.subject == now.subject and _series(before.name) == _series(now.name)


def _series(name: str) -> str:
    return re.sub(r"\d+(?=\D*$)", "", name)
