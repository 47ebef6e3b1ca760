"""Detections written by every writer and read back: the same masks, pixel for pixel."""

import csv
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mrcnn.formats import (
    csv_table,
    export,
    geojson,
    rle,
)
from mrcnn.formats.coco import CocoDataset
from mrcnn.formats.cvat import CVATDataset
from mrcnn.formats.labelme import LabelmeDataset, labelme_file
from mrcnn.formats.mask_images import InstanceImageDataset, instance_image
from mrcnn.formats.open_dataset import open_dataset
from mrcnn.formats.to_supervision import to_supervision
from mrcnn.formats.via import VIADataset, via_entry
from mrcnn.formats.yolo import YOLODataset

NAMES = ["BG", "cat", "dog"]
# Two parts, one of them with a hole: 3 x 3 less its middle, and 1 x 2 at its right.
RING_AND_BAR = np.array(
    [[1, 1, 1, 0, 0, 0], [1, 0, 1, 0, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], bool
)


def result(*masks, class_ids=None, scores=None, with_masks=True):
    """A result as detect() gives it; boxes are those of the masks."""
    boxes = []
    for mask in masks:
        ys, xs = np.nonzero(mask)
        boxes.append([ys.min(), xs.min(), ys.max() + 1, xs.max() + 1] if len(ys) else [0, 0, 1, 1])
    parts = {
        "rois": np.array(boxes, np.int32).reshape(-1, 4),
        "class_ids": np.array(class_ids or [1] * len(masks), np.int32),
        "scores": np.array(scores or [0.5] * len(masks), np.float32),
    }
    return {**parts, "masks": np.stack(masks, axis=-1)} if with_masks else parts


def no_detections(size=(4, 6)):
    return {**result(with_masks=False), "masks": np.zeros((*size, 0), bool)}


def filled(rings, size):
    """bool [H, W]: closed lines filled by COCO's rule, as the readers do it."""
    flat = [np.asarray(ring, float).ravel().tolist() for ring in rings]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, *size))).astype(bool)


masks_of_any_shape = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def test_zero_detections_give_files_without_shapes():
    assert labelme_file(no_detections(), NAMES, "a.png", (4, 6))["shapes"] == []
    assert via_entry(no_detections(), NAMES, "a.png")["a.png-1"]["regions"] == []
    assert geojson.geojson_features(no_detections(), NAMES, "a.png") == []
    assert csv_table.csv_rows(no_detections(), NAMES, "a.png") == []


def test_labelme_keeps_the_parts_of_an_instance_together():
    whole = np.zeros_like(RING_AND_BAR)
    whole[3, 2:5] = True
    content = labelme_file(result(RING_AND_BAR, whole, class_ids=[2, 1]), NAMES, "a.png", (4, 6))
    assert json.loads(json.dumps(content)) == content
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == ("a.png", 4, 6)
    shapes = content["shapes"]
    assert [(s["label"], s["group_id"], s["score"]) for s in shapes] == [
        ("dog", 0, 0.5), ("dog", 0, 0.5), ("cat", None, 0.5),
    ]  # fmt: skip
    assert np.array_equal(filled([s["points"] for s in shapes[:2]], (4, 6)), RING_AND_BAR)
    assert np.array_equal(filled([shapes[2]["points"]], (4, 6)), whole)


def test_via_has_one_region_per_instance():
    content = via_entry(result(RING_AND_BAR), NAMES, "a.png", file_bytes=7)
    (region,) = content["a.png7"]["regions"]
    assert (content["a.png7"]["filename"], content["a.png7"]["size"]) == ("a.png", 7)
    assert region["region_attributes"] == {"class": "cat"}
    shape = region["shape_attributes"]
    points = np.stack([shape["all_points_x"], shape["all_points_y"]], axis=-1)
    assert np.array_equal(filled([points], (4, 6)), RING_AND_BAR)


