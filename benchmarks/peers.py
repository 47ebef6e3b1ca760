"""Compare the speed of detection with torchvision's Mask R-CNN: `python benchmarks/peers.py`.

torch and torchvision live in an environment of their own, which the variable PEERS_PYTHON names:

    python3 -m venv ../peers
    ../peers/bin/pip install torch torchvision
    PEERS_PYTHON=../peers/bin/python python benchmarks/peers.py

Both networks have random weights, 81 classes and 1,000 proposals, compute in float32 on all cores,
and detect the same number of objects in one uint8 image. A call includes preparing the image and
pasting the masks. Ours has batch norm fused (`optimize_for_inference`), as in `mrcnn detect`;
torchvision's is used as its documentation shows. The two processes stay alive and take turns, so a
disturbance of the machine meets both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import run


class Case(NamedTuple):
    """A network, and its task: to detect `count` objects in a square image of `side` pixels."""

    backbone: str
    side: int
    count: int
    version: int | None = None  # of torchvision's network, in ours as well; None: matterport's


CASES = {
    "r50_512": Case("resnet50", 512, 35),
    "r101_1024": Case("resnet101", 1024, 35),
    "v1_512": Case("resnet50", 512, 35, version=1),
    "v1_1024": Case("resnet50", 1024, 35, version=1),
    "v2_512": Case("resnet50", 512, 35, version=2),
    "v2_1024": Case("resnet50", 1024, 35, version=2),
}
HOW_TO_INSTALL = (
    "Skipped: the environment variable PEERS_PYTHON must name a Python with torch and torchvision. "
    "Try python3 -m venv ../peers && ../peers/bin/pip install torch torchvision, "
    "then PEERS_PYTHON=../peers/bin/python python benchmarks/peers.py"
)


def mrcnn_detector(case: Case) -> Callable[[], int]:
    """A function that runs one detection of this package and returns the number of objects."""
    if case.version is None:
        model = run.detector(case.backbone, case.side, case.count)
    else:
        model = torchvision_network(case)
    model.optimize_for_inference()
    image = run.random_image(case.side)
    return lambda: len(model.detect([image])[0]["class_ids"])


def torchvision_network(case: Case):
    """Our `MaskRCNN` of torchvision's network; every proposal is class 1, as in torchvision's."""
    from mrcnn.config import Config
    from mrcnn.model import MaskRCNN

    config = Config.torchvision(case.version)
    config.NAME, config.NUM_CLASSES, config.IMAGES_PER_GPU = "benchmark", 81, 1
    config.IMAGE_MIN_DIM = config.IMAGE_MAX_DIM = case.side
    config.DETECTION_MIN_CONFIDENCE, config.DETECTION_NMS_THRESHOLD = 0.5, 0.7
    config.DETECTION_MAX_INSTANCES = case.count
    model = MaskRCNN("inference", config)
    logits = model.keras_model.get_layer("mrcnn_class_logits")
    kernel, bias = logits.get_weights()
    bias[1] = 6.0
    logits.set_weights([kernel, bias])
    return model


def torchvision_detector(case: Case) -> Callable[[], int]:
    """A function that runs one detection of torchvision and returns the number of objects.

    `MaskRCNN` with `resnet_fpn_backbone` is what `maskrcnn_resnet50_fpn` builds; torchvision has no
    function for ResNet101. Every proposal gets class 1 with a score above the threshold, so 1,000
    candidates enter the NMS, as here.
    """
    import torch
    from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    options = {"box_score_thresh": 0.5, "box_nms_thresh": 0.7, "box_detections_per_img": case.count}
    options |= {"min_size": case.side, "max_size": case.side, "num_classes": 81}
    if case.version == 2:
        network = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **options)
    else:
        backbone = resnet_fpn_backbone(backbone_name=case.backbone, weights=None)
        network = MaskRCNN(backbone, **options)
    network.eval()
    for name, module in network.backbone.named_modules():
        if name.endswith("bn3"):
            module.weight.data.mul_(0.1)  # otherwise activations double at every block
    network.roi_heads.box_predictor.cls_score.bias.data[1] = 6.0
    image = torch.from_numpy(run.random_image(case.side))

    def detect() -> int:
        with torch.inference_mode():
            (result,) = network([image.permute(2, 0, 1).float() / 255])
            return len(result["masks"] > 0.5)

    return detect


DETECTORS = {"mrcnn": mrcnn_detector, "torchvision": torchvision_detector}


def serve(library: str, case: Case) -> None:
    """Detect once per line of standard input, and print the seconds of each detection."""
    detect = DETECTORS[library](case)
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
    """A process with one library's detector, warm after construction."""

    def __init__(self, python: str, library: str, name: str):
        environment = {**run.environment(), "PYTHONWARNINGS": "ignore"}
        command = [python, __file__, "--worker", library, "--only", name]
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
    workers = [Worker(sys.executable, "mrcnn", name), Worker(peers_python, "torchvision", name)]
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
    return f"{name:12}{spread(ours):>24}{spread(theirs):>24}{ratio:>8.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare the speed of detection with torchvision's Mask R-CNN."
    )
    parser.add_argument(
        "--only", metavar="CASE", action="append", choices=CASES, help=f"of {', '.join(CASES)}"
    )
    parser.add_argument("--repeat", type=int, default=7, help="detections of each library")
    parser.add_argument("--worker", choices=DETECTORS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        serve(args.worker, CASES[args.only[0]])
        return 0
    peers_python = os.environ.get("PEERS_PYTHON")
    if not peers_python:
        print(HOW_TO_INSTALL)
        return 0
    print(run.cpu_name())
    print(f"{'case':12}{'mrcnn, s':>24}{'torchvision, s':>24}{'ratio':>8}", flush=True)
    for name in args.only or CASES:
        print(line(name, *compare(name, peers_python, args.repeat)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
