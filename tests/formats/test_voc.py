"""The reader of Pascal VOC's layout, on small folders with every trap, and on broken files."""

import json

import numpy as np
import pytest
from annotated import (
    HEIGHT,
    WIDTH,
    boxes_of,
    cut_or_changed,
    names_of,
    read_or_refuse,
    voc,
    voc_object,
    voc_split,
    write_image,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mrcnn.formats.open_dataset import open_dataset
from mrcnn.formats.voc import VOC_CLASSES, VOCDataset


def labels(*rectangles):
    """A label image: 0, then (value, y1, x1, y2, x2) one over the other."""
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, y1, x1, y2, x2 in rectangles:
        image[y1:y2, x1:x2] = value
    return image


def test_an_image_without_objects(tmp_path):
    dataset = VOCDataset(voc(tmp_path))
    masks, class_ids = dataset.load_mask(0)
    assert masks.shape == (HEIGHT, WIDTH, 0) and class_ids.dtype == np.int32
    assert dataset.image_info[0]["boxes"].shape == (0, 4) and dataset.image_info[0][
        "difficult"
    ].shape == (0,)
    assert dataset.class_names == ["BG", *VOC_CLASSES] and len(VOC_CLASSES) == 20


def test_voc_boxes_without_masks_are_filled_with_one_warning(tmp_path, caplog):
    voc(
        tmp_path,
        voc_object("dog"),
        voc_object("cat", xmin=1, ymin=1, xmax=40, ymax=30, difficult=1),
    )
    voc(tmp_path, voc_object("cat"), name="2007_000002")
    dataset = VOCDataset(tmp_path)
    # VOC counts from 1 and its last pixel is inside: x 5..14 is 10 pixels, and 4..14 here
    assert boxes_of(dataset) == [[3, 4, 8, 14], [0, 0, HEIGHT, WIDTH]]
    assert dataset.load_mask(0)[0].sum(axis=(0, 1)).tolist() == [50, 1200]
    info = dataset.image_info[0]
    assert info["boxes"].tolist() == boxes_of(dataset) and info["difficult"].tolist() == [
        False,
        True,
    ]
    assert names_of(dataset) == ["dog", "cat"] and info["class_ids"] == [12, 8]
    assert info["id"] == "2007_000001" and dataset.get_source_class_id(12, "voc") == 12
    assert caplog.text.count("boxes only") == 1 and "2 of 2 images" in caplog.text


def test_voc_masks_are_those_of_the_xml_objects_without_void(tmp_path, caplog):
    instances = labels((255, 2, 3, 9, 15), (1, 3, 4, 8, 14), (3, 20, 20, 25, 30))
    voc(
        tmp_path,
        voc_object("dog"),
        voc_object("cat"),
        voc_object("cat", difficult=1),
        instances=instances,
    )
    dataset = VOCDataset(tmp_path)
    masks, _ = dataset.load_mask(0)
    assert masks.sum(axis=(0, 1)).tolist() == [50, 0, 50]  # the second object is not to be seen
    assert boxes_of(dataset)[0] == [3, 4, 8, 14] and boxes_of(dataset)[2] == [20, 20, 25, 30]
    assert (
        names_of(dataset) == ["dog", "cat", "cat"] and len(dataset.image_info[0]["difficult"]) == 3
    )
    assert caplog.text == ""


def test_voc_classes_follow_segmentation_class(tmp_path):
    instances = labels((1, 3, 4, 8, 14), (2, 20, 20, 25, 30), (3, 28, 0, 30, 2))
    classes = labels(
        (8, 3, 4, 8, 14),
        (255, 3, 4, 5, 14),
        (15, 20, 20, 25, 28),
        (8, 20, 28, 25, 30),
        (255, 28, 0, 30, 2),
    )
    voc(
        tmp_path,
        voc_object("dog"),
        voc_object("dog"),
        voc_object("dog"),
        instances=instances,
        classes=classes,
    )
    # The first is cat or void; of the second 8 columns are person, 2 cat; the third is void: its
    # class is that of the XML file.
    assert names_of(VOCDataset(tmp_path)) == ["cat", "person", "dog"]
    voc(
        tmp_path,
        voc_object("dog"),
        instances=labels((1, 3, 4, 8, 14)),
        classes=labels((30, 3, 4, 8, 14)),
    )
    with pytest.raises(
        ValueError, match=r"class list. Received: 30 in .*SegmentationClass.*png, instance 1"
    ):
        VOCDataset(tmp_path).load_mask(0)


def test_voc_lists_name_the_images(tmp_path, caplog):
    for name in ("a", "b", "c"):
        voc(tmp_path, voc_object(), name=name)
    assert [info["id"] for info in VOCDataset(tmp_path).image_info] == ["a", "b", "c"]
    voc_split(tmp_path, "Segmentation/train", "c", "", "a")
    ids = [info["id"] for info in VOCDataset(tmp_path).image_info]
    assert ids == ["c", "a"]  # the only list, in its order
    voc_split(tmp_path, "Main/train", "a", "b", "c")
    voc_split(tmp_path, "Main/dog_val", "b -1", "a  1")
    assert (
        VOCDataset(tmp_path, "train").num_images == 2
        and VOCDataset(tmp_path, "Main/train").num_images == 3
    )
    assert VOCDataset(tmp_path, "dog_val").num_images == 2
    voc_split(tmp_path, "Segmentation/val")
    assert VOCDataset(tmp_path, "val").num_images == 0
    voc_split(tmp_path, "Segmentation/val", "b", "a")
    assert [info["id"] for info in VOCDataset(tmp_path).image_info] == ["c", "a", "b"]  # each once
    assert "all lists" in caplog.text and "Main/dog_val.txt" in caplog.text  # a list to name
    with pytest.raises(
        ValueError, match="one of the lists.*Received: 'test'. Try the path of a list as DATA"
    ):
        VOCDataset(tmp_path, "test")
    voc_split(tmp_path, "Main/gone", "d")
    with pytest.raises(ValueError, match=r"d\.xml must be a readable file"):
        VOCDataset(tmp_path, "gone")
    voc_split(tmp_path, "Main/gone", "d", "a")
    dataset = VOCDataset(tmp_path, "gone")
    assert dataset.num_images == 1 and "d.xml" in dataset.left_out[0]


def test_several_main_lists_mean_every_xml_file(tmp_path, caplog):
    for name in ("a", "b", "c"):
        voc(tmp_path, voc_object(), name=name)
    voc_split(tmp_path, "Main/train", "a")
    voc_split(tmp_path, "Main/val", "b")
    assert [info["id"] for info in VOCDataset(tmp_path).image_info] == ["a", "b", "c"]
    assert "every XML file" in caplog.text and "Main/val.txt" in caplog.text


def test_voc_class_lists(tmp_path):
    root = voc(tmp_path / "VOC2012", voc_object("nut"), voc_object("bolt"))
    assert VOCDataset(root).class_names == [
        "BG",
        "bolt",
        "nut",
    ]  # no class of VOC's: those found, sorted
    assert names_of(VOCDataset(root)) == ["nut", "bolt"]
    assert VOCDataset(root, class_names=["bolt", "nut"]).load_mask(0)[1].tolist() == [2, 1]
    (tmp_path / "pascal_voc_classes.json").write_text('{"nut": 7, "bolt": 3}')
    dataset = VOCDataset(root)
    assert dataset.class_names == ["BG", "bolt", "nut"]  # by id
    assert dataset.image_info[0]["class_ids"] == [7, 3] and dataset.load_mask(0)[1].tolist() == [
        2,
        1,
    ]
    assert dataset.get_source_class_id(2, "voc") == 7
    (tmp_path / "pascal_voc_classes.json").write_text('{"bolt": 3}')
    dataset = VOCDataset(root)
    assert (
        names_of(dataset) == ["bolt"]
        and "'nut' in" in dataset.left_out[0]
        and "object 0" in dataset.left_out[0]
    )
    for bad in (
        "[]",
        "{}",
        '{"nut": 0}',
        '{"nut": 255}',
        '{"nut": 1, "bolt": 1}',
        '{"nut": "1"}',
        '{"nut": true}',
    ):
        (root / "pascal_voc_classes.json").write_text(bad)
        with pytest.raises(
            ValueError, match=r"pascal_voc_classes\.json must give every class an id of its own"
        ):
            VOCDataset(root)


def test_voc_data_without_objects_accepts_any_classes(tmp_path):
    assert VOCDataset(voc(tmp_path), class_names=["kangaroo"]).class_names == ["BG", "kangaroo"]
    with pytest.raises(ValueError, match="must be among .*'kangaroo'.*Received: .*'dog'"):
        VOCDataset(voc(tmp_path, voc_object("dog")), class_names=["kangaroo"])
    with pytest.raises(ValueError, match="Received: .*'dog'"):
        VOCDataset(voc(tmp_path, voc_object("dog")), class_names=["person, man", "rider"])
    assert names_of(
        VOCDataset(voc(tmp_path, voc_object("person, man")), class_names=["person"])
    ) == ["person"]


def test_voc_parts_and_fractions_are_read(tmp_path):
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
    part = f"<part><name>head</name><bndbox>{box}</bndbox></part>"
    voc(tmp_path, voc_object(xmin="5.4", more=part))
    assert VOCDataset(tmp_path).image_info[0]["boxes"].tolist() == [[3, 4.4, 8, 14]]
    voc(tmp_path, voc_object(xmin=0, ymin=0))  # some tools count from 0
    assert VOCDataset(tmp_path).image_info[0]["boxes"].tolist() == [[0, 0, 8, 14]]


def test_voc_sizes_of_0_come_from_the_image(tmp_path):
    assert VOCDataset(voc(tmp_path, voc_object(), size=(0, 0))).load_mask(0)[0].shape[:2] == (
        HEIGHT,
        WIDTH,
    )
    for size in [("x", 3), ("30.0", "40.0"), (WIDTH, HEIGHT), ("", "")]:  # unreadable, swapped
        dataset = VOCDataset(voc(tmp_path, voc_object(), size=size))
        assert boxes_of(dataset) == [[3, 4, 8, 14]] and dataset.image_size(0) == (HEIGHT, WIDTH)


def test_unusable_images_are_skipped(tmp_path, caplog):
    voc(tmp_path, voc_object(), name="good")
    voc(tmp_path, voc_object(), name="large", size=(60, 80))
    voc(tmp_path, voc_object(), name="gone")
    (tmp_path / "JPEGImages" / "gone.jpg").unlink()
    voc(tmp_path, voc_object(), name="page")
    (tmp_path / "JPEGImages" / "page.jpg").write_text("<html>404</html>")
    voc(tmp_path, voc_object(), name="torn")
    (tmp_path / "Annotations" / "torn.xml").write_text("<annotation><object>")
    dataset = VOCDataset(tmp_path)
    assert [info["id"] for info in dataset.image_info] == ["good"] and "4 of 6" in caplog.text
    for sentence, name in zip(dataset.left_out, ("gone", "30 x 40", "page", "torn"), strict=True):
        assert name in sentence and "Try " in sentence
    with pytest.raises(ValueError, match="'gone.jpg'"):
        VOCDataset(tmp_path, strict=True)


def test_voc_boxes_beyond_the_image_are_clipped_and_counted(tmp_path, caplog):
    voc(
        tmp_path,
        voc_object(xmax=480, ymax=400),
        voc_object(xmin=-3),
        voc_object(xmin=0, xmax=WIDTH, ymax=HEIGHT),
    )
    assert VOCDataset(tmp_path).image_info[0]["boxes"].tolist() == [
        [3, 4, 30, 40],
        [3, 0, 8, 14],
        [3, 0, 30, 40],
    ]
    assert "2 boxes" in caplog.text and "clipped" in caplog.text


@pytest.mark.parametrize(
    ("images", "annotations"),
    [(".", "."), ("images", "annots"), ("images", "annotations"), ("JPEGImages", "Annotations")],
)
def test_voc_xml_files_of_other_tools_are_read(tmp_path, images, annotations):
    voc(tmp_path / "drawn", voc_object("kangaroo"), name="a")
    for folder, kind in ((images, "JPEGImages"), (annotations, "Annotations")):
        (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
        for file in (tmp_path / "drawn" / kind).iterdir():
            file.rename(tmp_path / "data" / folder / file.name)
    dataset = open_dataset(tmp_path / "data")
    assert dataset.class_names == ["BG", "kangaroo"] and boxes_of(dataset) == [[3, 4, 8, 14]]
    dataset = VOCDataset(tmp_path / "data", class_names=["koala", "kangaroo"])
    assert names_of(dataset) == ["kangaroo"] and dataset.num_classes == 3
    (tmp_path / "data" / images).rename(tmp_path / "data2")
    if images != ".":
        (tmp_path / "data" / images).mkdir()
        assert boxes_of(VOCDataset(tmp_path / "data", images_dir=tmp_path / "data2")) == [
            [3, 4, 8, 14]
        ]


def test_voc_export_of_labelme_is_read(tmp_path):
    instances = labels((1, 3, 4, 8, 14), (2, 20, 20, 25, 30), (255, 0, 0, 2, 2), (3, 28, 0, 30, 2))
    classes = labels((2, 3, 4, 8, 14), (1, 20, 20, 25, 30), (255, 0, 0, 2, 2), (255, 28, 0, 30, 2))
    voc(tmp_path, instances=instances, classes=classes, name="a")
    (tmp_path / "Annotations" / "a.xml").unlink()
    (tmp_path / "Annotations").rmdir()
    with pytest.raises(ValueError, match="must name the values of SegmentationClass"):
        open_dataset(tmp_path)
    (tmp_path / "class_names.txt").write_text("_background_\ncat\ndog\n")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ["BG", "cat", "dog"] and names_of(dataset) == ["dog", "cat"]
    assert boxes_of(dataset) == [[3, 4, 8, 14], [20, 20, 25, 30]]  # the third is void
    assert names_of(VOCDataset(tmp_path, class_names=["bird", "dog", "cat"])) == ["dog", "cat"]
    write_image(tmp_path / "JPEGImages" / "b.jpg")
    dataset = VOCDataset(tmp_path)
    assert dataset.num_images == 1 and "none of b in SegmentationObject" in dataset.left_out[0]


@pytest.mark.parametrize("with_classes", [False, True])
def test_skipped_voc_object_keeps_its_number(tmp_path, with_classes):
    instances = labels((1, 3, 4, 8, 14), (2, 20, 20, 25, 30))
    classes = labels((12, 3, 4, 8, 14), (8, 20, 20, 25, 30)) if with_classes else None
    voc(tmp_path, voc_object("dog"), voc_object("cat"), instances=instances, classes=classes)
    dataset = VOCDataset(tmp_path, class_names=["cat"])
    assert boxes_of(dataset) == [[20, 20, 25, 30]] and names_of(dataset) == ["cat"]
    assert dataset.image_info[0]["difficult"].shape == (1,)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (voc_object(xmin=15), r"xmin < xmax. Received: \['4', '15', '8', '14'\]"),
        (voc_object(xmax="nan"), r"finite numbers .*'nan'"),
        (voc_object(ymax="inf"), "finite numbers"),
        (voc_object(ymax="1e999"), "finite numbers"),
        (voc_object(ymin="four"), "'four'"),
        ("<object><name>dog</name></object>", r"Received: \[None, None, None, None\]"),
        (
            voc_object("unicorn"),
            "name must be one of .*Received: 'unicorn'.*to train with this class",
        ),
        ("<object/>", "must have a name"),
        (voc_object(xmax=5), r"xmin < xmax"),
        (voc_object(xmin=100, xmax=120), "must lie in its image"),
        (voc_object(ymin=-9, ymax=-2), "must lie in its image"),
    ],
)
def test_unusable_voc_objects_are_skipped(tmp_path, caplog, entry, message):
    root = voc(tmp_path, voc_object("a"), entry)
    dataset = VOCDataset(root, class_names=["a"])
    assert names_of(dataset) == ["a"] and len(dataset.left_out) == 1 and "left out" in caplog.text
    with pytest.raises(ValueError, match=message) as caught:
        VOCDataset(root, class_names=["a"], strict=True)
    assert "2007_000001.xml, object 1" in str(caught.value) and "Try " in str(caught.value)