def test_geojson_keeps_parts_and_holes():
    hollow = RING_AND_BAR.copy()
    hollow[:, 4:] = False
    both, one = geojson.geojson_features(result(RING_AND_BAR, hollow), NAMES, "a.png")
    assert both["properties"] == {
        "image": "a.png",
        "class": "cat",
        "score": 0.5,
        "box": [0, 0, 6, 3],
    }
    assert (both["geometry"]["type"], one["geometry"]["type"]) == ("MultiPolygon", "Polygon")
    ring, bar = both["geometry"]["coordinates"]
    assert one["geometry"]["coordinates"] == ring
    assert [len(ring), len(bar)] == [2, 1]
    for outer, *holes in (ring, bar):
        assert outer[0] == outer[-1] and signed_area(outer) > 0
        assert all(hole[0] == hole[-1] and signed_area(hole) < 0 for hole in holes)


def signed_area(closed):
    (x, y) = np.array(closed).T
    return np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2


@given(masks_of_any_shape.filter(np.any))
def test_geojson_filled_with_its_holes_is_the_mask(mask):
    (feature,) = geojson.geojson_features(result(mask), NAMES, "a.png")
    coordinates = feature["geometry"]["coordinates"]
    back = np.zeros(mask.shape, int)
    for outer, *holes in [coordinates] if feature["geometry"]["type"] == "Polygon" else coordinates:
        back += filled([outer[:-1]], mask.shape)
        for hole in holes:
            back -= filled([hole[:-1]], mask.shape)
    assert np.array_equal(back, mask.astype(int))


def test_csv_rows_of_a_hand_counted_mask():
    (row,) = csv_table.csv_rows(result(RING_AND_BAR, scores=[0.25]), NAMES, "a.png")
    # box: x 0..6, y 0..3, 6 * 3 = 18 square pixels; mask: 8 pixels of the ring and 2 of the bar
    assert list(row.values()) == ["a.png", "cat", 0.25, 0, 0, 6, 3, 18, 10]
    assert tuple(row) == csv_table.CSV_COLUMNS
    (row,) = csv_table.csv_rows(result(RING_AND_BAR, with_masks=False), NAMES, "a.png")
    assert (row["box_area"], row["mask_area"]) == (18, None)


def test_box_only_models_give_boxes():
    boxes = result(RING_AND_BAR, with_masks=False)
    (shape,) = labelme_file(boxes, NAMES, "a.png", (4, 6))["shapes"]
    assert (shape["shape_type"], shape["points"]) == ("rectangle", [[0, 0], [6, 3]])
    (region,) = via_entry(boxes, NAMES, "a.png")["a.png-1"]["regions"]
    assert region["shape_attributes"] == {"name": "rect", "x": 0, "y": 0, "width": 6, "height": 3}
    (feature,) = geojson.geojson_features(boxes, NAMES, "a.png")
    assert feature["geometry"]["coordinates"] == [[[0, 0], [6, 0], [6, 3], [0, 3], [0, 0]]]


def test_float_boxes_are_written_with_their_fractions(images):
    """Boxes of CONTINUOUS_BOXES; texts have hundredths of a pixel."""
    boxes = result(RING_AND_BAR, with_masks=False)
    boxes["rois"] = np.float32([[0.25, 0.3333333, 3, 5.75]])
    (shape,) = labelme_file(boxes, NAMES, "a.png", (4, 6))["shapes"]
    assert shape["points"] == [[0.33, 0.25], [5.75, 3]]
    (region,) = via_entry(boxes, NAMES, "a.png")["a.png-1"]["regions"]
    expected = {"name": "rect", "x": 0.33, "y": 0.25, "width": 5.42, "height": 2.75}
    assert region["shape_attributes"] == expected
    (feature,) = geojson.geojson_features(boxes, NAMES, "a.png")
    ring = [[0.33, 0.25], [5.75, 0.25], [5.75, 3], [0.33, 3], [0.33, 0.25]]
    assert feature["geometry"]["coordinates"] == [ring]
    assert feature["properties"]["box"] == [0.33, 0.25, 5.75, 3]
    (row,) = csv_table.csv_rows(boxes, NAMES, "a.png")
    # 5.42 * 2.75 = 14.905
    assert list(row.values()) == ["a.png", "cat", 0.5, 0.33, 0.25, 5.75, 3, 14.9, None]
    assert instance_image(boxes, (4, 6)).tolist() == [[1] * 6] * 3 + [[0] * 6]
    files = export.Export(images[1], export.FORMATS, NAMES)
    files.add(images[0][1], (4, 6), boxes)
    files.write()
    (annotation,) = json.loads((images[1] / "coco.json").read_text())["annotations"]
    assert annotation["bbox"] == pytest.approx([1 / 3, 0.25, 5.75 - 1 / 3, 2.75])
    (line,) = (images[1] / "yolo/labels").glob("*.txt")
    assert [float(value) for value in line.read_text().split()] == pytest.approx(
        [0, (0.33 + 5.75) / 12, 3.25 / 8, 5.42 / 6, 2.75 / 4]
    )


