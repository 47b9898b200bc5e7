"""A volume becomes slices and comes back: same shape, orientation, units and dtype, outliers kept."""

import dataclasses
import itertools
import json
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import brainvq.head as head_module
from brainvq.data.planes import AXES, Plane, as_slices, spacing_of
from brainvq.data.scan import Scan, Storage
from brainvq.data.transforms import Frame, frame_of, tensor_of, to_model, to_scan
from brainvq.data.windows import SHARE, fraction, from_fraction, volume_window
from brainvq.errors import InputError
from brainvq.fidelity import fidelity
from brainvq.head import head_and_core, head_in_volume

DTYPES = ("uint8", "int8", "uint16", "int16", "int32", "float32", "float64")
RNG = np.random.default_rng(0)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any order and direction of the axes, any spacing, turned by up to half a radian."""
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    spacing = draw(st.tuples(*[st.floats(0.2, 6.0)] * 3))
    angle = draw(st.floats(-0.5, 0.5))
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(signs)[:, order] @ np.diag(spacing)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return affine


def volume(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(300, 90, shape) if np.dtype(dtype).itemsize > 1 else rng.normal(60, 20, shape)
    return values.clip(0, None).astype(dtype)


@settings(max_examples=80, deadline=None)
@given(
    affine=affines(),
    shape=st.tuples(*[st.integers(1, 11)] * 3),
    dtype=st.sampled_from(DTYPES),
    plane=st.sampled_from(list(AXES)),
    multiple=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_the_round_trip_without_a_tokenizer_loses_nothing(
    affine: np.ndarray, shape: tuple[int, ...], dtype: str, plane: Plane, multiple: int, seed: int
) -> None:
    storage = Storage("nifti1", units="micron", slope=0.5, intercept=-3, qform=2, sform=4, axes=4)
    scan = Scan(volume(shape, dtype, seed), affine, "7", "a.nii", storage)
    scan.voxels.flat[seed % scan.voxels.size] = 120 if np.dtype(dtype).itemsize == 1 else 30_000  # an outlier
    frame = Frame.from_json(json.loads(json.dumps(frame_of(scan, (multiple, multiple), plane).to_json())))
    count = frame.stack[0]
    parts = [tensor_of(scan, frame, slice(k, k + 3)) for k in range(0, count, 3)]
    back = to_scan(parts, frame, scan.name, scan.subject)
    assert all(part.shape[-1] % multiple == 0 and part.shape[-2] % multiple == 0 for part in parts)
    assert all(bool((part >= -1).all() and (part <= 1).all()) for part in parts)
    np.testing.assert_array_equal(back.affine, affine)
    assert (back.voxels.dtype, back.voxels.shape, back.storage) == (scan.voxels.dtype, shape, storage)
    (low, high), (least, most) = frame.window, frame.reach or frame.window
    level = max(high - low, (most - least) / SHARE) * 2**-23
    np.testing.assert_allclose(back.voxels.astype(float), scan.voxels.astype(float), rtol=0, atol=level)


@given(affine=affines(), shape=st.tuples(*[st.integers(1, 6)] * 3))
def test_slices_ascend_to_the_right_the_front_and_the_top(affine: np.ndarray, shape: tuple[int, ...]) -> None:
    """Held against the world: the coordinate of each voxel rises along the axis that should run its way."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    for plane, axis in AXES.items():
        others = [n for n in range(3) if n != axis]
        for along, coordinate in enumerate([axis, *others]):
            steps = np.diff(as_slices(world[..., coordinate], affine, plane), axis=along)
            assert (steps > 0).all()


def test_axial_slices_lie_as_the_oasis_slices_do() -> None:
    voxels = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    np.testing.assert_array_equal(as_slices(voxels, np.eye(4), "axial")[1], voxels[:, :, 1])
    np.testing.assert_array_equal(as_slices(voxels, np.diag([-1.0, 1, 1, 1]), "axial")[1], voxels[::-1, :, 1])


