"""Shards: rows as JSON lines and as parquet, written whole and read back."""

import pytest

from mrcnn.many import shards

ROWS = [
    {"file_name": "a.png", "width": 9, "height": 8, "detections": []},
    {
        "file_name": "b\n.png",
        "width": 9,
        "height": 8,
        "detections": [
            {
                "class_id": 1,
                "class_name": "a square",
                "score": 0.12345678901234567,
                "box": [1, 2, 3, 4],
                "mask": {"size": [8, 9], "counts": "b0"},
                "keypoints": [[1.5, 2.5, -3.25]],
            },
            {"class_id": 2, "class_name": "b", "score": 1.0, "box": [0.25, 2.5, 3.0, 4.0]},
        ],
    },
    {"file_name": '"error".png', "width": 1, "height": 1, "detections": []},
    {"file_name": "c.png", "error": "An image must be readable."},
]


def write(folder, number, rows, format):
    (folder / "shards").mkdir(exist_ok=True)
    shards.write_shard(shards.shard_path(folder, number, format), shards.to_lines(rows))


@pytest.fixture(params=shards.FORMATS)
def format(request):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


def test_empty_folder_has_no_rows(tmp_path):
    (tmp_path / "shards").mkdir()
    assert list(shards.read_rows(tmp_path)) == []
    assert list(shards.failed_rows(tmp_path)) == []
    assert shards.finished(tmp_path) == set()


def test_rows_come_back_in_the_order_of_the_blocks(tmp_path, format):
    write(tmp_path, 2_000_000, ROWS[3:], format)
    write(tmp_path, 10, ROWS[1:3], format)
    write(tmp_path, 9, ROWS[:1], format)
    assert list(shards.read_rows(tmp_path)) == ROWS
    assert list(shards.failed_rows(tmp_path)) == ROWS[3:]
    assert shards.finished(tmp_path) == {9, 10, 2_000_000}


def test_other_files_are_no_shards(tmp_path):
    write(tmp_path, 0, ROWS[:1], "jsonl")
    for name in (".000001.jsonl.77.0123abcd.part", "000001.jsonl.bak", "notes.jsonl"):
        (tmp_path / "shards" / name).touch()
    assert shards.finished(tmp_path) == {0}
    assert list(shards.read_rows(tmp_path)) == ROWS[:1]


def test_all_parquet_shards_have_one_schema(tmp_path):
    pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for i, row in enumerate(ROWS):
        write(tmp_path, i, [row], "parquet")
    paths = sorted((tmp_path / "shards").iterdir())
    assert len({str(parquet.read_schema(path)) for path in paths}) == 1
    assert parquet.read_table(tmp_path / "shards").num_rows == 4


def test_undecodable_names_are_escaped_in_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    write(tmp_path, 0, [{"file_name": "b\udcff.png", "error": "no"}], "parquet")
    assert [row["file_name"] for row in shards.read_rows(tmp_path)] == ["b\\xff.png"]