def test_small_float_box_has_an_outer_ring_of_the_right_direction():
    boxes = result(RING_AND_BAR, with_masks=False)
    boxes["rois"] = np.float32([[1.1, 1.1, 1.9, 1.9]])  # truncated it would have no area
    (feature,) = geojson.geojson_features(boxes, NAMES, "a.png")
    assert feature["geometry"]["coordinates"][0][:2] == [[1.1, 1.1], [1.9, 1.1]]
    assert instance_image(boxes, (4, 6)).sum() == 1


def test_empty_masks_are_skipped_and_counted(caplog):
    empty = np.zeros_like(RING_AND_BAR)
    found = result(empty, RING_AND_BAR, class_ids=[1, 2])
    assert [f["properties"]["class"] for f in geojson.geojson_features(found, NAMES, "a.png")] == [
        "dog"
    ]
    assert "a.png: left out 1 detections whose mask has no pixel" in caplog.text
    assert [row["mask_area"] for row in csv_table.csv_rows(found, NAMES, "a.png")] == [0, 10]


def test_class_id_without_a_name_is_refused():
    for write in (geojson.geojson_features, via_entry, csv_table.csv_rows):
        with pytest.raises(ValueError, match=r"positions in class_names, 0 to 2. Received: \[3\]"):
            write(result(RING_AND_BAR, class_ids=[3]), NAMES, "a.png")


def test_supervision_gets_x_before_y_and_masks_first(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    found = to_supervision(result(RING_AND_BAR, class_ids=[2]), NAMES)
    assert found.xyxy.tolist() == [[0, 0, 6, 3]] and found.xyxy.dtype == np.float32
    assert np.array_equal(found.mask, RING_AND_BAR[np.newaxis])
    assert (found.confidence.tolist(), found.class_id.tolist()) == ([0.5], [2])
    assert found.data["class_name"].tolist() == ["dog"]
    empty = to_supervision(no_detections())
    assert (empty.xyxy.shape, empty.mask.shape, empty.data) == ((0, 4), (0, 4, 6), {})
    assert to_supervision(result(RING_AND_BAR, with_masks=False)).mask is None


def test_missing_supervision_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="Try pip install supervision"):
        to_supervision(no_detections())


@pytest.fixture
def images(tmp_path):
    """Paths of two images of one name in two folders, and a folder for the files."""
    paths = [tmp_path / "in" / name / "a.png" for name in ("first", "second")]
    for path in paths:
        path.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(path)
    (tmp_path / "out").mkdir()
    return paths, tmp_path / "out"


def written(images, formats=export.FORMATS):
    paths, out = images
    files = export.Export(out, formats, NAMES)
    files.add(paths[0], (4, 6), no_detections())
    files.add(
        paths[1], (4, 6), result(RING_AND_BAR, ~RING_AND_BAR, class_ids=[2, 1], scores=[0.75, 0.5])
    )
    return files.write()


