"""The space-to-depth network: its grids, its start, and that it sees the same wherever a head lies."""

import pytest
import torch
from torch import Tensor

from brainvq.config import from_json
from brainvq.errors import InputError
from brainvq.networks.pixel_shuffle import Block, Config

SHAPES = [
    {"patch": 4, "widths": (6,), "encoder_blocks": (1,), "decoder_blocks": (2,), "dim": 3},
    {"patch": 4, "widths": (6, 8), "encoder_blocks": (0, 1), "decoder_blocks": (1, 0), "dim": 5},
    {"patch": 2, "widths": (4, 6, 8), "encoder_blocks": (1, 1, 1), "decoder_blocks": (1, 1, 1), "dim": 2},
]


def images(height: int = 32, width: int = 48, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("settings", SHAPES)
def test_the_grid_is_the_image_over_the_stride(settings: dict) -> None:
    config = Config(**settings)
    network = config.build()
    stride = config.patch * 2 ** (len(config.widths) - 1)
    z = network.encoder(images())
    assert network.stride == (stride, stride)
    assert z.shape == (2, config.dim, 32 // stride, 48 // stride)
    assert network.decoder(z).shape == (2, 1, 32, 48)


def test_a_block_starts_as_the_identity_and_learns() -> None:
    block, z = Block(4), torch.randn(2, 4, 6, 6)
    assert torch.equal(block(z), z)
    (block(z) - 1).square().mean().backward()
    last = [*block.parameters()][-2]
    assert last.grad is not None
    assert last.grad.abs().sum() > 0


@pytest.mark.parametrize("settings", SHAPES)
def test_every_weight_learns_once_the_blocks_have_left_their_start(settings: dict) -> None:
    torch.manual_seed(0)
    network = Config(**settings).build()
    parameters = [*network.encoder.parameters(), *network.decoder.parameters()]
    for parameter in parameters:
        torch.nn.init.normal_(parameter, std=0.1)
    network.decoder(network.encoder(images())).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in parameters)


def test_a_shift_by_the_stride_shifts_the_codes() -> None:
    torch.manual_seed(0)
    network = Config(patch=4, widths=(6, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), dim=3).build()
    x, encoder = images(64, 64), network.encoder.eval()
    z, moved = encoder(x), encoder(x.roll((8, 16), (2, 3)))
    torch.testing.assert_close(moved[:, :, 4:6, 4:6], z[:, :, 3:5, 2:4], atol=1e-5, rtol=1e-4)


def test_stages_that_do_not_match_are_refused() -> None:
    with pytest.raises(InputError, match="2 widths, 1 encoder_blocks and 2 decoder_blocks"):
        from_json(
            Config,
            {
                "kind": "networks.pixel_shuffle",
                "widths": [4, 6],
                "encoder_blocks": [1],
                "decoder_blocks": [1, 1],
            },
        )
