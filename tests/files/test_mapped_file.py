"""Files mapped into memory: read-only, and no folder, missing or empty file."""

import pytest

from mrcnn.files.mapped_file import RefusedContent, map_file, require_file


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"")
    with pytest.raises(RefusedContent, match="which is empty. Try downloading"):
        map_file(tmp_path / "x.pth")


def test_bytes_are_those_of_the_file_and_read_only(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"abc")
    view = map_file(tmp_path / "x.pth")
    assert bytes(view) == b"abc" and view.readonly


def test_missing_file_and_folder_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="The weight file must exist. Received: .*x.pth"):
        require_file(tmp_path / "x.pth")
    with pytest.raises(ValueError, match="must be a file. Received: the folder"):
        require_file(tmp_path)
