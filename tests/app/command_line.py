"""Datasets, images and a stub model for tests of the command."""

import json

import numpy as np
import pytest
from PIL import Image

from mrcnn.app import cli, cli_support, train_command
from mrcnn.config import Config
from mrcnn.formats.rle import mask_to_rle
from mrcnn.many.block import BlockWorker


def run(*words):
    """The exit code of the command in this process."""
    try:
        return cli.main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code


def via_file(folder, names, count=1):
    """A folder of grey images with a VIA file: in each a 4 x 3 rectangle of every class."""
    folder.mkdir(parents=True)
    entries = {}
    for i in range(count):
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / f"{i}.png")
        regions = [
            {
                "shape_attributes": {"name": "rect", "x": 2, "y": 3, "width": 4, "height": 3},
                "region_attributes": {"kind": name},
            }
            for name in names
        ]
        entries[f"{i}"] = {"filename": f"{i}.png", "regions": regions}
    (folder / "via_region_data.json").write_text(json.dumps(entries))
    return folder


def coco_file(folder, name="x.json", **changes):
    """A COCO file of one image "a.png" with a square."""
    outline = [[2, 3, 12, 3, 12, 13, 2, 13]]
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": outline,
                "bbox": [2, 3, 10, 10],
            }
        ],
        "categories": [{"id": 1, "name": "cat"}],
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(data))
    return folder / name


def image_file(path, square=True):
    """A 30 x 40 image (height x width), with a bright square in rows 5..14 and columns 20..29."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((30, 40, 3), np.uint8)
    if square:
        image[5:15, 20:30] = 255
    Image.fromarray(image).save(path)
    return path


class StubModel:
    """Finds the bright pixels of an image as one object of class 2, whose keypoint is its corner.

    kind: of the network, see `kinds.KINDS`.
    """

    class_names = ["BG", "dark", "bright"]

    def __init__(self, kind="mask_rcnn"):
        self.config = getattr(Config, kind)() if kind in ("retinanet", "fcos") else Config()
        self.config.NUM_CLASSES = 3
        if kind == "keypoints":
            self.config.NUM_KEYPOINTS, self.config.KEYPOINT_NAMES = 1, ["corner"]
        self.floors = []

    def detect(self, images, batch_size=None, masks="full"):
        self.floors.append(self.config.DETECTION_MIN_CONFIDENCE)
        mask = images[0].max(axis=2) > 200
        ys, xs = np.nonzero(mask)
        found = len(ys) > 0
        box = [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1] if found else []
        full = mask[:, :, None] if found else np.zeros((*mask.shape, 0), bool)
        kind = np.float32 if self.config.CONTINUOUS_BOXES else np.int32
        result = {
            "rois": np.array(box, kind).reshape(-1, 4),
            "class_ids": np.array([2] * found, np.int32),
            "scores": np.array([0.9] * found, np.float32),
        }
        if self.config.has_mask_head():
            result["masks"] = full if masks == "full" else [mask_to_rle(mask)] * found
        if self.config.has_keypoint_head():
            corner = [[*box[:2], 5.0]] if found else []
            result["keypoints"] = np.array(corner, np.float32).reshape(-1, 1, 3)
        return [result]

    def heat_maps(self, image):
        return {"P2": np.float32(image.max(axis=2) > 200)}


class InProcess:
    """Workers of a job without processes. stop_after: blocks, then Ctrl-C."""

    stop_after = None

    def __init__(self, task, count):
        self.worker = BlockWorker(task)
        self.count = count

    def run(self, blocks, attempts):
        for done, block in enumerate(blocks):
            if done == self.stop_after:
                raise KeyboardInterrupt
            yield self.worker.answer(block)


def no_tensorflow(monkeypatch):
    """Let the test fail if a command loads TensorFlow, which takes seconds."""
    for module in (cli, cli_support, train_command):
        monkeypatch.setattr(module, "load_tensorflow", lambda: pytest.fail("too late"))
