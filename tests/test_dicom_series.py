"""Files are put together by what their headers say; what is no slice of a volume is left out, and nothing is named."""

from itertools import chain
from pathlib import Path

import pytest
from pydicom.uid import MRImageStorage
from tests.dicom_files import SECRET, enhanced, image, save, series, volume

from brainvq.data import dicom
from brainvq.errors import InputError


def found(*files: list[Path]) -> list[tuple[str, int]]:
    """Labels and numbers of slices; nothing may be wrong."""
    study = dicom.find_series([file for some in files for file in some])
    assert not study.broken
    return [(one.label, len(one.files)) for one in study.series]


def test_dicom_is_known_by_its_mark(tmp_path: Path) -> None:
    (file,) = series(tmp_path, volume(1), names=["IM1"])
    assert dicom.is_dicom(file)
    for name, data in (("a.dcm", b"\0" * 200), ("b", b"DICM"), ("c", b"")):
        (tmp_path / name).write_bytes(data)
        assert not dicom.is_dicom(tmp_path / name)
    assert not dicom.is_dicom(tmp_path)
    assert not dicom.is_dicom(tmp_path / "none")


def test_series_are_told_apart_in_one_folder_and_put_together_from_several(tmp_path: Path) -> None:
    names = ["a3", "a2", "a1", "a0"]  # the topmost slice comes last by name
    first = series(tmp_path / "a", volume(4), SeriesInstanceUID="1.1", SeriesNumber=12, names=names)
    second = series(tmp_path / "a", volume(3), SeriesInstanceUID="1.2", names=["x", "y", "z"], SeriesNumber=None)
    more = series(
        tmp_path / "b", volume(2), SeriesInstanceUID="1.1", positions=[(0, 0, 8), (0, 0, 10)], SeriesNumber=12
    )
    assert found(first, second, more) == [("series-012", 6), ("series-001", 3)]
    one, _ = dicom.find_series([*more[::-1], *second, *first]).series
    assert one.files == (*first, *more)
    assert one.folder == tmp_path
    assert dicom.read(one.files, path=tmp_path, name="", subject=None).voxels.shape == (7, 6, 6)


@pytest.mark.parametrize(
    ("keyword", "values"), [("EchoNumbers", (1, 2)), ("ImageType", (["ORIGINAL", "M"], ["ORIGINAL", "P"]))]
)
def test_stacks_at_the_same_places_are_parted(tmp_path: Path, keyword: str, values: tuple[object, object]) -> None:
    files = [
        *series(tmp_path, volume(4), names=[f"a{n}" for n in range(4)], **{keyword: values[0]}),
        *series(tmp_path, volume(4) + 9, names=[f"b{n}" for n in range(4)], **{keyword: values[1]}),
    ]
    assert found(files) == [("series-003", 4), ("series-003-2", 4)]
    one, other = dicom.find_series(files).series
    assert (one.files, other.files) == (tuple(files[:4]), tuple(files[4:]))


def test_echoes_that_make_one_stack_are_not_parted(tmp_path: Path) -> None:
    assert found(series(tmp_path, volume(4), EchoNumbers=("each", [1, 2, 1, 2]))) == [("series-003", 4)]


def test_time_points_and_copies(tmp_path: Path) -> None:
    times = series(tmp_path / "a", volume(6), positions=[(0, 0, n % 3) for n in range(6)])
    assert found(times) == [("series-003", 6)]
    with pytest.raises(InputError, match="time points"):
        dicom.read(times, path=tmp_path, name="", subject=None)
    copies = [series(tmp_path / name, volume(4)) for name in "bc"]
    assert found(*copies) == [("series-003", 4), ("series-003", 4)]


def test_a_file_of_many_frames_is_a_series(tmp_path: Path) -> None:
    files = [save(enhanced(volume(), [(0, 0, n) for n in range(5)]), tmp_path / name) for name in ("a", "b")]
    assert found(files) == [("series-003", 1), ("series-003-2", 1)]


