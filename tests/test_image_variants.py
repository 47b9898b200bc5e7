"""Training images a little otherwise: the same head, moved as one, and never the held-out ones."""

import numpy as np
import pytest
import torch

from brainvq.config import override, to_json
from brainvq.presets import preset
from brainvq.training.variants import mirrored_axis, varied
from heads import heads, to_x


def test_variant_nought_is_the_image_itself() -> None:
    x = to_x(heads(2))
    assert torch.equal(varied(x, ["a", "b"], 0, None), x)


def test_a_head_moves_as_one_and_others_otherwise() -> None:
    x = to_x(heads(1)).expand(3, -1, -1, -1)
    moved = varied(x, ["a", "a", "b"], 1, None)
    assert torch.equal(moved[0], moved[1])
    assert not torch.allclose(moved[0], moved[2], atol=0.1)
    assert not torch.allclose(moved[0], varied(x[:1], ["a"], 2, None)[0], atol=0.1)
    torch.testing.assert_close(varied(x[:1], ["a"], 1, None)[0], moved[0])  # whatever it is moved together with


def test_what_moves_stays_a_head() -> None:
    """Its greys and size stay about what they are, black stays black, and half are mirrored."""
    x = torch.full((64, 1, 128, 96), -1.0)
    x[:, :, 30:90, 20:60] = 0.5
    x[:, :, 40:60, 24:34] = 0.0  # darker on the left
    moved = varied(x, [str(n) for n in range(64)], 3, -1)
    assert moved.min() >= -1
    assert moved.max() <= 1
    inside = moved > -0.5
    assert 0.85 < float(inside.float().mean() / (x > -0.5).float().mean()) < 1.15
    assert (moved[:, :, :8] == -1).all()
    left, right = moved[..., :48].mean((1, 2, 3)), moved[..., 48:].mean((1, 2, 3))
    assert 0.3 < float((left > right).float().mean()) < 0.7
    centre = (inside.float() * torch.arange(128.0)[:, None]).sum((1, 2, 3)) / inside.sum((1, 2, 3))
    assert float((centre - 59.5).abs().max()) < 8


@pytest.mark.parametrize(("mirrored", "mixed"), [(None, (False, False)), (-2, (True, False)), (-1, (False, True))])
def test_only_what_anatomy_mirrors_is_mirrored(mirrored: int | None, mixed: tuple[bool, bool]) -> None:
    x = torch.full((64, 1, 128, 128), -1.0)
    x[:, :, 20:50, 30:110] = 0.5  # bright above
    x[:, :, 50:100, 30:60] = 0.5  # and at the left
    moved = varied(x, [str(n) for n in range(64)], 1, mirrored)
    above = moved[:, :, :64].mean((1, 2, 3)) > moved[:, :, 64:].mean((1, 2, 3))
    left = moved[..., :64].mean((1, 2, 3)) > moved[..., 64:].mean((1, 2, 3))
    for side, either in zip((above, left), mixed, strict=True):
        assert (0.3 < float(side.float().mean()) < 0.7) if either else side.all()


def test_left_and_right_lie_where_the_tokenizer_learned_them() -> None:
    for name, axis in (("keras_f8", None), ("brain_f8", -2)):
        assert mirrored_axis({"experiment": to_json(preset(name))}) == axis
    upright = override(preset("brain_f8"), ["task.lying=false"])
    assert mirrored_axis({"experiment": to_json(upright)}) == -1


def test_the_shape_of_the_image_does_not_shear_it() -> None:
    """A disc stays one in an image that is no square."""
    rows, columns = np.mgrid[:128, :64]
    disc = (np.hypot(rows - 64, columns - 32) < 20).astype(np.float32) * 1.8 - 1
    moved = (
        varied(torch.from_numpy(disc)[None, None].expand(16, 1, -1, -1), [str(n) for n in range(16)], 1, None) > -0.1
    )
    tall, wide = moved.any(3).sum(2), moved.any(2).sum(2)
    assert int((tall - wide).abs().max()) <= 2
