"""Compare the speed of detection with torchvision's networks: `python benchmarks/peers.py`.

torch and torchvision live in an environment of their own, which the variable PEERS_PYTHON names:

    python3 -m venv ../peers
    ../peers/bin/pip install torch torchvision
    PEERS_PYTHON=../peers/bin/python python benchmarks/peers.py

Both networks have the same random weights (in the cases r50 and r101, which compare two networks,
weights of their own), compute in float32 on all cores, and detect the same number of objects in one
uint8 image. A call includes preparing the image, and pasting the masks or decoding the keypoints.
Ours has batch norm fused (`optimize_for_inference`), as in `mrcnn detect`; torchvision's is used as
its documentation shows. The two processes stay alive and take turns, so a disturbance of the
machine meets both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import run


class Case(NamedTuple):
    """A network, and its task: to detect `count` objects in a square image of `side` pixels."""

    side: int
    count: int
    network: str | None = None  # torchvision's name; None: matterport's against torchvision's v1
    classes: int = 91
    backbone: str = "resnet50"


CASES = {
    "r50_512": Case(512, 35, classes=81),
    "r101_1024": Case(1024, 35, classes=81, backbone="resnet101"),
    "v1_512": Case(512, 35, "maskrcnn_resnet50_fpn"),
    "v1_1024": Case(1024, 35, "maskrcnn_resnet50_fpn"),
    "v2_512": Case(512, 35, "maskrcnn_resnet50_fpn_v2"),
    "v2_1024": Case(1024, 35, "maskrcnn_resnet50_fpn_v2"),
    "keypoint_512": Case(512, 35, "keypointrcnn_resnet50_fpn", classes=2),
    "keypoint_1024": Case(1024, 35, "keypointrcnn_resnet50_fpn", classes=2),
    "retinanet_v1_512": Case(512, 300, "retinanet_resnet50_fpn"),
    "retinanet_v1_1024": Case(1024, 300, "retinanet_resnet50_fpn"),
    "retinanet_v2_512": Case(512, 300, "retinanet_resnet50_fpn_v2"),
    "retinanet_v2_1024": Case(1024, 300, "retinanet_resnet50_fpn_v2"),
    "fcos_512": Case(512, 100, "fcos_resnet50_fpn"),
    "fcos_1024": Case(1024, 100, "fcos_resnet50_fpn"),
}
# torchvision's classes of the first versions, see `torchvision_network`.
FIRST_VERSIONS = {
    "maskrcnn_resnet50_fpn": "MaskRCNN",
    "keypointrcnn_resnet50_fpn": "KeypointRCNN",
    "retinanet_resnet50_fpn": "RetinaNet",
    "fcos_resnet50_fpn": "FCOS",
}
HOW_TO_INSTALL = (
    "Skipped: the environment variable PEERS_PYTHON must name a Python with torch and torchvision. "
    "Try python3 -m venv ../peers && ../peers/bin/pip install torch torchvision, "
    "then PEERS_PYTHON=../peers/bin/python python benchmarks/peers.py"
)


def mrcnn_detector(case: Case, weights: str) -> Callable[[], int]:
    """A function that runs one detection of this package and returns the number of objects.

    weights: the file to write for torchvision's network, if it is the same one.
    """
    if case.network is None:
        model = run.detector(case.backbone, case.side, case.count)
    else:
        model = mrcnn_network(case)
        model.save_weights(weights)
    model.optimize_for_inference()
    image = run.random_image(case.side)
    return lambda: len(model.detect([image])[0]["class_ids"])


def mrcnn_network(case: Case):
    """Our model of torchvision's network, with random weights that make everything class 1."""
    from mrcnn.detection_model import model_class
    from mrcnn.weights.model_layers import layers_with_weights
    from mrcnn.weights.zoo_table import RELEASED

    (config,) = (row.config() for row in RELEASED if row.name == f"{case.network}_coco")
    config.IMAGES_PER_GPU = 1
    config.IMAGE_MIN_DIM = config.IMAGE_MAX_DIM = case.side
    config.DETECTION_MAX_INSTANCES = case.count
    if config.has_rpn():
        config.DETECTION_MIN_CONFIDENCE, config.DETECTION_NMS_THRESHOLD = 0.5, 0.7
    model = model_class(config)("inference", config)
    for name, layer in layers_with_weights(model.keras_model).items():
        set_random_weights(name, layer, config.NUM_CLASSES)
    return model


def set_random_weights(name: str, layer, classes: int) -> None:
    """Change the initial weights of a layer where the network would detect nothing with them."""
    if name.endswith("_class_logits"):
        bias = layer.bias.numpy().reshape(-1, classes)  # a row per anchor of a cell
        bias[:, 1] = 6.0
        layer.bias.assign(bias.ravel())
    elif name == "fcos_sides":
        layer.bias.assign([1.0] * 4)  # boxes of no extent are no detections
    elif name.startswith("bn") and name.endswith("branch2c"):
        layer.gamma.assign(layer.gamma * 0.1)  # otherwise activations double at every block


