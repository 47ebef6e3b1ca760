"""The newest weight file, and a copy that nobody changes."""

import os
import shutil

import pytest

from mrcnn.serve import weight_files
from mrcnn.serve.weight_files import ChangedFile, newest_file, stamp, unchanging_copy, version_of


def test_newest_file(tmp_path):
    assert newest_file("maskrcnn_resnet50_fpn_coco") is None  # a name, or nothing
    assert newest_file(str(tmp_path)) is None
    path = tmp_path / "a.h5"
    path.touch()
    assert newest_file(str(path)) == path
    run = tmp_path / "shapes20260101T1200"
    run.mkdir()
    for epoch in (1, 2, 10):
        (run / f"mask_rcnn_shapes_{epoch:04}.h5").touch()
    (run / ".mask_rcnn_shapes_0011.h5.123.part").touch()
    assert newest_file(str(run)) == run / "mask_rcnn_shapes_0010.h5"


def test_stamp_and_version_change_with_the_file(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"abc")
    before = stamp(path)
    assert version_of(path) == "ba7816bf8f01"  # of SHA-256's published example
    assert stamp(path) == before
    path.write_bytes(b"abcd")
    assert stamp(path) != before and version_of(path) != "ba7816bf8f01"
    with pytest.raises(OSError):
        stamp(tmp_path / "missing")


def test_copy_is_whole_and_deleted(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"abc")
    with unchanging_copy(path, stamp(path)) as copy:
        assert (copy.name, copy.read_bytes()) == ("a.h5", b"abc")
        path.write_bytes(b"other")
        assert copy.read_bytes() == b"abc"
    assert not copy.exists()


def test_file_that_changes_during_the_copy_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    path.write_bytes(b"abc")
    expected = stamp(path)
    copyfile = shutil.copyfile

    def copy_slowly(source, target):
        copied = copyfile(source, target)
        os.utime(source, ns=(1, 1))  # another process writes
        return copied

    monkeypatch.setattr(weight_files.shutil, "copyfile", copy_slowly)
    with pytest.raises(ChangedFile, match="must not change"), unchanging_copy(path, expected):
        pytest.fail("a changed file must not be used")