def test_slices_are_views() -> None:
    voxels = np.zeros((2, 3, 4))
    as_slices(voxels, np.diag([-1.0, 2, 1, 1])[[1, 0, 2, 3]], "coronal")[0] = 7
    assert (voxels == 7).sum() == voxels.size / as_slices(
        voxels, np.diag([-1.0, 2, 1, 1])[[1, 0, 2, 3]], "coronal"
    ).shape[0]


def head(dtype: str = "int16", outlier: float | None = None) -> np.ndarray:
    """A ball of about 800 on air of about 5; its slices near the poles hold little of it."""
    x, y, z = np.ogrid[-30:30, -30:30, -30:30]
    ball = x**2 + y**2 + z**2 < 20**2
    voxels = np.where(ball, RNG.normal(800, 60, ball.shape), RNG.normal(5, 2, ball.shape)).clip(0, None)
    if outlier is not None:
        voxels[2, 2, 2] = outlier
    return voxels.astype(dtype)


def test_a_window_is_one_for_all_slices_and_lies_in_the_head() -> None:
    (low, high), reach = volume_window(head(outlier=20_000), (2.0, 2.0, 2.0))
    assert low == 0
    assert 900 < high < 1100
    assert reach == (0, 20_000)
    x, _ = to_model(Scan(head(outlier=20_000), np.eye(4) * 2, None, "a"), (4, 4))
    assert x.shape == (60, 1, 60, 60)
    bright = x[30, 0, 30, 30]
    assert abs(float(bright) - (800 / high * (1 - SHARE) * 2 - 1)) < 0.4


def test_where_nothing_lies_far_outside_there_is_no_reach() -> None:
    (low, high), reach = volume_window(np.arange(27_000).reshape(30, 30, 30).astype(np.int32), (1.0, 1.0, 1.0))
    assert (low, high, reach) == (0, 26_999, None)
    assert volume_window(np.full((3, 3, 3), 9, np.int16), (1.0, 1.0, 1.0)) == ((0.0, 9.0), None)
    assert volume_window(np.full((3, 3, 3), -9, np.int16), (1.0, 1.0, 1.0)) == ((-9.0, 0.0), None)
    assert volume_window(head("uint8"), (1.0, 1.0, 1.0)) == ((0.0, 255.0), None)


@given(
    ends=st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4, unique=True).map(sorted),
    at=st.lists(st.floats(0, 1), min_size=2, max_size=20),
)
def test_the_window_rises_and_its_inverse_is_one(ends: list[float], at: list[float]) -> None:
    least, low, high, most = ends
    if min(b - a for a, b in itertools.pairwise(ends)) < 1e-3:
        return
    values = least + np.sort(np.array(at)) * (most - least)
    for reach in (None, (least, most), (low, most), (least, high)):
        inside = values if reach == (least, most) else values.clip(*(reach or (low, high)))
        found = fraction(inside, (low, high), reach)
        assert (np.diff(found) >= 0).all()
        assert ((found >= 0) & (found <= 1)).all()
        np.testing.assert_allclose(from_fraction(found, (low, high), reach), inside, atol=1e-6 * (most - least))


def test_the_head_of_a_volume_is_found_at_any_spacing() -> None:
    mask = head_in_volume(head(outlier=20_000), (4.0, 4.0, 4.0))
    truth = head() > 400
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8
    thin = np.repeat(head(), 2, axis=0)
    thin_mask = head_in_volume(thin, (2.0, 4.0, 4.0))
    assert (thin_mask[::2] & mask).sum() / (thin_mask[::2] | mask).sum() > 0.9
    assert not head_in_volume(np.full((5, 5, 5), 3.0), (1.0, 1.0, 1.0)).any()