def torchvision_detector(case: Case, weights: str) -> Callable[[], int]:
    """A function that runs one detection of torchvision and returns the number of objects.

    Every proposal or anchor is of class 1 with a score above the threshold, so as many candidates
    enter the NMS as here.

    weights: the file of our network, if it is the same one.
    """
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    network = torchvision_network(case).eval()
    if case.network is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    else:
        for name, module in network.backbone.named_modules():
            if name.endswith("bn3"):
                module.weight.data.mul_(0.1)  # otherwise activations double at every block
        network.roi_heads.box_predictor.cls_score.bias.data[1] = 6.0
    image = torch.from_numpy(run.random_image(case.side))

    def detect() -> int:
        with torch.inference_mode():
            (result,) = network([image.permute(2, 0, 1).float() / 255])
            if "masks" in result:
                result["masks"] = result["masks"] > 0.5
            return len(result["boxes"])

    return detect


def torchvision_network(case: Case):
    """torchvision's network without weights.

    A first version is built of its parts, as `maskrcnn_resnet50_fpn` does it when it loads
    weights: without any, that function would not freeze batch norm. There is none for ResNet101.
    """
    from torchvision.models import detection
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    name = case.network or "maskrcnn_resnet50_fpn"
    options = {"min_size": case.side, "max_size": case.side, "num_classes": case.classes}
    levels = {}
    if "rcnn" in name:
        options |= {"box_score_thresh": 0.5, "box_nms_thresh": 0.7}
        options["box_detections_per_img"] = case.count
    else:
        options["detections_per_img"] = case.count
        levels = {"returned_layers": [2, 3, 4], "extra_blocks": LastLevelP6P7(256, 256)}
    if name not in FIRST_VERSIONS:
        return getattr(detection, name)(weights=None, weights_backbone=None, **options)
    if name.startswith("keypoint"):
        options["num_keypoints"] = 17
    backbone = resnet_fpn_backbone(backbone_name=case.backbone, weights=None, **levels)
    return getattr(detection, FIRST_VERSIONS[name])(backbone, **options)


DETECTORS = {"mrcnn": mrcnn_detector, "torchvision": torchvision_detector}


def serve(library: str, case: Case, weights: str) -> None:
    """Detect once per line of standard input, and print the seconds of each detection."""
    detect = DETECTORS[library](case, weights)
    for _ in sys.stdin:
        start = time.perf_counter()
        count = detect()
        seconds = time.perf_counter() - start
        if count != case.count:
            raise RuntimeError(
                f"{case.count} objects must be detected. Received: {count} from {library}."
            )
        print(seconds, flush=True)


class Worker:
    """A process with one library's detector, warm after construction.

    weights: path of the file in which our worker leaves its weights for torchvision's.
    """

    def __init__(self, python: str, library: str, name: str, weights: str):
        environment = {**run.environment(), "PYTHONWARNINGS": "ignore"}
        command = [python, __file__, "--worker", library, "--only", name, "--weights", weights]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment
        )
        for _ in range(2):  # tracing, then memory that is allocated once
            self.seconds()

    def seconds(self) -> float:
        """Wall seconds of one detection."""
        self.process.stdin.write("detect\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            command = " ".join(self.process.args)
            raise SystemExit(f"The worker must answer. Received: end of file from {command}.")
        return float(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(name: str, peers_python: str, repeat: int) -> tuple[list[float], list[float]]:
    """Seconds of `repeat` detections of this package and of torchvision, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.pth")
        workers = [
            Worker(sys.executable, "mrcnn", name, weights),
            Worker(peers_python, "torchvision", name, weights),
        ]
    rounds = [[worker.seconds() for worker in workers] for _ in range(repeat)]
    for worker in workers:
        worker.close()
    ours, theirs = zip(*rounds, strict=True)
    return list(ours), list(theirs)


def spread(times: list[float]) -> str:
    """Median and range of times, as text."""
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


def line(name: str, ours: list[float], theirs: list[float]) -> str:
    """A row of the table: median and range in seconds, median of the ratios of all rounds."""
    ratio = statistics.median(our / their for our, their in zip(ours, theirs, strict=True))
    return f"{name:18}{spread(ours):>24}{spread(theirs):>24}{ratio:>8.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare the speed of detection with torchvision's networks."
    )
    parser.add_argument(
        "--only", metavar="CASE", action="append", choices=CASES, help=f"of {', '.join(CASES)}"
    )
    parser.add_argument("--repeat", type=int, default=7, help="detections of each library")
    parser.add_argument("--worker", choices=DETECTORS, help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        serve(args.worker, CASES[args.only[0]], args.weights)
        return 0
    peers_python = os.environ.get("PEERS_PYTHON")
    if not peers_python:
        print(HOW_TO_INSTALL)
        return 0
    print(run.cpu_name())
    print(f"{'case':18}{'mrcnn, s':>24}{'torchvision, s':>24}{'ratio':>8}", flush=True)
    for name in args.only or CASES:
        print(line(name, *compare(name, peers_python, args.repeat)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
