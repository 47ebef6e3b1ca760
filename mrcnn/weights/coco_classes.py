"""COCO's categories: their ids, and the class names of networks trained on them."""

from __future__ import annotations

# COCO's category ids run from 1 to 90; ten of them have no category.
_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = [i for i in range(1, 91) if i not in _UNUSED_IDS]

# The 17 keypoints of COCO's persons, and the lines between them (positions from 0).
_PARTS = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
COCO_KEYPOINTS = ["nose", *(f"{side}_{part}" for part in _PARTS for side in ("left", "right"))]
COCO_SKELETON = [
    *([15, 13], [13, 11], [16, 14], [14, 12], [11, 12], [5, 11], [6, 12], [5, 6], [5, 7]),
    *([6, 8], [7, 9], [8, 10], [1, 2], [0, 1], [0, 2], [1, 3], [2, 4], [3, 5], [4, 6]),
]

_NAMES = (
    "person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant "
    "stop_sign parking_meter bench bird cat dog horse sheep cow elephant bear zebra giraffe "
    "backpack umbrella handbag tie suitcase frisbee skis snowboard sports_ball kite baseball_bat "
    "baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup fork knife spoon bowl "
    "banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair couch "
    "potted_plant bed dining_table toilet tv laptop mouse remote keyboard cell_phone microwave "
    "oven toaster sink refrigerator book clock vase scissors teddy_bear hair_drier toothbrush"
)

# Background, then the 80 categories in the order of their ids: the class names of networks of 81
# classes, matterport's and, once their background stands first, detectron2's.
COCO_80 = ["BG", *(name.replace("_", " ") for name in _NAMES.split())]


def _by_category_id() -> list[str]:
    # Datasets find a class by its name, so the names of unused ids differ.
    names = ["BG", *(f"N/A {i}" for i in range(1, 91))]
    for category_id, name in zip(COCO_IDS, COCO_80[1:], strict=True):
        names[category_id] = name
    return names


# The class names of networks whose class ids are COCO's category ids (torchvision's, 91 classes);
# an unused id is called "N/A 12" or alike.
COCO_91 = _by_category_id()
