"""The command with a tiny network of each kind: data checked, trained on, evaluated, detected."""

import json

import cv2
import pytest
from command_line import run
from kinds import KEYPOINTS, KINDS
from tiny import Squares

from mrcnn.app import cli

pytestmark = pytest.mark.usefixtures("eagerly")

CONFIG = """
from tiny import TinyConfig


class Mine(TinyConfig):
    NAME = "mine"
    DETECTION_ALL_CLASSES = True  # otherwise random weights may find only background
"""


def coco_folder(folder):
    """The four images of `Squares` with their outlines and keypoints in COCO's format."""
    squares = Squares()
    names = list(squares.keypoint_names)
    images, annotations = [], []
    for i in range(len(squares.image_ids)):
        cv2.imwrite(str(folder / f"{i}.png"), squares.load_image(i))
        images.append({"id": i, "file_name": f"{i}.png", "height": 64, "width": 64})
        rows, columns = squares._square(i)
        y1, x1, y2, x2 = rows.start, columns.start, rows.stop, columns.stop
        keypoints = []
        for y, x, seen in squares.load_keypoints(i)[0]:
            keypoints += [x - 0.5, y - 0.5, seen]  # from the center of the first pixel
        annotations.append(
            {
                "id": i + 1,
                "image_id": i,
                "category_id": int(squares.load_mask(i)[1][0]),
                "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "keypoints": keypoints,
                "num_keypoints": 3,
            }
        )
    categories = [
        {"id": i, "name": name, "keypoints": names, "skeleton": [[1, 2]]}
        for i, name in enumerate(squares.class_names[1:], start=1)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_check_train_resume_evaluate_and_detect(kind, tmp_path, capsys):
    data = coco_folder(tmp_path)
    settings = tmp_path / "mine.py"
    keypoints = "".join(f"    {name} = {value!r}\n" for name, value in KEYPOINTS.items())
    settings.write_text(CONFIG + (keypoints if kind == "keypoints" else ""))
    options = ["--config", settings]
    network = ["--network", kind] if kind in ("retinanet", "fcos") else []
    assert run("check", data, *network, *options) == cli.OK
    assert "4 images, 4 objects" in capsys.readouterr().out

    train = ["train", data, "--val", data, "--logs", tmp_path / "logs", *network, *options]
    assert run(*train, "--epochs", 1) == cli.OK
    assert run(*train, "--epochs", 2, "--weights", "last") == cli.OK
    shown = capsys.readouterr()
    name = network[1] if network else "mask_rcnn"
    (weights,) = (tmp_path / "logs").glob(f"mine*/{name}_mine_0002.h5")
    assert str(weights) in shown.out and "other settings" not in shown.err
    assert (weights.parent / "augmentation.png").is_file()
    assert (weights.parent / "report.html").is_file()

    words = ["--weights", weights, "--out", tmp_path / "out", *options]
    views = ["--tta", "flip", "--min-confidence", 0]
    assert run("evaluate", data, *words, *views, "--pictures") == cli.OK
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["images"], metrics["objects"]) == (4, 4) and metrics["detections"] > 0
    assert (metrics["mask"] is None) == (kind in ("retinanet", "fcos"))
    assert ("keypoints" in metrics and metrics["keypoints"] is not None) == (kind == "keypoints")

    words += ["--min-confidence", 0, "--heat-map", "--format", *cli.FORMATS]
    assert run("detect", data / "0.png", *words) == cli.OK
    (entry,) = json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    assert len(entry["detections"]) > 0
    for drawing in (entry["picture"], entry["heat_map"]):
        assert (tmp_path / "out" / drawing).is_file()