def test_stacks_in_the_same_folders_are_parted_by_what_they_show_first(tmp_path: Path) -> None:
    """Two echoes of which each lies in two folders, and a copy of both in a third."""
    low, high = [(0, 0, 2 * n) for n in range(3)], [(0, 0, 2 * n) for n in range(3, 6)]
    files = [
        file
        for folder, places in (("a", low), ("b", high), ("copy", low + high))
        for echo in (1, 2)
        for file in series(
            tmp_path / folder,
            volume(len(places)),
            positions=places,
            EchoNumbers=echo,
            names=[f"{echo}-{n}" for n in range(len(places))],
        )
    ]
    whole = [file for file in files if file.parent.name != "copy"]
    assert sorted(found(whole)) == [("series-003", 6), ("series-003-2", 6)]
    assert sum(count for _, count in found(files)) == 24


def test_rounding_parts_no_stack(tmp_path: Path) -> None:
    """Direction cosines on both sides of 0.05, where a rounding to one digit would break."""
    files = []
    for echo in (1, 2):
        turned = [(1.0, cosine, 0.0, -cosine, 1.0, 0.0) for cosine in (0.0499, 0.0501, 0.0499, 0.0501)]
        names, facing = [f"{echo}-{n}" for n in range(4)], ("each", [list(one) for one in turned])
        files += series(tmp_path, volume(4), EchoNumbers=echo, names=names, ImageOrientationPatient=facing)
    assert found(files) == [("series-003", 4), ("series-003-2", 4)]


def test_directions_of_one_series_are_parted(tmp_path: Path) -> None:
    files = [
        *series(tmp_path, volume(4), names=list("abcd")),
        *series(tmp_path, volume(4), names=list("efgh"), ImageOrientationPatient=[1.0, 0, 0, 0, 0, -1.0]),
    ]
    assert found(files) == [("series-003", 4), ("series-003-2", 4)]


def test_two_patients_under_one_number_are_two_series(tmp_path: Path) -> None:
    first = series(tmp_path / "a", volume(3))
    second = series(tmp_path / "b", volume(3), positions=[(0, 0, 2 * n + 6) for n in range(3)], PatientID="2")
    assert found(first, second) == [("series-003", 3), ("series-003", 3)]


def test_whose_a_series_is_can_be_compared_and_not_be_read(tmp_path: Path) -> None:
    kinds = {
        "a": {"StudyInstanceUID": "1.7", "PatientID": None},
        "b": {"StudyInstanceUID": "1.7", "PatientID": SECRET},
        "c": {"StudyInstanceUID": "1.8", "PatientID": SECRET},
        "d": {"StudyInstanceUID": "1.9", "PatientID": ""},
        "e": {"PatientID": None},
    }
    files = [
        series(tmp_path / name, volume(3), SeriesInstanceUID=f"1.{n}", **own)
        for n, (name, own) in enumerate(kinds.items())
    ]
    study = dicom.find_series([file for some in files for file in some])
    owners = {one.folder.name: one.owners for one in study.series}
    assert owners["a"] < owners["b"]
    assert len(owners["b"] & owners["c"]) == 1
    assert (len(owners["d"]), owners["e"]) == (1, frozenset())
    assert not owners["d"] & owners["c"]
    said = repr(study) + "".join(chain.from_iterable(owners.values()))
    assert not any(word in said for word in (SECRET, "1.7", "1.8", "1.9"))
    assert not any(mark in repr(study) for mark in owners["b"])


def capture(path: Path, **elements: object) -> Path:
    """A picture of a screen, as a viewer stores it."""
    kept = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "SeriesInstanceUID": "1.99", **elements}
    return save(image(volume(1)[0], ImagePositionPatient=None, ImageOrientationPatient=None, **kept), path)


def test_pictures_of_a_screen_are_left_out_and_named(tmp_path: Path) -> None:
    slices = series(tmp_path, volume(3))
    screen = capture(tmp_path / "z")
    saved = capture(
        tmp_path / "y", SOPClassUID=MRImageStorage, SeriesInstanceUID="1.98", ImageType=["DERIVED", "SECONDARY"]
    )
    study = dicom.find_series([*slices, screen, saved])
    assert [one.files for one in study.series] == [tuple(slices)]
    assert set(study.captures) == {screen, saved}
    assert str(study.captures[screen]).startswith(f"{screen}: says not where it lies")
    for path in slices:
        path.unlink()
    with pytest.raises(InputError, match="says not where it lies"):
        dicom.only_series(tmp_path)


