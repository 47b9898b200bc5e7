"""The round trip Scan -> tensor -> Scan loses nothing inside the window, and the window follows its definition."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brainvq.data.scan import Scan
from brainvq.data.transforms import Frame, scale, to_model, to_scan
from brainvq.data.windows import window_of
from brainvq.errors import InputError

SHAPES = st.integers(2, 3).flatmap(lambda axes: st.tuples(*[st.integers(1, 19)] * axes))


def round_trip(voxels: np.ndarray, multiple: int) -> tuple[np.ndarray, torch.Tensor, Frame]:
    x, frame = to_model(Scan(voxels, None, "1", "a"), (multiple,) * voxels.ndim)
    frame = Frame.from_json(json.loads(json.dumps(frame.to_json())))
    return to_scan(x, frame, "a", "1").voxels, x, frame


@settings(max_examples=60, deadline=None)
@given(voxels=arrays(np.uint8, SHAPES), multiple=st.integers(1, 9))
def test_8_bit_round_trip_is_exact(voxels: np.ndarray, multiple: int) -> None:
    back, x, _ = round_trip(voxels, multiple)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, voxels)
    assert x.dtype == torch.float32
    assert all(n % multiple == 0 and 0 <= n - m < multiple for n, m in zip(x.shape[2:], voxels.shape, strict=True))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(["uint16", "int16", "int8", "int32", "float32", "float64"]))
def test_round_trip_is_exact_inside_the_window_and_clips_outside(data: st.DataObject, dtype: str) -> None:
    wide = {"float32": 2.0**99, "float64": 1e15, "int32": 2.0**31 - 1}.get(dtype)
    elements = st.floats(-wide, wide, width=32 if dtype == "float32" else 64) if wide and dtype[0] == "f" else None
    voxels = data.draw(arrays(dtype, SHAPES, elements=elements))
    back, x, frame = round_trip(voxels, 4)
    low, high = frame.window
    assert back.dtype == voxels.dtype
    assert bool((x >= -1).all() & (x <= 1).all())
    exact = voxels.dtype.itemsize <= 2
    tolerance = 0.5 if exact else (high - low) * 2**-23 + (dtype == "int32")
    np.testing.assert_allclose(back.astype(float), np.clip(voxels.astype(float), low, high), rtol=0, atol=tolerance)
    if exact:
        inside = (voxels >= low) & (voxels <= high)
        np.testing.assert_array_equal(back[inside], voxels[inside])


@given(value=st.integers(-(2**15), 2**15 - 1))
def test_a_constant_scan_has_a_window_and_comes_back(value: int) -> None:
    voxels = np.full((4, 4), value, np.int16)
    back, x, _ = round_trip(voxels, 8)
    np.testing.assert_array_equal(back, voxels)
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("value", [-1e30, 1e30, -0.0, 1e-40])
def test_a_constant_float_scan_does_not_divide_by_zero(value: float) -> None:
    voxels = np.full((4, 4), value, np.float32)
    back, x, _ = round_trip(voxels, 1)
    assert torch.isfinite(x).all()
    np.testing.assert_allclose(back, voxels, rtol=1e-6)


def test_8_bit_has_one_window_whatever_is_in_the_image() -> None:
    assert window_of(np.full((9, 9), 7, np.uint8)) == (0, 255)
    x, _ = to_model(Scan(np.array([[0, 51, 255]], np.uint8), None, None, "a"), (1, 1))
    torch.testing.assert_close(x[0, 0], torch.tensor([[-1, -0.6, 1]]))


def test_a_12_bit_scan_uses_the_whole_range() -> None:
    """Divided by 65,535, as a 16-bit file invites, it would be nearly black."""
    voxels = np.random.default_rng(0).integers(0, 1200, (64, 64)).astype(np.uint16)
    _, x, _ = round_trip(voxels, 1)
    assert x.max() == 1
    assert abs(float(x.mean())) < 0.05


def test_a_hot_pixel_does_not_darken_the_rest_and_moderate_outliers_stay() -> None:
    voxels = np.random.default_rng(0).integers(0, 1000, (64, 64)).astype(np.uint16)
    voxels[0, 0] = 60000
    low, high = window_of(voxels)
    assert low == 0
    assert 990 < high < 1300
    voxels[0, 0] = 1150
    assert window_of(voxels) == (0, 1150)


def test_a_small_structure_on_black_is_kept() -> None:
    """The percentile is taken of what is above the background: 30 of 65,536 pixels are not outliers of nothing."""
    voxels = np.zeros((256, 256), np.uint16)
    voxels[0, :30] = np.arange(600, 630)
    assert window_of(voxels) == (0, 629)


def test_signed_values_keep_their_lower_end() -> None:
    voxels = np.random.default_rng(0).normal(-300, 100, (64, 64)).astype(np.int16)
    voxels[0, 0] = -32000
    low, high = window_of(voxels)
    assert -900 < low < -550
    assert 0 < high < 200


def test_padding_is_background_at_the_end() -> None:
    x, frame = to_model(Scan(np.full((5, 6), 255, np.uint8), None, None, "a"), (4, 8))
    assert x.shape == (1, 1, 8, 8)
    assert frame.padding == ((0, 3), (0, 2))
    assert (x[0, 0, :5, :6] == 1).all()
    assert (x[0, 0, 5:] == -1).all()
    assert (x[0, 0, :, 6:] == -1).all()


def test_affine_comes_back() -> None:
    affine = np.diag([-1.5, 2, 3, 1])
    x, frame = to_model(Scan(np.zeros((3, 4, 5), np.uint8), affine, None, "a"), (1, 1, 1))
    back = to_scan(x, Frame.from_json(json.loads(json.dumps(frame.to_json()))), "b", "s")
    np.testing.assert_array_equal(back.affine, affine)
    assert (back.name, back.subject) == ("b", "s")


def test_a_model_beyond_its_range_is_clipped_and_nan_is_refused() -> None:
    x, frame = to_model(Scan(np.zeros((1, 2), np.uint8), None, None, "a"), (1, 1))
    assert to_scan(torch.tensor([[[[-9.0, 9.0]]]]), frame, "a", None).voxels.tolist() == [[0, 255]]
    with pytest.raises(InputError, match=r"a: .*NaN"):
        to_scan(x * torch.nan, frame, "a", None)
    with pytest.raises(ValueError, match="shape"):
        to_scan(x[..., :1], frame, "a", None)


def test_axes_must_fit_the_model() -> None:
    with pytest.raises(InputError, match="3 axes"):
        to_model(Scan(np.zeros((4, 4, 4), np.uint8), None, None, "a"), (8, 8))


def test_scale_reaches_both_ends_exactly() -> None:
    for most in (255, 65535):
        assert scale(torch.tensor([0, most]), most).tolist() == [-1, 1]


def test_a_window_beyond_the_type_comes_back_at_its_limit() -> None:
    """No scan has such a window; the frame of a damaged file may."""
    frame = Frame((2, 2), ((0, 0), (0, 0)), (0.0, 1e300), "float16", None)
    voxels = to_scan(torch.ones(1, 1, 2, 2), frame, "a", None).voxels
    np.testing.assert_array_equal(voxels, np.full((2, 2), np.finfo(np.float16).max))
