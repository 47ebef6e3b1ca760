"""The ground truth of datasets in COCO's format: by masks, by boxes, from an annotation file."""

import json

import numpy as np
import pytest
from annotated import annotation, coco, write_coco, write_image
from evaluation_cases import CAT, DOG, Boxes, OwnBoxes, masks_of

from mrcnn.evaluation.coco_ground_truth import dataset_to_coco
from mrcnn.formats.coco import CocoDataset


def test_masks_become_annotations():
    ground_truth = dataset_to_coco(Boxes([[CAT, (-2, (5, 0, 20, 4))], []]))
    assert json.loads(json.dumps(ground_truth)) == ground_truth
    assert ground_truth["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    sizes = [(image["id"], image["height"], image["width"]) for image in ground_truth["images"]]
    assert sizes == [(0, 20, 20), (1, 20, 20)]
    cat, crowd = ground_truth["annotations"]
    assert (cat["id"], cat["bbox"], cat["area"], cat["iscrowd"]) == (1, [0, 0, 10, 10], 100, 0)
    # x 0..4, y 5..20: width 4, height 15
    assert (crowd["category_id"], crowd["iscrowd"]) == (2, 1)
    assert (crowd["bbox"], crowd["area"]) == ([0, 5, 4, 15], 60)


class Annotated(Boxes):
    """Each object has its own boxes and areas, as in COCO's files, besides its mask."""

    def annotated_boxes(self, image_id):
        return self.image_info[image_id]["objects"][0][2]

    def load_mask(self, image_id):
        return masks_of([box for _, box, _ in self.image_info[image_id]["objects"]]), [1]


def test_boxes_and_areas_of_the_annotation_file_replace_those_of_the_masks():
    own = {"bbox": [0.4, 0.3, 9.2, 9.1], "area": 80.5}
    dataset = Annotated(
        [[(*CAT, [own])], [(*CAT, [{"area": 80.5}])], [(*CAT, [{}])], [(*CAT, [own, own])]]
    )
    ground_truth = [(a["bbox"], a["area"]) for a in dataset_to_coco(dataset)["annotations"]]
    of_mask = [0.0, 0.0, 10.0, 10.0]  # also if load_mask returns another number of objects
    assert ground_truth == [(own["bbox"], 80.5), (of_mask, 80.5), (of_mask, 100), (of_mask, 100)]


def test_a_coco_file_keeps_its_boxes_and_areas(tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    polygon = [[4.3, 3, 13.6, 3, 13.6, 8, 4.3, 8]]
    outline = annotation(1, 90, polygon, bbox=[4.3, 3, 9.3, 5], area=46.5)
    rle = {"size": [30, 40], "counts": [60, 90, 1050]}
    crowd = annotation(2, 18, rle, iscrowd=1, bbox=[2, 0, 3, 30], area=90)
    dataset = CocoDataset(write_coco(tmp_path, coco(annotations=[outline, crowd])))
    ground_truth = dataset_to_coco(dataset)["annotations"]
    assert [(a["bbox"], a["area"], a["iscrowd"]) for a in ground_truth] == [
        ([4.3, 3, 9.3, 5], 46.5, 0),
        ([2, 0, 3, 30], 90, 1),
    ]


def test_a_coco_file_of_boxes_gives_annotations_without_segmentation(tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    box = annotation(1, 90, [], bbox=[4.3, 3, 9.3, 5])
    dataset = CocoDataset(write_coco(tmp_path, coco(annotations=[box])))
    ground_truth = dataset_to_coco(dataset)["annotations"]
    np.testing.assert_allclose(ground_truth[0]["bbox"], [4.3, 3, 9.3, 5])
    assert len(ground_truth) == 1 and "segmentation" not in ground_truth[0]


def test_an_empty_mask_of_class_0_marks_a_negative_image(caplog):
    """Published scripts mark negatives so; their image_reference may raise as well."""

    class Raises(Boxes):
        def image_reference(self, image_id):
            raise AttributeError("'super' object has no attribute 'image_info'")

    ground_truth = dataset_to_coco(Raises([[CAT], [(0, (0, 0, 0, 0))]]))
    assert [a["image_id"] for a in ground_truth["annotations"]] == [0] and len(
        ground_truth["images"]
    ) == 2
    assert "no pixels" not in caplog.text
    with pytest.raises(ValueError, match=r"Received: 0 for image 1 \(1.png\)"):
        dataset_to_coco(Raises([[CAT], [(0, (0, 0, 2, 2))]]))


def test_an_instance_without_pixels_is_left_out_and_logged(caplog):
    ground_truth = dataset_to_coco(Boxes([[(1, (0, 0, 0, 0)), DOG]]))
    assert [a["id"] for a in ground_truth["annotations"]] == [1]
    assert "Instance 0 of image 0 (0.png) has no pixels" in caplog.text


def test_an_unknown_class_id_is_rejected():
    with pytest.raises(ValueError, match=r"among \[1, 2\].*Received: 3 for image 1 \(1.png\)"):
        dataset_to_coco(Boxes([[], [(3, (0, 0, 5, 5))]]))


def test_different_numbers_of_masks_and_class_ids_are_rejected():
    dataset = Boxes([[CAT]])
    dataset.load_mask = lambda image_id: (np.ones((20, 20, 2)), [1])
    with pytest.raises(ValueError, match=r"\(20, 20, 2\) and 1 class ids for image 0"):
        dataset_to_coco(dataset)


# --- Boxes --------------------------------------------------------------------------------------


def test_boxes_are_clipped_and_empty_ones_left_out(caplog):
    dataset = OwnBoxes(
        [[(1, (0, 0, 9, 9)), (-1, (9, 9, 19, 19)), (2, (4, 4, 4, 9)), (2, (10, 10, 30, 30))]]
    )
    ground_truth = dataset_to_coco(dataset)
    assert [(a["bbox"], a["area"], a["iscrowd"]) for a in ground_truth["annotations"]] == [
        ([0.5, 0.5, 9.0, 9.0], 81.0, 0),
        ([9.5, 9.5, 10.0, 10.0], 100.0, 1),
        ([10.5, 10.5, 9.5, 9.5], 90.25, 0),  # the image ends at 20
    ]
    assert "no area" in caplog.text


def test_an_unknown_class_id_of_a_box_is_rejected():
    dataset = OwnBoxes([[(3, (0, 0, 9, 9))]])
    with pytest.raises(ValueError, match=r"among \[1, 2\].*Received: 3 for image 0.*in load_bbox"):
        dataset_to_coco(dataset)


def test_different_numbers_of_boxes_and_class_ids_are_rejected():
    dataset = OwnBoxes([[CAT]])
    dataset.load_bbox = lambda image_id: ([[0, 0, 9, 9]], [1, 2])
    with pytest.raises(ValueError, match="1 boxes and 2 class ids for image 0"):
        dataset_to_coco(dataset)
