"""CVAT's XML: every shape is read, broken files are refused, detections are written."""

import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, boxes_of, cut_or_changed, names_of, read_or_refuse, write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mrcnn.formats.cvat import CVATDataset, CVATWriter, cvat_image
from mrcnn.formats.open_dataset import open_dataset

FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
LABEL_NAMES = "<label><name>dog</name></label><label><name>cat</name></label>"
LABELS = f"<meta><task><labels>{LABEL_NAMES}</labels></task></meta>"
POLYGON = '<polygon label="cat" points="4,3;14,3;14,8;4,8"/>'
BOX = '<box label="dog" xtl="4" ytl="3" xbr="14" ybr="8"/>'


def cvat(folder, *shapes, meta="", images="images", more="", size=(HEIGHT, WIDTH)):
    """annotations.xml of one image with these shapes."""
    write_image(folder / images / "a.png")
    image = (
        f'<image id="0" name="a.png" width="{size[1]}" height="{size[0]}">{"".join(shapes)}</image>'
    )
    (folder / "annotations.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<annotations><version>1.1</version>{meta}{image}{more}</annotations>"
    )
    return folder / "annotations.xml"


def test_every_shape_with_area_is_read(tmp_path):
    # a mask of 2 rows and 3 columns at (20, 10): row by row 0 1 1 / 0 0 1
    mask = '<mask label="cat" rle="1, 2, 2, 1" left="10" top="20" width="3" height="2"/>'
    turned = '<box label="dog" xtl="10" ytl="10" xbr="20" ybr="14" rotation="90"/>'
    ellipse = '<ellipse label="dog" cx="20" cy="15" rx="8" ry="4"/>'
    upright = '<ellipse label="dog" cx="20" cy="15" rx="8" ry="4" rotation="90"/>'
    dataset = CVATDataset(cvat(tmp_path, POLYGON, BOX, mask, turned, ellipse, upright))
    assert dataset.class_names == ["BG", "cat", "dog"]
    assert names_of(dataset) == ["cat", "dog", "cat", "dog", "dog", "dog"]
    boxes = boxes_of(dataset)
    assert boxes[:2] == [[3, 4, 8, 14]] * 2 and boxes[2] == [20, 11, 22, 13]
    assert boxes[3:] == [[7, 13, 17, 17], [11, 12, 19, 28], [7, 16, 23, 24]]
    masks = dataset.load_mask(0)[0]
    assert masks[20:22, 10:13, 2].tolist() == [[False, True, True], [False, False, True]]
    assert dataset.image_info[0]["id"] == "a.png" and dataset.get_source_class_id(1, "cvat") == 1


def test_rotation_of_a_box_is_clockwise(tmp_path):
    box = '<box label="dog" xtl="10" ytl="14" xbr="30" ybr="16" rotation="30"/>'
    mask = CVATDataset(cvat(tmp_path, box)).load_mask(0)[0][:, :, 0]
    # clockwise on the screen: the right end is lower than the left one
    assert np.flatnonzero(mask[:, 28]).mean() > np.flatnonzero(mask[:, 12]).mean() + 5


@pytest.mark.parametrize("images", ["images", "."])
def test_files_and_folders_open(tmp_path, images):
    file = cvat(tmp_path, POLYGON, BOX, images=images, meta=LABELS)
    for path in (file, tmp_path):
        dataset = open_dataset(path)
        assert dataset.class_names == ["BG", "dog", "cat"]  # in the task's order
        assert names_of(dataset) == ["cat", "dog"]
    assert names_of(CVATDataset(file, class_names=["cat", "dog"])) == ["cat", "dog"]


def test_images_dir_and_subsets(tmp_path):
    file = cvat(tmp_path, POLYGON, images="images/train")
    file.write_text(file.read_text().replace('name="a.png"', 'name="a.png" subset="train"'))
    assert boxes_of(CVATDataset(file)) == [[3, 4, 8, 14]]
    (tmp_path / "images").rename(tmp_path / "photos")
    assert boxes_of(CVATDataset(file, images_dir=tmp_path / "photos")) == [[3, 4, 8, 14]]


