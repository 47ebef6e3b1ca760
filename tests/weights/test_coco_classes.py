"""COCO's class ids and names, against the ids of the reference and the names of torchvision."""

import hashlib
import importlib.util
import os
from pathlib import Path

import pytest

from mrcnn.files.safe_text import clean_name
from mrcnn.weights.coco_classes import COCO_80, COCO_91, COCO_IDS

REFERENCE = Path(os.environ.get("MRCNN_SHARED", ""), "reference/torchvision/rebuild.py")


def test_lists_have_the_lengths_of_the_networks_outputs():
    assert (len(COCO_IDS), len(COCO_80), len(COCO_91)) == (80, 81, 91)
    assert COCO_80[0] == COCO_91[0] == "BG"


def test_class_k_of_81_is_the_kth_category_of_91():
    # person 1, stop sign 13 (12 is unused), backpack 27 (26), toothbrush 90.
    for k, category_id, name in [
        (1, 1, "person"),
        (12, 13, "stop sign"),
        (25, 27, "backpack"),
        (80, 90, "toothbrush"),
    ]:
        assert COCO_IDS[k - 1] == category_id
        assert COCO_80[k] == COCO_91[category_id] == name
    assert [COCO_91[i] for i in COCO_IDS] == COCO_80[1:]


def test_unused_ids_have_names_that_differ():
    unused = [i for i in range(1, 91) if i not in COCO_IDS]
    assert unused == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert [COCO_91[i] for i in unused] == [f"N/A {i}" for i in unused]
    assert len(set(COCO_91)) == 91 and len(set(COCO_80)) == 81
    assert [clean_name(name) for name in COCO_91] == COCO_91


def test_names_are_those_of_torchvision():
    # sha256sum of "\n".join(_COCO_CATEGORIES[1:]) of torchvision 0.29.1's models/_meta.py.
    theirs = "\n".join("N/A" if name.startswith("N/A") else name for name in COCO_91[1:])
    assert (
        hashlib.sha256(theirs.encode()).hexdigest()
        == "42e9cd54d824de40de123385f3dff7372d6a5d3436b12395175d3e31b02937c7"
    )


def test_ids_are_those_of_the_reference():
    if not REFERENCE.is_file():
        pytest.skip("MRCNN_SHARED does not lead to the references")
    spec = importlib.util.spec_from_file_location("rebuild", REFERENCE)
    rebuild = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rebuild)
    assert rebuild.COCO_IDS == COCO_IDS
