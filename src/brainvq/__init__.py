"""brainvq: discrete representations of brain MR images.

import brainvq
model = brainvq.load("runs/keras_f8_ema")
encoded = model.encode("slice.png")        # integers, and what is needed to go back
scan = model.decode(encoded)               # the reconstruction, in the shape and grey values of the input

prior = brainvq.load_generator("runs/pixelcnn")
images = prior.images(prior.codes(4, seed=1))  # new ones, uint8 (4, H, W)

codec = brainvq.load_codec("brain_f8")
data = codec.compress(["1.png", "2.png"])  # bytes of one small file
scans = codec.decompress(data)             # their reconstructions
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Codec",
    "Encoded",
    "Generator",
    "InputError",
    "Pipeline",
    "Scan",
    "__version__",
    "load",
    "load_codec",
    "load_generator",
]

if TYPE_CHECKING:
    from brainvq.archive.codec import Codec, load_codec
    from brainvq.data.scan import Scan
    from brainvq.errors import InputError
    from brainvq.pipeline import Encoded, Generator, Pipeline, load, load_generator

_HOMES = {
    "Codec": "brainvq.archive.codec",
    "load_codec": "brainvq.archive.codec",
    "Scan": "brainvq.data.scan",
    "InputError": "brainvq.errors",
    "Encoded": "brainvq.pipeline",
    "Generator": "brainvq.pipeline",
    "Pipeline": "brainvq.pipeline",
    "load": "brainvq.pipeline",
    "load_generator": "brainvq.pipeline",
}


def __getattr__(name: str) -> Any:
    """Names of the public interface, imported when first used: `brainvq --help` need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'brainvq' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
