"""Every file of tokenizers/ keeps the contract of base.py, with every network and every quantizer it can hold."""

from typing import Any

import pytest
import torch
from torch import Tensor

from brainvq.config import from_json, kinds, part_config
from brainvq.errors import InputError
from brainvq.tokenizers.base import Tokenizer

NETWORKS: dict[str, dict[str, Any]] = {
    "networks.keras_conv": {"widths": [4, 6], "dim": 3},
    # without blocks, which start as the identity and learn from the second step on: see test_pixel_shuffle.py
    "networks.pixel_shuffle": {
        "patch": 2,
        "widths": [4, 6],
        "encoder_blocks": [0, 0],
        "decoder_blocks": [0, 0],
        "dim": 3,
    },
    "networks.resnet": {"width": 4},
}
SMALLEST: dict[str, list[dict[str, Any]]] = {
    "tokenizers.vqvae": [
        {
            "kind": "tokenizers.vqvae",
            "network": {"kind": network, **NETWORKS.get(network, {})},
            "quantizer": {"kind": quantizer},
        }
        for network in kinds("networks")
        for quantizer in kinds("quantizers")
    ]
}
CASES = [values for kind in kinds("tokenizers") for values in SMALLEST.get(kind, [{"kind": kind}])]


def images(batch: int = 3, height: int = 16, width: int = 24, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def name_of(values: dict[str, Any]) -> str:
    return "-".join([values["kind"], *(values.get(part, {}).get("kind", "") for part in ("network", "quantizer"))])


@pytest.fixture(params=CASES, ids=name_of)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """That has seen a batch."""
    torch.manual_seed(0)
    config = from_json(part_config(request.param["kind"]), request.param)
    made: Tokenizer = config.build()  # type: ignore[attr-defined]
    made.train()(images(batch=64, seed=1))
    return made.eval()


def test_codes_are_those_of_the_spec(tokenizer: Tokenizer) -> None:
    x = images()
    codes = tokenizer.encode(x)
    assert tuple(tuple(code.shape[1:]) for code in codes) == tokenizer.spec.grids((16, 24))
    tokenizer.spec.check(codes, (16, 24))
    assert all(code.dtype == torch.int64 and len(code) == len(x) for code in codes)


def test_forward_is_decode_after_encode(tokenizer: Tokenizer) -> None:
    x = images()
    found, codes = tokenizer(x), tokenizer.encode(x)
    assert all(torch.equal(one, other) for one, other in zip(found.codes, codes, strict=True))
    assert torch.equal(found.x_hat, tokenizer.decode(codes))
    assert found.x_hat.shape == x.shape
    assert found.x_hat.dtype == torch.float32
    assert all(loss.shape == () and loss >= 0 for loss in found.losses.values())


def test_encode_and_decode_change_nothing(tokenizer: Tokenizer) -> None:
    x = images()
    before = {name: value.clone() for name, value in tokenizer.state_dict().items()}
    expected = tokenizer.encode(x)
    x_hat = tokenizer.decode(expected)
    for training in (True, False):
        tokenizer.train(training)
        codes = tokenizer.encode(x)
        assert all(torch.equal(code, other) for code, other in zip(codes, expected, strict=True))
        assert torch.equal(tokenizer.decode(codes), x_hat), "in training mode as in eval mode"
        assert all(module.training is training for module in tokenizer.modules()), "the mode stays"
    tokenizer.eval()(x)
    assert all(torch.equal(value, tokenizer.state_dict()[name]) for name, value in before.items())


def test_parts_that_are_held_in_eval_mode_stay_so(tokenizer: Tokenizer) -> None:
    """As when some layers of a model in training are frozen; after an image that does not fit as well."""
    tokenizer.train()
    frozen = [module for module in tokenizer.modules() if not any(module.children())][::2]
    for module in frozen:
        module.eval()
    before = [module.training for module in tokenizer.modules()]
    tokenizer.decode(tokenizer.encode(images()))
    with pytest.raises(InputError):
        tokenizer.encode(images(height=15))
    assert [module.training for module in tokenizer.modules()] == before


def test_neighbours_in_the_batch_do_not_matter(tokenizer: Tokenizer) -> None:
    x = images()
    codes, x_hat = tokenizer.encode(x), tokenizer(x).x_hat
    for i in range(len(x)):
        alone = tokenizer.encode(x[i : i + 1])
        assert all(torch.equal(code[i : i + 1], mine) for code, mine in zip(codes, alone, strict=True))
        torch.testing.assert_close(tokenizer.decode(alone), x_hat[i : i + 1], atol=1e-5, rtol=0)


def test_another_size_needs_no_other_weights(tokenizer: Tokenizer) -> None:
    x = images(height=tokenizer.spec.multiple[0], width=2 * tokenizer.spec.multiple[1])
    assert tokenizer(x).x_hat.shape == x.shape


def test_a_size_that_does_not_fit_is_refused(tokenizer: Tokenizer) -> None:
    for size in ((15, 24), (1, 1)):
        for way in (tokenizer, tokenizer.encode):
            with pytest.raises(InputError, match=f"{size[0]} x {size[1]} pixels does not fit"):
                way(images(height=size[0], width=size[1]))


def test_every_part_learns(tokenizer: Tokenizer) -> None:
    """That a parameter matters is seen in eval mode: in training, BatchNorm takes the bias before it out again."""
    for training in (True, False):
        tokenizer.zero_grad()
        found = tokenizer.train(training)(images())
        loss = (found.x_hat - images()).square().mean() + sum(found.losses.values())
        loss.backward()
        for name, parameter in tokenizer.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert training or parameter.grad.any(), name


def test_training_under_autocast_returns_float32(tokenizer: Tokenizer) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = tokenizer.train()(images())
    assert found.x_hat.dtype == torch.float32
    assert all(loss.dtype == torch.float32 for loss in found.losses.values())
    assert all(v.dtype == torch.float32 for v in tokenizer.state_dict().values() if v.is_floating_point())


def test_the_state_holds_all_of_it(tokenizer: Tokenizer, request: pytest.FixtureRequest) -> None:
    values = request.node.callspec.params["tokenizer"]
    other: Tokenizer = from_json(part_config(values["kind"]), values).build()  # type: ignore[attr-defined]
    other.load_state_dict(tokenizer.state_dict())
    x = images()
    assert torch.equal(other.eval()(x).x_hat, tokenizer(x).x_hat)
    assert other.spec == tokenizer.spec