def test_the_core_lies_deeper_than_a_distance_below_the_surface() -> None:
    """To within a grid of 2 mm."""
    for mm in (1.0, 2.5):
        axes = np.ogrid[tuple(slice(-60, 60 + mm / 2, mm) for _ in range(3))]
        away = np.sqrt(sum(axis**2 for axis in axes))
        voxels = np.where(away < 50, 800, 5).astype(np.int16)
        found, core = head_and_core(voxels, (mm, mm, mm), 20.0)
        depth = ndimage.distance_transform_edt(np.pad(found, 1), sampling=mm)[1:-1, 1:-1, 1:-1]
        assert not (core & (depth < 20 - 3)).any()
        assert core[depth > 20 + 3].all()


@pytest.mark.parametrize("mm", [1e-6, 1.0, 1e6])
def test_the_head_takes_little_memory_whatever_the_spacing(mm: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "MOST", 1 << 13)
    voxels = head("uint8").repeat(2, 0).repeat(2, 1)
    tracemalloc.start()
    found, _ = head_and_core(voxels, (mm, 1.0, 1.0), 20.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == voxels.shape
    assert peak < 5 * voxels.nbytes


def test_a_head_that_is_found_coarsely_is_the_same_head(monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = head()
    fine = head_in_volume(voxels, (2.0, 2.0, 2.0))
    monkeypatch.setattr(head_module, "MOST", voxels.size // 8)
    coarse = head_in_volume(voxels, (2.0, 2.0, 2.0))
    assert (coarse & fine).sum() / (coarse | fine).sum() > 0.85


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_fidelity_is_in_the_units_of_the_scan(dtype: str) -> None:
    storage = Storage("nifti1", slope=0.5, intercept=-1000)
    first = Scan(head("int16").clip(0, 1000) // 8, np.diag([2.0, 2, 2, 1]), None, "a", storage)
    scan = dataclasses.replace(first, voxels=first.voxels.astype(dtype))
    frame = frame_of(scan, (4, 4))
    same = fidelity(scan, scan, frame)
    assert (same.mae, same.rmse, same.ssim) == (0.0, 0.0, 1.0)
    shifted = fidelity(scan, dataclasses.replace(scan, voxels=scan.voxels + np.dtype(dtype).type(6)), frame)
    assert (shifted.mae, shifted.rmse) == (3.0, 3.0)
    for medians in (shifted.median_head, shifted.median_core):
        assert medians is not None
        assert medians[1] - medians[0] == pytest.approx(3)
        assert -960 < medians[0] < -930
    mask = head_in_volume(scan.voxels, (2.0, 2.0, 2.0))
    assert shifted.median_head is not None
    assert shifted.median_head[0] == pytest.approx(np.median(scan.voxels[mask].astype(float) * 0.5 - 1000))
    nothing = Scan(np.full((12, 12, 12), 3, np.int16), np.eye(4), None, "a")
    assert fidelity(nothing, nothing, frame_of(nothing, (4, 4))).mae is None


def test_frames_that_could_not_be_undone_are_refused() -> None:
    good = frame_of(Scan(head(), np.eye(4), None, "a"), (4, 4)).to_json()
    Frame.from_json(good)
    for change in (
        {"affine": None},
        {"shape": [4, 4]},
        {"plane": "oblique"},
        {"reach": [5.0, 4.0]},
        {"padding": [[0, 0]]},
        {"affine": [[0.0] * 4] * 4},
        {"storage": {"format": "tiff"}},
    ):
        with pytest.raises(InputError):
            Frame.from_json({**good, **change})


def test_slices_must_be_all_there() -> None:
    scan = Scan(head(), np.eye(4), None, "a")
    x, frame = to_model(scan, (4, 4))
    for wrong in (x[:-1], torch.cat([x, x[:1]])):
        with pytest.raises(ValueError, match="this frame expects"):
            to_scan(wrong, frame, "a", None)


def test_spacing_is_the_length_of_the_columns() -> None:
    assert spacing_of(np.array([[0, 3.0, 0, 9], [4, 0, 0, 9], [0, 4, 0.5, 9], [0, 0, 0, 1]])) == (4, 5, 0.5)