def test_shapes_of_one_group_are_one_object(tmp_path):
    parts = [BOX.replace("/>", ' group_id="1"/>'), POLYGON.replace("/>", ' group_id="1"/>')]
    parts.append('<box label="dog" xtl="20" ytl="20" xbr="30" ybr="25" group_id="1"/>')
    parts += [BOX.replace("/>", ' group_id="0"/>')] * 2
    dataset = CVATDataset(cvat(tmp_path, *parts))
    assert boxes_of(dataset) == [[3, 4, 25, 30], [3, 4, 8, 14], [3, 4, 8, 14], [3, 4, 8, 14]]
    assert names_of(dataset) == ["dog", "cat", "dog", "dog"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            '<polyline label="cat" points="1,1;2,2;3,9"/>',
            "must have a label and an area. Received: polyline",
        ),
        ('<points label="cat" points="1,1"/>', "Received: points"),
        ('<polygon points="1,1;9,2;9,9"/>', "must have a label"),
        ('<polygon label="cat" points="1,1;2,2"/>', "at least 3 points"),
        ('<polygon label="cat" points="1,1;2,x;3,9"/>', "finite numbers"),
        ('<polygon label="cat"/>', "finite numbers"),
        ('<box label="cat" xtl="4" ytl="3" xbr="4" ybr="8"/>', "a width and a height"),
        ('<box label="cat" xtl="4" ytl="3" xbr="nan" ybr="8"/>', "finite numbers"),
        ('<ellipse label="cat" cx="4" cy="3" rx="-1" ry="8"/>', "a width and a height"),
        ('<mask label="cat" rle="1,2" left="1" top="1" width="3" height="2"/>', "must add up"),
        ('<mask label="cat" rle="6" left="39" top="1" width="3" height="2"/>', "lie in its image"),
        ('<mask label="cat" rle="x" left="1" top="1" width="3" height="2"/>', "must add up"),
        (
            '<mask label="cat" rle="9999999999" left="0" top="0" width="99999" height="99999"/>',
            "lie in its image",
        ),
        (
            '<mask label="cat" rle="' + "9" * 5000 + '" left="0" top="0" width="3" height="2"/>',
            "must add up",
        ),
        (
            '<box label="bird" xtl="4" ytl="3" xbr="9" ybr="8"/>',
            r"among \['dog', 'cat'\]. Received: 'bird'",
        ),
    ],
)
def test_unusable_shapes_are_skipped(tmp_path, caplog, entry, message):
    file = cvat(tmp_path, POLYGON, entry, meta=LABELS)
    dataset = CVATDataset(file)
    assert names_of(dataset) == ["cat"] and len(dataset.left_out) == 1 and "left out" in caplog.text
    with pytest.raises(ValueError, match=message) as caught:
        CVATDataset(file, strict=True)
    assert "a.png" in str(caught.value) and "Try " in str(caught.value)


