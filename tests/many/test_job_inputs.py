"""The names of a job's images: folders, patterns, lists, parquet files."""

import os

import pytest

from mrcnn.many.inputs import find_names, read_source


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names_of(*words):
    return list(find_names([str(word) for word in words]))


def test_a_word_without_images_is_an_error(tmp_path):
    touch(tmp_path, "readme.md", "empty.txt")
    for word in (tmp_path, tmp_path / "empty.txt", tmp_path / "*.png"):
        with pytest.raises(ValueError, match="INPUT must contain images"):
            names_of(word)


def test_a_folder_lists_images_below_it_and_logs_the_others(tmp_path, caplog):
    touch(tmp_path, "b/2.png", "b/1.JPG", "a.tif", ".hidden/c.png", ".d.png", "notes.md", "x.md")
    expected = [os.path.join(tmp_path, name) for name in ("a.tif", "b/1.JPG", "b/2.png")]
    assert names_of(tmp_path) == expected
    assert "skipped files that are no images: 2 .md, 1 .png." in caplog.text


def test_patterns_and_files_of_any_suffix(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png", "a/2.png", "c.raw")
    found = names_of(tmp_path / "*" / "1.png", tmp_path / "c.raw", tmp_path / "none.png")
    expected = ("a/1.png", "b/1.png", "c.raw", "none.png")  # a row says that none.png is missing
    assert found == [os.path.join(tmp_path, name) for name in expected]


def test_a_list_is_relative_to_its_folder(tmp_path):
    content = b"a.png\n\n sub/b c.png\r\n/abs/d.png\nS3://bucket/e.png\nlatin\xff.png\n"
    (tmp_path / "list.txt").write_bytes(content)
    a, b, d, e, f = names_of(tmp_path / "list.txt")
    assert (a, b, d) == (f"{tmp_path}/a.png", f"{tmp_path}/ sub/b c.png", "/abs/d.png")
    assert e == "S3://bucket/e.png"
    assert os.fsencode(f).endswith(b"latin\xff.png")


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(ValueError, match="list of images must be a readable file"):
        names_of(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"label": ["x", "y"], "path": ["a.png", None]}, ["a.png"]),
        ({"uri": ["b.png", "c.png"], "id": [1, 2]}, ["b.png", "c.png"]),
        ({"anything": ["b.png", "c.png"], "id": [1, 2]}, ["b.png", "c.png"]),
    ],
)
def test_the_column_of_a_parquet_file(tmp_path, columns, found):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), tmp_path / "images.parquet")
    assert names_of(tmp_path / "images.parquet") == [os.path.join(tmp_path, name) for name in found]


def test_a_parquet_file_without_such_a_column_or_damaged(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"one": ["a"], "two": ["b"]}), tmp_path / "images.parquet")
    with pytest.raises(ValueError, match="with the columns one, two"):
        names_of(tmp_path / "images.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "images.parquet").read_bytes()[:-20])
    with pytest.raises(ValueError, match="parquet file must be complete"):
        names_of(tmp_path / "cut.parquet")


def test_addresses_of_folders_and_lists():
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.pipe("/many/a/1.png", b"1")
    system.pipe("/many/a/readme.md", b"2")
    system.pipe("/many/list.txt", b"a/1.png\n/b.png\nmemory://c.png\n")
    assert names_of("memory://many/a") == ["memory:///many/a/1.png"]
    found = names_of("memory://many/list.txt")
    assert found == ["memory://many/a/1.png", "/b.png", "memory://c.png"]
    assert read_source("memory://many/a/1.png", "/") == b"1"
    system.rm("/many", recursive=True)


def test_relative_paths_start_from_the_folder_of_the_command(tmp_path):
    assert read_source("a.png", str(tmp_path)) == tmp_path / "a.png"
    assert str(read_source("/abs/a.png", str(tmp_path))) == "/abs/a.png"
