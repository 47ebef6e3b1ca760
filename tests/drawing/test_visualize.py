"""`mrcnn.visualize`: matterport's signatures, and `display_differences`."""

import inspect
import os
import subprocess
import sys

import numpy as np
from drawing_cases import NAMES, rectangle, texts_of
from matplotlib import patches
from matplotlib import pyplot as plt

from mrcnn import visualize


def test_matterport_functions_keep_their_parameters(matterport_api):
    api = matterport_api["mrcnn.visualize"]
    assert len(api) == 13
    for name, entry in api.items():
        parameters = inspect.signature(getattr(visualize, name)).parameters.values()
        found = [[p.name, None if p.default is p.empty else repr(p.default)] for p in parameters]
        assert found[: len(entry["args"])] == entry["args"], name


def test_display_instances_works_without_a_display():
    code = (
        "import numpy as np; from mrcnn import visualize; import matplotlib.pyplot as plt;"
        "image = np.zeros((9, 9, 3), np.uint8);"
        "visualize.display_instances(image, [[1, 1, 5, 5]], None, [1], ['BG', 'a']);"
        "print(plt.get_backend())"
    )
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:matplotlib", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
    )
    assert done.returncode == 0, done.stderr
    assert sys.platform != "linux" or done.stdout.strip().lower() == "agg"


def test_display_differences_captions_score_and_iou():
    gt_boxes, gt_masks, _ = rectangle((0, 0, 10, 10), (20, 24))
    other_boxes, other_masks, _ = rectangle((0, 2, 10, 12), (20, 24))
    lost_boxes, lost_masks, _ = rectangle((12, 12, 14, 14), (20, 24))
    padding = np.zeros((1, 4), np.int32), np.zeros((20, 24, 1), bool)
    visualize.display_differences(
        np.zeros((20, 24, 3)),
        np.concatenate([gt_boxes, padding[0]]),
        [1, 0],
        np.dstack([gt_masks, padding[1]]),
        np.concatenate([lost_boxes, padding[0], other_boxes]),
        [1, 0, 1],
        [0.25, 0, 0.75],
        np.dstack([lost_masks, padding[1], other_masks]),
        NAMES,
    )
    ax = plt.gca()
    # shifted by 2 of 10 columns: 80 shared of 120 pixels = 0.67
    assert texts_of(ax) == ["0.25 / 0.00", "0.75 / 0.67"]
    boxes = [p for p in ax.patches if isinstance(p, patches.Rectangle)]
    assert [p.get_edgecolor()[:3] for p in boxes] == [(0, 1, 0), (1, 0, 0), (1, 0, 0)]
    assert [p.get_x() for p in boxes] == [-0.5, 11.5, 1.5]


def test_display_differences_of_equal_scores_and_of_empty_sets():
    boxes, masks, ids = rectangle((0, 0, 4, 4))
    far_boxes, far_masks, _ = rectangle((8, 8, 12, 12))
    image = np.zeros((20, 24, 3))
    visualize.display_differences(
        image,
        boxes,
        ids,
        masks,
        np.concatenate([far_boxes, boxes]),
        [1, 1],
        [0.9, 0.9],
        np.dstack([far_masks, masks]),
        NAMES,
    )
    assert texts_of(plt.gca()) == ["0.90 / 0.00", "0.90 / 1.00"]
    visualize.display_differences(image, [], [], [], boxes, ids, [0.5], masks, NAMES)
    assert texts_of(plt.gca()) == ["0.50 / 0.00"]
    visualize.display_differences(image, boxes, ids, masks, [], [], [], [], NAMES)
    assert texts_of(plt.gca()) == []
