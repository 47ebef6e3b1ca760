"""Compare detections with those of float32: fused batch norm, bfloat16, tiles of one image.

    python benchmarks/agreement.py WEIGHTS DATA --config IMAGE_MIN_SCALE=2.5
    python benchmarks/agreement.py WEIGHTS DATA --tiled 10000

The first prints for each variant the AP, and how many detections of float32 with a score >= 0.5
have one of the same class at a box IoU >= 0.9. The last variant is float32 on images with noise of
one gray level. The second repeats the images in a grid on one large square image, and compares the
AP there with that of the single images; it prints time and peak memory. `--scale 2` enlarges the
images.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from run import peak_gb

from mrcnn.app.cli_support import load_for_use
from mrcnn.app.data_option import SHAPES_HELD_OUT, open_data
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.evaluation import evaluate
from mrcnn.formats.rle import mask_to_rle
from mrcnn.model import MaskRCNN
from mrcnn.nn import boxes
from mrcnn.weights.opening import read_metadata

GAP = 16  # black pixels between images of the grid


def agreement(path: str, data: str, settings: list[str], limit: int | None) -> None:
    """Print a line for each variant."""
    plain, reference = load_for_use(path, settings)[0], None
    dataset = open_data(data, plain.class_names, shapes=SHAPES_HELD_OUT)
    for name in ("float32", "fused", "bfloat16", "bfloat16 fused", "noise"):
        config = Config.from_dict(plain.config.to_dict())
        config.PRECISION = "mixed_bfloat16" if "bfloat16" in name else "float32"
        config.DETECTION_MIN_CONFIDENCE = evaluate.EVALUATION_MIN_CONFIDENCE
        model, seen, rng = MaskRCNN.from_weights(path, config), [], np.random.default_rng(0)
        if "fused" in name:
            model.optimize_for_inference()

        def detect(image):
            if name == "noise":  # noqa: B023
                noise = rng.integers(-1, 2, image.shape)  # noqa: B023
                image = np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)
            seen.append(model.detect([image], masks="rle")[0])  # noqa: B023
            return seen[-1]  # noqa: B023

        found = evaluate.evaluate_dataset(detect, dataset, limit=limit, progress=False)
        reference = reference or seen
        matched, count, difference = matches(reference, seen)
        ap = "" if found.mask is None else f", mask AP {found.mask['AP']:.4f}"
        print(
            f"{name:16} box AP {found.box['AP']:.4f}{ap}; "
            f"{matched} of {count} matched, scores within {difference:.1g}"
        )


def matches(reference: list[dict], seen: list[dict]) -> tuple[int, int, float]:
    """Matched detections with a score >= 0.5, all of them, and the largest score difference."""
    matched, count, difference = 0, 0, 0.0
    for first, second in zip(reference, seen, strict=True):
        ious = boxes.iou(np.float64(first["rois"]), np.float64(second["rois"]))
        for row in np.flatnonzero(first["scores"] >= 0.5):
            count += 1
            same = (ious[row] >= 0.9) & (second["class_ids"] == first["class_ids"][row])
            if same.any():
                matched += 1
                difference = max(
                    difference, np.abs(second["scores"][same] - first["scores"][row]).min()
                )
    return matched, count, difference


class Enlarged(Dataset):
    """Images of a dataset, enlarged; an image may be repeated."""

    def __init__(self, dataset: Dataset, image_ids: list[int], scale: float):
        super().__init__()
        self.source, self.scale = dataset, scale
        for class_id, name in enumerate(dataset.class_names[1:], start=1):
            self.add_class("enlarged", class_id, name)
        for i, image_id in enumerate(image_ids):
            self.add_image("enlarged", i, path=None, own=image_id)
        self.prepare()

    def _resized(self, array, how):
        height, width = (round(side * self.scale) for side in array.shape[:2])
        return cv2.resize(array, (width, height), interpolation=how)

    def load_image(self, image_id):
        return self._resized(
            self.source.load_image(self.image_info[image_id]["own"]), cv2.INTER_LINEAR
        )

    def load_mask(self, image_id):
        masks, class_ids = self.source.load_mask(self.image_info[image_id]["own"])
        large = [
            self._resized(np.uint8(mask), cv2.INTER_NEAREST) for mask in np.moveaxis(masks, -1, 0)
        ]
        empty = np.zeros((*self.load_image(image_id).shape[:2], 0), bool)
        return np.stack(large, axis=-1).astype(bool) if large else empty, class_ids


def tiled(path: str, data: str, side: int, scale: float, tile: int, largest: int) -> None:
    """Print the metrics of the single images and of the large image."""
    config = Config.from_dict(read_metadata(path)["config"])
    config.GPU_COUNT = config.IMAGES_PER_GPU = config.BATCH_SIZE = 1
    config.IMAGE_RESIZE_MODE, config.IMAGE_MIN_SCALE, config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM = (
        "pad64",
        0,
        64,
        tile,
    )
    config.DETECTION_MIN_CONFIDENCE = evaluate.EVALUATION_MIN_CONFIDENCE
    model = MaskRCNN.from_weights(path, config)
    model.optimize_for_inference()
    dataset = open_data(data, model.class_names, shapes=SHAPES_HELD_OUT)
    ids = [int(i) for i in dataset.image_ids if max(dataset.load_image(i).shape[:2]) <= largest]
    images = dict(
        zip(ids, map(Enlarged(dataset, ids, scale).load_image, range(len(ids))), strict=True)
    )

    with tempfile.TemporaryDirectory() as folder:
        image = np.lib.format.open_memmap(
            Path(folder) / "large.npy", "w+", np.uint8, (side, side, 3)
        )
        places, (y, x, below) = [], (GAP, GAP, 0)
        for image_id in itertools.cycle(ids):
            height, width = images[image_id].shape[:2]
            if x + width + GAP > side:
                y, x, below = y + below + GAP, GAP, 0
            if y + height + GAP > side:
                break
            image[y : y + height, x : x + width] = images[image_id]
            places.append((image_id, y, x))
            x, below = x + width + GAP, max(below, height)
        image.flush()
        start = time.perf_counter()
        found = model.detect_tiled(
            np.load(Path(folder) / "large.npy", mmap_mode="r"), tile, tile // 4, verbose=1
        )
        seconds = time.perf_counter() - start
    print(
        f"{side} x {side} pixels: {len(found['rois'])} detected in {seconds:.0f} s, "
        f"peak {peak_gb():.2f} GB"
    )

    large = Enlarged(dataset, [image_id for image_id, _, _ in places], scale)
    one_by_one = {
        image_id: model.detect([image], masks="rle")[0] for image_id, image in images.items()
    }
    singles = iter([one_by_one[image_id] for image_id, _, _ in places])
    parts = iter([part(found, y, x, *images[image_id].shape[:2]) for image_id, y, x in places])
    for name, results in (("single", singles), ("tiled", parts)):
        detect = lambda _, results=results: next(results)  # noqa: E731
        metrics = evaluate.evaluate_dataset(detect, large, progress=False)
        print(
            f"{name:10} mask AP {metrics.mask['AP']:.4f}, AP50 {metrics.mask['AP50']:.4f}, "
            f"box AP {metrics.box['AP']:.4f}; {metrics.detections} detections, "
            f"{metrics.objects} objects"
        )


def part(found: dict, y: int, x: int, height: int, width: int) -> dict:
    """The part of a large image's result whose box centres lie in one image of the grid."""
    center_y, center_x = (
        found["rois"][:, [0, 2]].mean(axis=1),
        found["rois"][:, [1, 3]].mean(axis=1),
    )
    inside = (center_y >= y) & (center_y < y + height) & (center_x >= x) & (center_x < x + width)
    own = np.flatnonzero(inside)
    masks, rois = [], found["rois"][own] - [y, x, y, x]
    for i, box in zip(own, rois, strict=True):
        y1, x1, y2, x2 = np.clip(box, 0, [height, width, height, width])
        mask = np.zeros((height, width), bool)
        mask[y1:y2, x1:x2] = found["masks"][i][y1 - box[0] : y2 - box[0], x1 - box[1] : x2 - box[1]]
        masks.append(mask_to_rle(mask))
    return {
        "rois": rois,
        "class_ids": found["class_ids"][own],
        "scores": found["scores"][own],
        "masks": masks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare detections with those of float32.")
    parser.add_argument("weights")
    parser.add_argument("data", help="a folder of images and annotations, or shapes")
    parser.add_argument("--config", nargs="+", default=[], metavar="NAME=VALUE")
    parser.add_argument("--limit", type=int, help="the first N images only")
    parser.add_argument(
        "--tiled", type=int, metavar="SIDE", help="compare with one image of SIDE x SIDE pixels"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="with --tiled: enlarge the images")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument(
        "--largest", type=int, default=400, help="with --tiled: leave out images with a longer side"
    )
    args = parser.parse_args()
    if args.tiled:
        tiled(args.weights, args.data, args.tiled, args.scale, args.tile, args.largest)
    else:
        agreement(args.weights, args.data, args.config, args.limit)


if __name__ == "__main__":
    main()