def test_a_slice_that_lost_its_place_is_not_taken_for_a_picture(tmp_path: Path) -> None:
    slices = series(tmp_path, volume(3))
    lost = save(image(volume(1)[0], ImagePositionPatient=None), tmp_path / "lost.dcm")
    placed = series(tmp_path / "placed", volume(3), SOPClassUID="1.2.840.10008.5.1.4.1.1.7", SeriesInstanceUID="1.97")
    study = dicom.find_series([*slices, lost, *placed])
    assert study.captures == {}
    assert sorted(len(one.files) for one in study.series) == [3, 4]


def test_localisers_and_other_objects_are_left_out(tmp_path: Path) -> None:
    slices = series(tmp_path, volume(3))
    scout = series(tmp_path / "scout", volume(3), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    others = [
        save(image(volume(1)[0], SOPClassUID=kind, **rest), tmp_path / f"other{n}")
        for n, (kind, rest) in enumerate(
            [
                ("1.2.840.10008.5.1.4.1.1.88.11", {"PixelData": None}),  # report
                ("1.2.840.10008.5.1.4.1.1.66.4", {}),  # segmentation
                ("1.3.12.2.1107.5.9.1", {"Rows": None, "PixelData": None}),  # a vendor's own
            ]
        )
    ]
    assert found(slices, scout, others) == [("series-003", 3)]
    (tmp_path / "._IM0001.dcm").write_bytes(b"what a file system leaves beside a file")
    assert dicom.only_series(tmp_path) == tuple(slices)
    with pytest.raises(InputError, match="holds no DICOM series"):
        dicom.only_series(tmp_path / "scout")


def test_a_slice_that_is_cut_short_stays_in_its_series_so_that_it_is_missed(tmp_path: Path) -> None:
    files = series(tmp_path, volume(4))
    files[3].write_bytes(files[3].read_bytes()[:-20])
    assert found(files) == [("series-003", 4)]
    with pytest.raises(InputError, match=f"{files[3].name}: cut short"):
        dicom.read(dicom.only_series(tmp_path), path=tmp_path, name="", subject=None)


def test_a_file_whose_header_is_lost_is_an_error(tmp_path: Path) -> None:
    files = series(tmp_path, volume(4))
    files[1].write_bytes(b"\0" * 400)
    study = dicom.find_series(files)
    assert [len(one.files) for one in study.series] == [3]
    assert list(study.broken) == [files[1]]
    assert str(study.broken[files[1]]).startswith(f"{files[1]}: not a DICOM file")
    with pytest.raises(InputError, match="not a DICOM file"):
        dicom.only_series(tmp_path)


def test_a_folder_must_hold_one_series(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(InputError, match="holds no DICOM series"):
        dicom.only_series(tmp_path)
    series(tmp_path, volume(3), SeriesInstanceUID="1.1", SeriesNumber=1)
    series(tmp_path, volume(4), SeriesInstanceUID="1.2", SeriesNumber=2, names=list("abcd"))
    with pytest.raises(InputError, match=r"2 DICOM series: series-001 of 3, series-002 of 4 files"):
        dicom.only_series(tmp_path)
    assert dicom.only_series(tmp_path / "a") == (tmp_path / "a",)


def test_labels_are_numbers(tmp_path: Path) -> None:
    for n, number in enumerate((None, SECRET, 7)):
        ds = image(volume(1)[0], SOPClassUID=MRImageStorage)
        del ds.SeriesNumber
        if number is not None:
            ds.add_new("SeriesNumber", "LO" if number == SECRET else "IS", number)
        labels = found([save(ds, tmp_path / str(n))])
        assert labels == [(f"series-{7 if number == 7 else 1:03d}", 1)]
