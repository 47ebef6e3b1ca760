"""The list of a job's images: each name once, any characters, blocks by number."""

from mrcnn.many.image_list import Block, ImageList, write_names


def test_empty_list(tmp_path):
    assert write_names(tmp_path / "images.jsonl", []) == 0
    images = ImageList(tmp_path / "images.jsonl", 10)
    assert (len(images), images.count) == (0, 0)


def test_blocks_keep_names_and_order(tmp_path):
    names = ["a.png", "line\nfeed.png", "b\udcff.png", "ü.png", "a.png", "last.png"]
    assert write_names(tmp_path / "images.jsonl", names) == 5  # a.png once
    images = ImageList(tmp_path / "images.jsonl", 2)
    assert (len(images), images.count) == (3, 5)
    expected = [["a.png", "line\nfeed.png"], ["b\udcff.png", "ü.png"], ["last.png"]]
    assert list(images.blocks(range(3))) == [Block(i, expected[i]) for i in range(3)]
    assert images.block(2) == Block(2, ["last.png"])
