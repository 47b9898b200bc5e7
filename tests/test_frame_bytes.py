"""A Frame as bytes: whatever a scan can have comes back, anything else is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainvq.data.frame_bytes import frame_from_bytes, frame_to_bytes
from brainvq.data.scan import Scan, Storage
from brainvq.data.transforms import Frame, frame_of
from brainvq.errors import InputError

PICTURE = Frame((180, 256), ((0, 12), (0, 0)), (0.0, 255.0), "uint8", None)
AFFINE = [[0.0, 0.1, 1.5, -20.25], [-0.9, 1 / 3, 0.0, 30.0], [0.1, 0.9, 1e-300, -0.0], [0.0, 0.0, 0.0, 1.0]]
STORAGE = Storage("nifti2", "micron", 0.1, -1024.0, -3, 32767, 4)
VOLUME = Frame((9, 8, 7), ((0, 0), (1, 2)), (-1.5, 900.1), "float64", AFFINE, (-4e9, 1e30), "coronal", STORAGE)
SOLID = Frame((16, 16, 16), ((0, 0), (0, 0), (0, 0)), (0.0, 1.0), "int64", AFFINE)
FRAMES = [PICTURE, VOLUME, SOLID, replace(SOLID, storage=Storage("dicom")), replace(VOLUME, reach=None)]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_comes_back(frame: Frame) -> None:
    data = frame_to_bytes(frame)
    assert frame_from_bytes(data).to_json() == Frame.from_json(frame.to_json()).to_json()
    assert len(data) <= 250


def test_frames_of_scans_come_back() -> None:
    for dtype in ("uint8", "int16", "float32"):
        voxels = np.arange(20 * 17 * 6).reshape(20, 17, 6).astype(dtype)
        for scan in (Scan(voxels[..., 0], None, None, "a"), Scan(voxels, np.diag([2.0, 1, 1, 1]), None, "b", STORAGE)):
            frame = frame_of(scan, (8, 8))
            assert frame_from_bytes(frame_to_bytes(frame)) == Frame.from_json(frame.to_json())


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_cut_short_or_too_long_is_refused(frame: Frame) -> None:
    data = frame_to_bytes(frame)
    for other in (*(data[:end] for end in range(len(data))), data + b"\0"):
        with pytest.raises(InputError, match="frame"):
            frame_from_bytes(other)


@given(st.sampled_from(FRAMES), st.data())
def test_any_bytes_are_a_frame_or_refused(frame: Frame, data: st.DataObject) -> None:
    whole = frame_to_bytes(frame)
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + data.draw(st.binary(min_size=1, max_size=8)) + whole[at + 1 :]
    try:
        found = frame_from_bytes(changed)
    except InputError:
        return
    assert frame_from_bytes(frame_to_bytes(found)) == found


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="no file here can hold"):
        frame_to_bytes(replace(SOLID, shape=(1 << 32, 16, 16)))