def test_broken_voc_folders_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="must contain the folders Annotations and JPEGImages"):
        VOCDataset(tmp_path)
    voc(tmp_path, voc_object(), instances=labels((2, 3, 4, 8, 14)))
    with pytest.raises(
        ValueError, match=r"instance 2 in .*SegmentationObject.*and 1 objects in .*\.xml"
    ):
        VOCDataset(tmp_path).load_mask(0)
    voc(tmp_path, voc_object(), instances=np.ones((5, 6), np.uint8))
    with pytest.raises(
        ValueError, match=r"SegmentationObject.*of \(5, 6\) and the image of \(30, 40\)"
    ):
        VOCDataset(tmp_path).load_mask(0)
    file = tmp_path / "Annotations" / "2007_000001.xml"
    file.write_text(file.read_text()[:-15])
    with pytest.raises(ValueError, match=r"000001\.xml must be complete XML"):
        VOCDataset(tmp_path)
    voc(tmp_path, voc_object())
    (tmp_path / "JPEGImages" / "2007_000001.jpg").unlink()
    with pytest.raises(
        ValueError, match=r"must exist. Received: '2007_000001.jpg' of .*000001\.xml"
    ):
        VOCDataset(tmp_path)


FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(
    seed=st.integers(0, 2**32),
    side=st.sampled_from(["xmin", "ymax"]),
    text=st.text("0123456789.-+einfax_ ", max_size=8),
)
def test_corrupt_voc_values_raise_only_value_errors_with_a_remedy(tmp_path, seed, side, text):
    root = voc(
        tmp_path,
        voc_object(**{side: text}),
        voc_object(difficult=text),
        size=(HEIGHT, text or WIDTH),
    )
    read_or_refuse(lambda: VOCDataset(root))
    (tmp_path / "pascal_voc_classes.json").write_text(json.dumps({"dog": text}))
    read_or_refuse(lambda: VOCDataset(root))
    (tmp_path / "pascal_voc_classes.json").unlink()


@FUZZ
@given(
    seed=st.integers(0, 2**32),
    which=st.sampled_from(["Annotations", "SegmentationObject", "SegmentationClass"]),
)
def test_damaged_voc_file_raises_only_value_errors_with_a_remedy(tmp_path, seed, which):
    instances = labels((1, 3, 4, 8, 14), (2, 20, 20, 25, 30))
    voc(
        tmp_path,
        voc_object(),
        voc_object("cat"),
        instances=instances,
        classes=(instances > 0) * np.uint8(12),
    )
    file = next((tmp_path / which).iterdir())
    file.write_bytes(cut_or_changed(file.read_bytes(), seed))
    read_or_refuse(lambda: VOCDataset(tmp_path))


def test_color_label_images_are_refused(tmp_path):
    voc(tmp_path, voc_object(), instances=labels((1, 3, 4, 8, 14)))
    file = tmp_path / "SegmentationObject" / "2007_000001.png"
    Image.open(file).convert("RGB").save(file)
    with pytest.raises(ValueError, match=r"SegmentationObject.*2007_000001\.png"):
        VOCDataset(tmp_path).load_mask(0)