def test_each_format_has_its_files(images):
    names = [path.relative_to(images[1]).as_posix() for path in written(images)]
    assert names == [
        "coco.json", "coco_polygons.json", "labelme/a.json", "labelme/a_2.json", "via.json",
        "cvat/annotations.xml", "labelstudio/tasks.json", "labelstudio/labelling_interface.xml",
        "detections.geojson", "detections.csv", "counts.csv", "yolo/labels/a.txt",
        "yolo/labels/a_2.txt", "yolo/data.yaml", "png/masks/a.png", "png/masks/a_2.png",
    ]  # fmt: skip
    assert all((images[1] / name).is_file() for name in names)


def test_only_the_requested_formats_are_written(images):
    assert [path.name for path in written(images, ["via", "via"])] == ["via.json"]
    assert [path.name for path in images[1].iterdir()] == ["via.json"]
    among = "coco, coco_polygons, labelme, via, cvat, labelstudio, geojson, csv, yolo, png"
    with pytest.raises(ValueError, match=rf"among {among}. Received: \['kml'\]"):
        export.Export(images[1], ["csv", "kml"], NAMES)


@pytest.mark.parametrize(
    ("file", "reader"),
    [
        ("coco.json", CocoDataset),
        ("coco_polygons.json", CocoDataset),
        ("via.json", VIADataset),
        ("cvat", CVATDataset),
        ("labelme", LabelmeDataset),
        ("yolo", YOLODataset),
    ],
)
def test_readers_return_the_written_masks_and_classes(images, file, reader):
    written(images)
    dataset = reader(images[1] / file)
    assert dataset.class_names == NAMES
    assert dataset.load_mask(0)[0].shape == (4, 6, 0)
    masks, ids = dataset.load_mask(1)
    assert ids.tolist() == [2, 1]
    assert np.array_equal(masks, np.stack([RING_AND_BAR, ~RING_AND_BAR], axis=-1))
    assert dataset.load_image(1).shape == (4, 6, 3)  # found from the folder of the file


def test_annotations_of_coco_json_are_coco_results(images):
    written(images, ["coco"])
    coco = COCO()
    coco.dataset = json.loads((images[1] / "coco.json").read_text())
    coco.createIndex()
    first, second = coco.dataset["annotations"]
    assert (first["image_id"], first["category_id"], first["score"], first["area"]) == (
        2,
        2,
        0.75,
        10,
    )
    assert first["segmentation"] == rle.mask_to_rle(RING_AND_BAR)
    assert second["area"] == 24 - 10
    assert coco.loadRes(coco.dataset["annotations"]).getAnnIds(imgIds=[2]) == [1, 2]


def test_polygons_of_coco_have_no_rle(images):
    empty = np.zeros_like(RING_AND_BAR)
    files = export.Export(images[1], ["coco_polygons"], NAMES)
    files.add(images[0][1], (4, 6), result(RING_AND_BAR, empty, class_ids=[2, 1]))
    files.write()
    content = json.loads((images[1] / "coco_polygons.json").read_text())
    first, second = content["annotations"]
    # the ring's 4 + 4 corners and a bridge of 2 points; the bar's 4 corners; x and y for each
    assert [len(polygon) for polygon in first["segmentation"]] == [20, 8]
    assert (first["area"], first["score"]) == (10, 0.5)
    assert (second["area"], second["segmentation"]) == (0, [])


