"""A model without a network, for tests of the server: bright pixels are the objects."""

import hashlib
import io
import json
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mrcnn.config import Config
from mrcnn.inference.result import Result


class FakeModel:
    """Finds each connected region of bright pixels; the brightness is the score.

    Wide regions have class 1, others class 2. label: an ending of the class names, the weights of
    this model. seconds: that a batch takes.
    """

    def __init__(self, label="", seconds=0.0):
        self.config = Config()
        self.config.NUM_CLASSES = 3
        self.config.DETECTION_MIN_CONFIDENCE = 0.7
        self.seconds = seconds
        self.batches = []
        self.set_label(label)

    def set_label(self, label):
        self.class_names = ["BG", f"wide{label}", f"high{label}"]

    def load_weights(self, path):
        self.set_label(Path(path).read_text().split()[1])

    def detect(self, images, batch_size=None, masks="full"):
        time.sleep(self.seconds)
        self.batches.append(len(images))
        if any(image[0, 0].tolist() == [66, 6, 66] for image in images):
            raise RuntimeError("this image breaks the network")
        return [self.found(image) for image in images]

    def found(self, image):
        bright = np.uint8(image.max(axis=2) > 100)
        count, labels, boxes, _ = cv2.connectedComponentsWithStats(bright, connectivity=4)
        rows = []
        for i in range(1, count):
            x, y, width, height, _ = (int(value) for value in boxes[i])
            crop = labels[y : y + height, x : x + width] == i
            score = image[y : y + height, x : x + width].max() / 255
            class_id = 1 if width > height else 2
            rows.append(([y, x, y + height, x + width], class_id, score, crop))
        rows.sort(key=lambda row: -row[2])
        rows = [row for row in rows if row[2] >= self.config.DETECTION_MIN_CONFIDENCE]
        arrays = {
            "rois": np.array([row[0] for row in rows], np.int32).reshape(-1, 4),
            "class_ids": np.array([row[1] for row in rows], np.int32),
            "scores": np.array([row[2] for row in rows], np.float32),
            "masks": [row[3] for row in rows],
        }
        return Result(arrays, image.shape[:2], self.class_names)


class FakeLoader:
    """Loads "weights": a text file of the network's name and the label of its weights."""

    def __init__(self, seconds=0.0):
        self.seconds = seconds
        self.loads = 0

    def describe(self, weights):
        network, _ = Path(weights).read_text().split()
        return {"network": network}

    def load(self, weights):
        self.loads += 1
        return FakeModel(Path(weights).read_text().split()[1], self.seconds)


def weight_file(path, label="", network="fake"):
    """Write weights of `FakeLoader`. label: must not be empty in a file."""
    path.write_text(f"{network} {label or '1'}")
    return str(path)


def boxes_image(*boxes, size=(40, 60), score=1.0):
    """A dark image `[H, W, 3]` with bright boxes (y1, x1, y2, x2)."""
    image = np.zeros((*size, 3), np.uint8)
    for y1, x1, y2, x2 in boxes:
        image[y1:y2, x1:x2] = round(255 * score)
    return image


def numbered_image(number, size=(64, 64)):
    """An image whose only object says which image it is: its box is `numbered_box`."""
    return boxes_image(numbered_box(number), size=size)


def numbered_box(number):
    """A box (y1, x1, y2, x2) for each number from 0 to 4,095: wide ones for small ones."""
    y, x = number % 16, number // 16 % 16
    return [y, x, y + 20 + number // 256, x + 30]


def png(image):
    """The content of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def digest(data):
    return hashlib.sha256(data).hexdigest()


def form(*files, field="image"):
    """`(body, content type)` of a form with files `(name, content)`."""
    boundary = "0123456789abcdef"
    parts = []
    for name, content in files:
        head = (
            f"--{boundary}\r\nContent-Disposition: form-data; "
            f"name={json.dumps(field)}; filename={json.dumps(name)}\r\n"
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        parts.append(head.encode() + content + b"\r\n")
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"
