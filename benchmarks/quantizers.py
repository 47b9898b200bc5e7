"""All quantizers at equal bits and equal time: one network, 7 bits a code, the same minutes of training for each.

    python -m benchmarks.quantizers --data DATA --minutes 6

The network, the losses and the training are those of `brain_f8`; how it is measured: `benchmarks/variants.py`.
"""

from __future__ import annotations

from benchmarks.variants import Comparison, main

QUANTIZERS = Comparison(
    "quantizers",
    "brain_f8",
    {
        "vq": (),
        "normalized": (
            'tokenizer.quantizer={"kind": "quantizers.normalized", "entries": 128, "code_dim": 8, "decay": 0.9}',
            "tokenizer.network.dim=8",
        ),
        "fsq": ('tokenizer.quantizer={"kind": "quantizers.fsq", "levels": [8, 4, 4]}', "tokenizer.network.dim=3"),
        "residual": (
            'tokenizer.quantizer={"kind": "quantizers.residual", "stages": ['
            '{"kind": "quantizers.vq", "entries": 16, "decay": 0.9}, '
            '{"kind": "quantizers.vq", "entries": 8, "decay": 0.9}]}',
        ),
    },
)
"""What differs from the preset. Vectors have as many numbers as the quantizer asks for, and else the preset's; moving
averages are as quick as the preset's."""

if __name__ == "__main__":
    main(QUANTIZERS, __doc__, minutes=6.0)
