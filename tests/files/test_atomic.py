"""Atomic writes, and the temporary files of killed processes."""

import os
import subprocess
import sys

import pytest

from mrcnn.files import atomic


def test_temporary_file_has_a_random_name_and_default_permissions(tmp_path):
    path, plain = tmp_path / "a.json", tmp_path / "plain"
    plain.touch()
    with atomic.atomic_write(path) as first, atomic.atomic_write(path) as second:
        assert first != second and atomic._PART.fullmatch(os.path.basename(first))
        # Its first character, a dot, hides it from scripts that list a folder.
        assert os.path.basename(first).startswith(".a.json.")
        for part in (first, second):
            with open(part, "w") as file:
                file.write("whole")
    assert path.read_text() == "whole"
    assert path.stat().st_mode == plain.stat().st_mode


def test_file_with_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / ("é" * 126 + ".h5")  # 255 bytes
    with atomic.atomic_write(path) as part, open(part, "w") as file:
        file.write("whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]


def test_link_at_a_predictable_name_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f"w.h5.{os.getpid()}.part").symlink_to(victim)  # the name of earlier releases
    with atomic.atomic_write(tmp_path / "w.h5") as part, open(part, "w") as file:
        file.write("whole")
    assert victim.read_text() == "precious"


@pytest.fixture
def dead():
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_temporary_files_of_ended_processes_are_removed(tmp_path, dead):
    names = [f"b.h5.{os.getpid()}.part", f"b.h5.{os.getpid()}.0123abcd.part", "c.part", "d.h5"]
    for name in [f"a.h5.{dead}.part", f".interrupted.h5.{dead}.0123abcd.part", *names]:
        (tmp_path / name).touch()
    atomic.remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_other_files_with_similar_names_are_kept(tmp_path, dead):
    (tmp_path / "target").touch()
    (tmp_path / f"link.{dead}.part").symlink_to(tmp_path / "target")
    (tmp_path / f"folder.{dead}.part").mkdir()
    for name in (
        "x.99999999999999999999.part",
        "x.-1.part",
        "x.0.part",
        f"x.{dead}.zzz.part",
        f".{dead}.part",
    ):
        (tmp_path / name).touch()
    before = sorted(tmp_path.iterdir())
    atomic.remove_parts(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_failed_hdf5_write_is_reported_with_the_systems_reason(tmp_path):
    """On a full disk, h5py raises this error when it closes the file."""
    message = (
        "Can't decrement id ref count (file write failed: time = Sat Nov 28 12:00:00 2026\n, "
        "filename = 'a.h5.part', file descriptor = 5, errno = 28, error message = 'No space left "
        "on device', buf = 0x55, total write size = 2)"
    )
    match = "a.h5 must be writable. Received: No space left on device; the file that was there"
    with pytest.raises(OSError, match=match), atomic.atomic_write(str(tmp_path / "a.h5")):
        raise RuntimeError(message)
    assert atomic.reason(RuntimeError("Unable to open file\nmore")) == "Unable to open file"