def table(path):
    """The rows of a CSV file, the names of its columns first."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_counts_have_one_row_per_image_and_one_column_per_class(images):
    first, second = (str(path) for path in images[0])
    files = export.Export(images[1], ["csv"], ["BG", "cat", "dog", "=1+1"])
    files.add(first, (4, 6), no_detections())
    files.add(second, (4, 6), result(*[RING_AND_BAR] * 3, class_ids=[2, 1, 2]))
    files.add("-3.png", (4, 6), result(RING_AND_BAR, class_ids=[3], with_masks=False))
    assert [path.name for path in files.write()] == ["detections.csv", "counts.csv"]
    assert table(images[1] / "counts.csv") == [
        ["image", "cat", "dog", "'=1+1", "total"],
        [first, "0", "0", "0", "0"],
        [second, "1", "2", "0", "3"],
        ["'-3.png", "0", "0", "1", "1"],
    ]


def test_result_of_one_image_is_one_csv_file(tmp_path):
    path = tmp_path / "found.csv"
    export.write_one(path, "csv", tmp_path / "a.png", (4, 6), result(RING_AND_BAR), NAMES)
    assert [file.name for file in tmp_path.iterdir()] == ["found.csv"]
    header, row = table(path)
    assert tuple(header) == csv_table.CSV_COLUMNS
    assert row == [str(tmp_path / "a.png"), "cat", "0.5", "0", "0", "6", "3", "18", "10"]


def test_csv_has_one_row_per_detection(images):
    written(images, ["csv"])
    with (images[1] / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["score"], row["mask_area"]) for row in rows] == [
        ("dog", "0.75", "10"),
        ("cat", "0.5", "14"),
    ]
    assert rows[0]["image"] == str(images[0][1])


def test_area_of_box_only_detections_is_that_of_the_box(images):
    files = export.Export(images[1], ["coco"], NAMES)
    files.add(images[0][0], (4, 6), result(RING_AND_BAR, with_masks=False))
    files.write()
    (annotation,) = json.loads((images[1] / "coco.json").read_text())["annotations"]
    assert annotation["area"] == 18 and "segmentation" not in annotation


@pytest.mark.parametrize(
    ("file", "reader"),
    [
        ("via.json", VIADataset),
        ("cvat", CVATDataset),
        ("labelme", LabelmeDataset),
        ("yolo", YOLODataset),
    ],
)
def test_readers_return_written_boxes_as_rectangles(images, file, reader):
    files = export.Export(images[1], ["via", "cvat", "labelme", "yolo"], NAMES)
    files.add(images[0][1], (4, 6), result(RING_AND_BAR, with_masks=False))
    files.write()
    masks, ids = reader(images[1] / file).load_mask(0)
    assert ids.tolist() == [1] and masks[:3].all() and not masks[3:].any()  # x 0..6, y 0..3


def test_zero_boxes_give_empty_files(images):
    no_boxes = {
        "rois": np.zeros((0, 4), np.int32),
        "class_ids": np.zeros(0, int),
        "scores": np.zeros(0),
    }
    assert labelme_file(no_boxes, NAMES, "a.png", (4, 6))["shapes"] == []
    assert via_entry(no_boxes, NAMES, "a.png")["a.png-1"]["regions"] == []
    assert (
        geojson.geojson_features(no_boxes, NAMES, "a.png")
        == csv_table.csv_rows(no_boxes, NAMES, "a.png")
        == []
    )


def test_yolo_labels_are_exact_at_any_size(tmp_path):
    rng = np.random.default_rng(0)
    size = (333, 517)  # no fraction of these sides is exact
    masks = np.zeros((*size, 6), bool)
    for i in range(6):
        y, x = rng.integers(0, 300), rng.integers(0, 400)
        masks[y : y + 40, x : x + 90, i] = rng.random(masks[y : y + 40, x : x + 90, i].shape) < 0.7
    (tmp_path / "out").mkdir()
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / "a.png")
    files = export.Export(tmp_path / "out", ["yolo"], NAMES)
    found = result(*np.moveaxis(masks, -1, 0), class_ids=[1, 2, 1, 2, 1, 2], scores=[0.9] * 6)
    files.add(tmp_path / "a.png", size, found)
    files.write()
    dataset = open_dataset(tmp_path / "out" / "yolo")
    back, ids = dataset.load_mask(0)
    assert ids.tolist() == [1, 2, 1, 2, 1, 2] and np.array_equal(back, masks)
    np.testing.assert_allclose(dataset.load_bbox(0)[0], found["rois"], atol=1e-4)
    del found["masks"]
    files = export.Export(tmp_path / "out", ["yolo"], NAMES)
    files.add(tmp_path / "a.png", size, found)
    files.write()
    np.testing.assert_allclose(
        open_dataset(tmp_path / "out" / "yolo").load_bbox(0)[0], found["rois"], atol=1e-4
    )


def test_written_mask_images_are_read_as_instances(images):
    written(images, ["png"])
    dataset = open_dataset(images[1] / "png")
    assert isinstance(dataset, InstanceImageDataset) and dataset.num_images == 2
    assert dataset.load_mask(0)[0].shape == (4, 6, 0)
    assert np.array_equal(dataset.load_mask(1)[0], np.stack([RING_AND_BAR, ~RING_AND_BAR], axis=-1))


def test_mask_images_of_more_than_255_objects_show_the_highest_scores(tmp_path, caplog):
    size = (20, 20)
    masks = [np.zeros(size, bool) for _ in range(301)]
    for i in range(300):
        masks[i][i // 20, i % 20] = True
    masks[300][0, :2] = True  # over the first two
    scores = np.linspace(0.4, 0.9, 301).tolist()
    labels = instance_image(result(*masks, class_ids=[1] * 301, scores=scores), size)
    assert (
        labels.dtype == np.uint16
        and labels[0, :3].tolist() == [301, 301, 3]
        and labels[14, 19] == 300
    )
    files = export.Export(tmp_path, ["png"], NAMES)
    files.add("a.png", size, result(*masks, class_ids=[1] * 301, scores=scores))
    assert "2 detections are hidden" in caplog.text
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "png" / "masks" / "a.png")), labels
    )
    boxes = {
        "rois": np.array([[1, 2, 3, 5]]),
        "class_ids": np.array([1]),
        "scores": np.array([0.5]),
    }
    assert instance_image(boxes, (4, 6)).sum() == 6


def test_images_are_copied_once_and_no_file_is_overwritten(images):
    paths, out = images
    Image.fromarray(np.full((4, 6, 3), 9, np.uint8)).save(paths[1])
    (out / "yolo" / "images").mkdir(parents=True)
    (out / "yolo" / "images" / "a.png").write_bytes(b"an image of the user")
    for _ in range(2):
        written(images, ["yolo"])
        names = sorted(path.name for path in (out / "yolo" / "images").iterdir())
        assert names == ["a.png", "a_2.png", "a_3.png"]
    assert (out / "yolo" / "images" / "a.png").read_bytes() == b"an image of the user"
    assert sorted(path.name for path in (out / "yolo" / "labels").iterdir()) == [
        "a_2.txt",
        "a_3.txt",
    ]
    long = out / ("x" * 240 + ".png")
    paths[0].rename(long)
    files = export.Export(out, ["yolo", "png"], NAMES)
    files.add(long, (4, 6), no_detections())
    assert len(files.write()) == 3


@pytest.mark.parametrize(
    ("name", "file"), [("=1+1", "=cmd().png"), ("cat\ud800", "\udcffa.png"), ("a\rb", "-a.png")]
)
def test_any_name_is_written_and_is_no_spreadsheet_formula(name, file, tmp_path):
    exported = export.Export(tmp_path, sorted({*export.FORMATS} - {"yolo", "png"}), ["BG", name])
    exported.add(tmp_path / file, (4, 6), result(RING_AND_BAR))
    exported.add(file, (4, 6), result(RING_AND_BAR))
    exported.write()
    rows = list(csv.DictReader((tmp_path / "detections.csv").open(encoding="utf-8", newline="")))
    assert not any(
        row[column].startswith(("=", "+", "-", "@"))
        for row in rows
        for column in ("image", "class")
    )
    assert json.loads((tmp_path / "coco.json").read_text())["categories"] == [
        {"id": 1, "name": name}
    ]


def test_long_image_names_are_shortened_for_labelme(tmp_path):
    exported = export.Export(tmp_path, ["labelme"], NAMES)
    for last in "ab":
        exported.add(f"{'x' * 240}{last}.png", (4, 6), result(RING_AND_BAR))
    first, second = exported.write()
    assert first != second and all(len(path.name) <= 200 for path in (first, second))
