"""What each choice of `brain_f8` is worth: one left out at a time, the same minutes of training for each.

    python -m benchmarks.ablations --data DATA --minutes 3

How it is measured: `benchmarks/variants.py`.
"""

from __future__ import annotations

from benchmarks.variants import Comparison, main

ABLATIONS = Comparison(
    "ablations",
    "brain_f8",
    {
        "as it is": (),
        "no structural loss": ("task.structural=0.0",),
        "no absolute error": ("task.absolute=0.0",),
        "errors beyond black count": ("task.forgive=false",),
        "whole images instead of crops": ("task.crop=1.0",),
        "no mirror images": ("task.mirror=false",),
        "a slower codebook (decay 0.99)": ("tokenizer.quantizer.decay=0.99",),
        "vectors of 16 numbers instead of 4": ("tokenizer.network.dim=16",),
        "128 channels instead of 192": ("tokenizer.network.widths=[48, 128]",),
        "half the learning rate": ("train.learning_rate=0.0015",),
    },
)

if __name__ == "__main__":
    main(ABLATIONS, __doc__, minutes=3.0)
