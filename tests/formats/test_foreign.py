"""Files of other tools are refused by name."""

import json

import pytest

from mrcnn.formats.foreign import foreign_tool
from mrcnn.formats.open_dataset import open_dataset


@pytest.mark.parametrize(
    ("data", "tool"),
    [
        ({"imgHeight": 1, "imgWidth": 1, "objects": []}, "Cityscapes"),
        (
            {"project": {}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}},
            "VIA 3",
        ),
        ({"type": "FeatureCollection", "features": []}, "GeoJSON"),
        ({"description": "", "tags": [], "size": {}, "objects": []}, "Supervisely"),
        ({"classes": [], "tags": []}, "Supervisely"),
        ({"classes": [], "tags": [], "projectType": "images"}, "Supervisely"),
        ({"info": {}, "categories": {}, "items": []}, "Datumaro"),
        ([{"id": 1, "data": {}, "completions": []}], "Label Studio"),
        ([{"annotator": 1, "annotation_id": 2, "lead_time": 3}], "Label Studio"),
        ([{"image_id": 1, "category_id": 1, "bbox": [], "score": 1.0}], "COCO results"),
        ([{"image": "a.png", "annotations": []}], "CreateML"),
        ({"weights": "", "class_names": [], "min_confidence": 0.7, "images": []}, "mrcnn detect"),
    ],
)
def test_files_of_other_tools_are_refused_by_name(tmp_path, data, tool):
    assert tool in foreign_tool(data)
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(
        ValueError, match=rf"Received: a\.json, a file of {tool}.*, which is not read. Try "
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize("data", [None, 3, "text", [], [1], [[]], {}, {"a": 1}])
def test_files_of_no_known_tool_have_no_name(data):
    assert foreign_tool(data) is None


@pytest.mark.parametrize(
    ("name", "tool"), [("a.geojson", "GeoJSON"), ("a.csv", "a table"), ("gtFine/x", "Cityscapes")]
)
def test_folders_of_other_tools_are_refused_by_name(tmp_path, name, tool):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=rf"Received: .*of {tool}.*, which is not read. Try "):
        open_dataset(tmp_path)
