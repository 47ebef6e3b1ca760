"""What a worker does with a block: a row for each image, whatever happens to some of them."""

from fake_model import ERROR, NOTHING, FakeLoader, image_files, side_of

from mrcnn.formats.rle import decode
from mrcnn.many.block import BlockWorker, Task
from mrcnn.many.image_list import Block
from mrcnn.many.shards import from_lines


def worker(tmp_path, batch=1, **options):
    return BlockWorker(Task(FakeLoader(str(tmp_path), **options), batch))


def test_empty_block(tmp_path):
    answer = worker(tmp_path).answer(Block(3, []))
    assert (answer.number, answer.lines, answer.images, answer.failed) == (3, b"", 0, 0)


def test_rows_are_those_of_detections_json(tmp_path):
    (name,) = image_files(tmp_path, [64])  # side 64 % 5 + 1 = 5, score 64 / 256
    (row,) = from_lines(worker(tmp_path).answer(Block(0, [name])).lines)
    (found,) = row.pop("detections")
    assert row == {"file_name": name, "width": 9, "height": 8}
    mask = decode([found.pop("mask")], (8, 9))[:, :, 0]
    assert found == {"class_id": 1, "class_name": "square", "score": 0.25, "box": [1, 2, 6, 7]}
    assert mask.sum() == 25 and mask[1:6, 2:7].all()


def test_relative_names_start_from_the_folder_of_the_task(tmp_path):
    image_files(tmp_path / "in", [10])
    rows = from_lines(worker(tmp_path).answer(Block(0, ["in/0000.png"])).lines)
    assert [(row["file_name"], side_of(row)) for row in rows] == [("in/0000.png", 1)]


def test_bad_images_are_rows_with_the_reason(tmp_path):
    names = image_files(tmp_path, [11, None, NOTHING, ERROR, 12])
    names.append(str(tmp_path / "missing.png"))
    for batch in (1, 2, 4, 10):
        answer = worker(tmp_path, batch).answer(Block(0, names))
        rows = from_lines(answer.lines)
        assert [row["file_name"] for row in rows] == names
        assert [side_of(row) for row in rows] == [2, "error", None, "error", 3, "error"]
        assert (answer.images, answer.failed) == (6, 3)
        errors = [row["error"] for row in rows if "error" in row]
        assert errors[0].startswith("ImageFileError: The file must be a readable image. Received: ")
        assert errors[1] == "RuntimeError: this image breaks the network"
        assert "missing.png" in errors[2]


def test_images_are_detected_in_batches(tmp_path):
    names = image_files(tmp_path, [1, 2, None, 4, 5])
    detecting = worker(tmp_path, batch=2)
    detecting.answer(Block(0, names))
    assert detecting.model.batches == [2, 1, 1]  # 1 2, 4 without the unreadable image, 5


def test_a_model_that_cannot_be_loaded_is_the_answer(tmp_path):
    answer = worker(tmp_path, broken=True).answer(Block(5, ["a.png"]))
    assert (answer.number, answer.images, answer.lines) == (5, 0, b"")
    assert answer.error == "ValueError: The weights must fit. Received: others."