def test_unusable_images_are_skipped(tmp_path):
    more = "".join(
        f'<image id="{i}" name="{name}" width="{width}" height="30"/>'
        for i, (name, width) in enumerate(
            [("gone.png", 40), ("a.png", "1e9"), ("a.png", 41), ("page.png", 40)]
        )
    )
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "page.png").write_text("<html>404</html>")
    dataset = CVATDataset(cvat(tmp_path, POLYGON, '<tag label="dog"/>', more=more))
    assert dataset.num_images == 1 and len(dataset.left_out) == 4
    for sentence, word in zip(
        dataset.left_out, ("'gone.png'", "1e9", "41", "page.png"), strict=True
    ):
        assert word in sentence
    with pytest.raises(
        ValueError,
        match="can be used. Received: no such image. The first: Every annotated.*--images DIR",
    ):
        CVATDataset(cvat(tmp_path, POLYGON), images_dir=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "<annotations><track id='0' label='cat'/></annotations>",
            "tracks of a video.*CVAT for images 1.1",
        ),
        ("<annotations/>", "Received: no image"),
        ("<annotations><image", "complete XML"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(ValueError, match=message):
        CVATDataset(tmp_path)


@FUZZ
@given(seed=st.integers(0, 2**32))
def test_damaged_cvat_file_raises_only_value_errors_with_a_remedy(tmp_path, seed):
    mask = '<mask label="cat" rle="1, 2, 2, 1" left="10" top="20" width="3" height="2"/>'
    ellipse = '<ellipse label="dog" cx="20" cy="15" rx="8" ry="4"/>'
    file = cvat(tmp_path, POLYGON, BOX, mask, ellipse, meta=LABELS)
    file.write_bytes(cut_or_changed(file.read_bytes(), seed))
    read_or_refuse(lambda: CVATDataset(file))


# --- Writing --------------------------------------------------------------------------------------

NAMES = ["BG", "cat", "dog & <co>\ufffe"]


def detections(*masks, class_ids):
    """A result as detect() gives it, with the whole image as every box."""
    count = len(class_ids)
    parts = {
        "rois": np.tile(np.int32([0, 0, HEIGHT, WIDTH]), (count, 1)),
        "class_ids": np.int32(class_ids),
        "scores": np.float32([0.75] * count),
    }
    return {**parts, "masks": np.stack(masks, axis=-1)} if masks else parts


def test_no_detections_give_an_image_without_shapes():
    element = cvat_image(detections(class_ids=[]), NAMES, "a.png", (HEIGHT, WIDTH), 3)
    assert len(element) == 0
    assert element.attrib == {"id": "3", "name": "a.png", "width": "40", "height": "30"}


def test_masks_are_written_as_runs_in_their_box(caplog):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20, 11:13] = mask[21, 12] = mask[21, 10] = True
    empty = np.zeros_like(mask)
    found = detections(mask, empty, class_ids=[1, 2])
    (shape,) = cvat_image(found, NAMES, "a.png", (HEIGHT, WIDTH), 0)
    # row by row in the box of 2 rows and 3 columns at (20, 10): 0 1 1 / 1 0 1
    place = {"rle": "1, 3, 1, 1", "left": "10", "top": "20", "width": "3", "height": "2"}
    common = {"label": "cat", "source": "auto", "occluded": "0", "z_order": "0"}
    assert (shape.tag, shape.attrib) == ("mask", {**common, **place})
    assert shape.findtext("attribute[@name='score']") == "0.7500"
    assert "left out a detection whose mask has no pixel" in caplog.text


def test_full_mask_begins_with_an_empty_run():
    found = detections(np.ones((HEIGHT, WIDTH), bool), class_ids=[1])
    (shape,) = cvat_image(found, NAMES, "a.png", (HEIGHT, WIDTH), 0)
    assert shape.get("rle") == "0, 1200"  # 30 x 40 pixels


def test_boxes_are_written_with_two_decimals():
    found = detections(class_ids=[2])
    found["rois"] = np.float32([[1.25, 2, 20.126, 30]])
    (shape,) = cvat_image(found, NAMES, "a.png", (HEIGHT, WIDTH), 0)
    corners = [shape.get(name) for name in ("xtl", "ytl", "xbr", "ybr")]
    assert (shape.tag, corners) == ("box", ["2.00", "1.25", "30.00", "20.13"])
    assert shape.get("label") == "dog & <co>\ufffd"


@FUZZ
@given(arrays(bool, (HEIGHT, WIDTH)))
def test_any_mask_and_class_come_back_from_the_written_file(tmp_path, mask):
    mask[5, 5] = True
    writer = CVATWriter(tmp_path, NAMES)
    image = write_image(tmp_path / "in" / "a  b.png")
    writer.add(image, (HEIGHT, WIDTH), detections(mask, ~mask, class_ids=[2, 1]))
    writer.finish()
    dataset = open_dataset(tmp_path / "cvat")
    masks, class_ids = dataset.load_mask(0)
    assert dataset.class_names == ["BG", "cat", "dog & <co>\ufffd"]
    assert class_ids.tolist()[0] == 2 and np.array_equal(masks[:, :, 0], mask)
    assert mask.all() or np.array_equal(masks[:, :, 1], ~mask)
