"""Made shapes, folders of masks, several datasets as one, and the recognising of every format."""

import json
import math

import cv2
import numpy as np
import pytest
from annotated import (
    HEIGHT,
    WIDTH,
    annotation,
    box_shape,
    boxes_of,
    coco,
    cut_or_changed,
    instance_images,
    labelme,
    names_of,
    nuclei,
    read_or_refuse,
    rect,
    region,
    via,
    voc,
    voc_object,
    voc_split,
    write_coco,
    write_image,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mrcnn.data.dataset import Dataset, boxes_alone, overrides
from mrcnn.data.masks import extract_bboxes
from mrcnn.files import limits
from mrcnn.formats import datasets
from mrcnn.formats.datasets import (
    CocoDataset,
    InstanceImageDataset,
    JoinedDataset,
    LabelmeDataset,
    MaskFolderDataset,
    ShapesDataset,
    VIADataset,
    VOCDataset,
    open_dataset,
    split_folders,
)

# --- Shapes -----------------------------------------------------------------------------------------------


def test_shapes_are_the_same_every_time_and_other_seeds_are_other_pictures():
    one, again, other = ShapesDataset(3, seed=1), ShapesDataset(5, seed=1), ShapesDataset(3, seed=2)
    np.testing.assert_array_equal(one.load_image(2), again.load_image(2))
    np.testing.assert_array_equal(one.load_mask(2)[0], again.load_mask(2)[0])
    assert not np.array_equal(one.load_image(2), other.load_image(2))
    assert not np.array_equal(one.load_image(1), one.load_image(2))


def test_shapes_keep_what_they_promise():
    dataset = ShapesDataset(60, seed=3)
    assert dataset.class_names == ["BG", "square", "circle", "triangle"]
    counts, seen = [], set()
    for i in dataset.image_ids:
        image, (masks, class_ids) = dataset.load_image(i), dataset.load_mask(i)
        assert image.shape == (128, 128, 3) and image.dtype == np.uint8
        assert masks.shape == (128, 128, len(class_ids)) and masks.dtype == bool
        assert class_ids.dtype == np.int32
        assert masks.sum(axis=2).max() <= 1  # the upper shape takes the pixels of the lower
        boxes = extract_bboxes(masks)
        assert (boxes[:, 2:] - boxes[:, :2]).max() <= 64
        for k in range(len(class_ids)):
            assert len(np.unique(image[masks[:, :, k]], axis=0)) == 1  # a shape has one colour
        counts.append(len(class_ids))
        seen |= set(class_ids.tolist())
    assert set(counts) == {1, 2, 3, 4} and seen == {1, 2, 3}


def test_shapes_stand_out_from_what_surrounds_them():
    dataset = ShapesDataset(40, seed=4)
    for i in dataset.image_ids:
        image, (masks, _) = dataset.load_image(i), dataset.load_mask(i)
        background = image[~masks.any(axis=2)].mean(axis=0)
        colors = np.float32(
            [background, *[image[masks[:, :, k]][0] for k in range(masks.shape[2])]]
        )
        lab = cv2.cvtColor(colors[None] / 255, cv2.COLOR_RGB2LAB)[0]
        distances = np.linalg.norm(lab[:, None] - lab[None], axis=2)[np.triu_indices(len(lab), k=1)]
        assert (
            distances.min() > 30
        )  # at least 40 before the noise is clipped to 0..255; an eye sees 2


def test_a_whole_shape_fills_the_right_share_of_its_box():
    expected = {1: 1.0, 2: math.pi / 4, 3: 0.5}  # square, disc, triangle
    dataset = ShapesDataset(1, size=(200, 200), seed=0)
    rng = np.random.default_rng(0)
    for class_id, share in expected.items():
        for _ in range(20):
            mask = dataset._shape(rng, dataset.class_names[class_id])
            y1, x1, y2, x2 = extract_bboxes(mask[:, :, None])[0]
            assert 12 <= y2 - y1 <= 64 and y2 - y1 == x2 - x1
            # pixels are whole: the outline may gain or lose half a pixel all around
            assert mask.sum() / (y2 - y1) ** 2 == pytest.approx(share, abs=1 / (y2 - y1))


def test_small_shapes_pictures_are_refused():
    assert ShapesDataset(1, size=(12, 40)).load_image(0).shape == (12, 40, 3)
    with pytest.raises(ValueError, match=r"at least 12 pixels each way. Received: \(8, 40\)"):
        ShapesDataset(1, size=(8, 40))


# --- Mask folders -----------------------------------------------------------------------------------------


def test_a_mask_folder_is_read_by_name(tmp_path, caplog):
    nuclei(tmp_path / "b", [(0, 0, 5, 6), (10, 10, 20, 40)])
    nuclei(tmp_path / "a", [])
    (tmp_path / "notes").mkdir()
    dataset = MaskFolderDataset(tmp_path, class_name="cell")
    assert [info["id"] for info in dataset.image_info] == ["a", "b"]
    masks, class_ids = dataset.load_mask(0)
    assert masks.shape == (HEIGHT, WIDTH, 0) and class_ids.shape == (0,)
    assert "1 of 2 images" in caplog.text and "no masks folder" in caplog.text
    assert boxes_of(dataset, 1) == [[0, 0, 5, 6], [10, 10, 20, 40]]
    assert names_of(dataset, 1) == ["cell", "cell"]
    assert dataset.load_image(1).shape == (HEIGHT, WIDTH, 3)


def test_a_colour_mask_counts_where_any_colour_is_and_alpha_does_not(tmp_path):
    nuclei(tmp_path / "a", [(0, 0, 1, 1)])
    mask = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    mask[:, :, 3] = 255
    mask[2:4, 5:9, 1] = 1
    cv2.imwrite(str(tmp_path / "a" / "masks" / "0.png"), mask)
    assert boxes_of(MaskFolderDataset(tmp_path)) == [[2, 5, 4, 9]]


def test_bad_mask_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="must hold folders of the form.*an empty folder"):
        MaskFolderDataset(tmp_path)
    nuclei(tmp_path / "a", [(0, 0, 5, 5)])
    dataset = MaskFolderDataset(tmp_path)
    cv2.imwrite(str(tmp_path / "a" / "masks" / "0.png"), np.ones((5, 5), np.uint8))
    with pytest.raises(ValueError, match=r"0\.png of \(5, 5\).*a\.png of \(30, 40\)"):
        dataset.load_mask(0)
    (tmp_path / "a" / "masks" / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"readable image. Received: .*0\.png"):
        dataset.load_mask(0)
    fresh = MaskFolderDataset(tmp_path)
    (tmp_path / "a" / "images" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"must exist. Received: .*a\.png"):
        fresh.load_mask(0)
    with pytest.raises(ValueError, match=r"exactly one image.*Received: \[\]"):
        MaskFolderDataset(tmp_path)


# --- Instance-id images -----------------------------------------------------------------------------------


def test_a_photo_without_a_mask_has_no_objects(tmp_path, caplog):
    instance_images(tmp_path, np.zeros((HEIGHT, WIDTH), np.uint8), "a")
    write_image(tmp_path / "images" / "b.jpg")
    dataset = InstanceImageDataset(tmp_path)
    for i in range(2):
        masks, class_ids = dataset.load_mask(i)
        assert masks.shape == (HEIGHT, WIDTH, 0) and class_ids.dtype == np.int32
    assert "1 of 2 images" in caplog.text and "have no mask" in caplog.text


@pytest.mark.parametrize("folder", ["masks", "labels"])
@pytest.mark.parametrize(("dtype", "high"), [(np.uint8, 255), (np.uint16, 700)])
def test_every_value_of_an_instance_image_is_an_object(tmp_path, folder, dtype, high):
    image = np.zeros((HEIGHT, WIDTH), dtype)
    image[3:8, 4:14], image[3:8, 14:20], image[20:25, 0:2] = (
        high,
        2,
        high,
    )  # they touch, and one has two parts
    dataset = InstanceImageDataset(
        instance_images(tmp_path, image, masks=folder), class_name="cell"
    )
    assert boxes_of(dataset) == [[3, 14, 8, 20], [3, 0, 25, 14]]  # in the order of the values
    assert dataset.load_mask(0)[0].sum(axis=(0, 1)).tolist() == [30, 60]
    assert names_of(dataset) == ["cell", "cell"] and dataset.load_mask(0)[1].dtype == np.int32
    assert dataset.image_info[0]["id"] == "a" and dataset.load_image(0).shape == (HEIGHT, WIDTH, 3)


def test_separate_pieces_of_one_value_are_told_of_once(tmp_path, caplog):
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    image[3:8, 4:14], image[20:25, 0:2] = 255, 255
    dataset = InstanceImageDataset(instance_images(tmp_path, image))
    for _ in range(2):
        assert dataset.load_mask(0)[0].shape[2] == 1
    assert caplog.text.count("marks 2 separate pieces with one value, 255") == 1
    caplog.clear()
    image[20:25, 0:2] = 0
    InstanceImageDataset(instance_images(tmp_path, image)).load_mask(0)
    assert not caplog.text


def test_every_colour_of_an_instance_image_is_an_object(tmp_path):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[3:8, 4:14], image[10:12, 0:2] = (0, 0, 7), (7, 0, 0)
    assert boxes_of(InstanceImageDataset(instance_images(tmp_path, image))) == [
        [3, 4, 8, 14],
        [10, 0, 12, 2],
    ]


def test_one_folder_that_holds_several_images_is_left_out(tmp_path, caplog):
    nuclei(tmp_path / "a", [(1, 2, 5, 6)])
    for name in ("x", "y"):
        write_image(tmp_path / "b" / "images" / f"{name}.png")
    dataset = MaskFolderDataset(tmp_path)
    assert (
        dataset.num_images == 1
        and "1 of 2 folders" in caplog.text
        and "['x.png', 'y.png']" in dataset.left_out[0]
    )
    with pytest.raises(ValueError, match="exactly one image"):
        MaskFolderDataset(tmp_path, strict=True)


def test_bad_instance_images_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="photos in images.*an empty folder"):
        InstanceImageDataset(tmp_path)
    instance_images(tmp_path, np.zeros((5, 6), np.uint8))
    write_image(tmp_path / "images" / "a.jpg")
    with pytest.raises(ValueError, match=r"masks/a\.png of \(5, 6\) and .*a\.jpg of \(30, 40\)"):
        InstanceImageDataset(tmp_path).load_mask(0)
    (tmp_path / "masks" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"readable image. Received: .*masks/a\.png"):
        InstanceImageDataset(tmp_path).load_mask(0)
    instance_images(tmp_path, np.arange(1200, dtype=np.uint16).reshape(HEIGHT, WIDTH))
    monkeypatch.setattr(datasets, "MOST_INSTANCES", 1000)
    with pytest.raises(ValueError, match=r"at most 1000 values. Received: 1199 in .*masks/a\.png"):
        InstanceImageDataset(tmp_path).load_mask(0)
    write_image(tmp_path / "images" / "a.png")
    with pytest.raises(ValueError, match=r"Received: a\.jpg and a\.png in"):
        InstanceImageDataset(tmp_path)
    write_image(tmp_path / "masks" / "c.png")
    (tmp_path / "images" / "a.png").unlink()
    dataset = InstanceImageDataset(tmp_path)
    assert dataset.num_images == 1 and "masks/c.png" in dataset.left_out[0]
    with pytest.raises(ValueError, match=r"name of a photo. Received: .*c\.png"):
        InstanceImageDataset(tmp_path, strict=True)
    (tmp_path / "masks" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"c\.png, and no image of that name.*<id>/images"):
        InstanceImageDataset(tmp_path)


def discs(values, side=96):
    """Discs of radius 12 in a row, of these values, drawn with hard edges."""
    image = np.zeros((side, 32 * len(values)), np.uint8)
    for i, value in enumerate(values):
        cv2.circle(image, (32 * i + 16, side // 2), 12, value, -1)
    return image


def soft(image):
    """The same discs as a resize with averaging leaves them."""
    large = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    return cv2.resize(
        cv2.GaussianBlur(large, (7, 7), 0), image.shape[::-1], interpolation=cv2.INTER_AREA
    )


def with_mask(folder, image, suffix, photo="images", mask="masks", **options):
    """A photo of the mask's size, and the mask."""
    for path, pixels in (
        (folder / photo / "a.png", np.zeros_like(image)),
        (folder / mask / f"a.{suffix}", image),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **(options if pixels is image else {}))
    return folder


@pytest.mark.parametrize("quality", [50, 90])
@pytest.mark.parametrize("colour", [False, True])
def test_a_black_and_white_jpeg_is_one_object(tmp_path, caplog, quality, colour):
    mask = discs([255])
    drawn = np.stack([mask] * 3, axis=-1) if colour else mask
    dataset = InstanceImageDataset(with_mask(tmp_path, drawn, "jpg", quality=quality))
    for _ in range(2):
        masks, _ = dataset.load_mask(0)
        np.testing.assert_array_equal(masks[:, :, 0], mask > 0)
        assert masks.shape[2] == 1
    assert (
        caplog.text.count("masks/a.jpg is black and white with soft edges, or went through JPEG")
        == 1
    )


def test_black_and_white_with_soft_edges_is_one_object(tmp_path, caplog):
    mask = discs([255])
    masks, _ = InstanceImageDataset(with_mask(tmp_path, soft(mask), "png")).load_mask(0)
    assert masks.shape[2] == 1 and masks.sum() == pytest.approx((mask > 0).sum(), rel=0.02)
    assert "masks/a.png is black and white with soft edges" in caplog.text


@pytest.mark.parametrize("ids", [[20, 40, 60, 255], [100, 101, 102, 103]])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_instance_ids_that_blur_into_each_other_are_refused(tmp_path, ids, suffix):
    dataset = InstanceImageDataset(
        with_mask(tmp_path, soft(discs(ids)) if suffix == "png" else discs(ids), suffix)
    )
    with pytest.raises(
        ValueError, match=rf"hard edges.*Received: .*masks/a\.{suffix}, with \d+ values.*as PNG"
    ):
        dataset.load_mask(0)


def test_small_and_touching_objects_have_hard_edges(tmp_path, caplog):
    image = np.zeros((64, 64), np.uint8)
    image[::2, ::2] = np.arange(1, 1025).reshape(32, 32) % 255 + 1  # points
    assert (
        InstanceImageDataset(with_mask(tmp_path / "points", image, "png")).load_mask(0)[0].shape[2]
        == 255
    )
    image = (
        np.arange(1, 65, dtype=np.uint8).reshape(8, 8).repeat(3, 0).repeat(3, 1)
    )  # squares that touch
    assert (
        InstanceImageDataset(with_mask(tmp_path / "squares", image, "png")).load_mask(0)[0].shape[2]
        == 64
    )
    assert not caplog.text


def test_masks_that_take_gigabytes_are_refused_before_memory_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(
        limits, "MOST_MASK_BYTES", 2 * 96 * 96 - 1
    )  # two discs of 96 x 64 fit, three of 96 x 96 not
    InstanceImageDataset(with_mask(tmp_path / "two", discs([1, 2])[:, :48], "png")).load_mask(0)
    with pytest.raises(ValueError, match=r"3 objects of 96 x 96 pixels in .*masks/a\.png"):
        InstanceImageDataset(with_mask(tmp_path / "three", discs([1, 2, 3]), "png")).load_mask(0)
    folder = with_mask(tmp_path / "folders" / "x", discs([255] * 3), "png")
    for name in ("b", "c"):
        Image.fromarray(discs([255] * 3)).save(folder / "masks" / f"{name}.png")
    with pytest.raises(ValueError, match=r"3 objects of 96 x 96 pixels in .*x/masks"):
        MaskFolderDataset(folder.parent).load_mask(0)


@pytest.mark.parametrize(("suffix", "value"), [("jpg", 255), ("png", 255), ("png", 100)])
def test_a_mask_file_with_soft_edges_is_cut_at_half(tmp_path, caplog, suffix, value):
    mask = discs([value])
    drawn = mask if suffix == "jpg" else soft(mask)
    dataset = MaskFolderDataset(with_mask(tmp_path / "x", drawn, suffix).parent)
    masks, _ = dataset.load_mask(0)
    assert masks.shape[2] == 1 and masks.sum() == pytest.approx((mask > 0).sum(), rel=0.02)
    assert caplog.text.count(f"masks/a.{suffix} has soft edges, or went through JPEG") == 1


@pytest.mark.parametrize(
    ("images", "masks"), [("PNGImages", "PedMasks"), ("imgs", "labels"), ("images", "masks")]
)
def test_masks_of_other_layouts_and_names_open(tmp_path, images, masks):
    for folder in (images, masks):
        (tmp_path / folder).mkdir()
    write_image(tmp_path / images / "a.png")
    write_image(tmp_path / images / "b_mask.png")  # a photo's own name
    for name in ("a_mask", "b_mask"):
        cv2.imwrite(str(tmp_path / masks / f"{name}.png"), np.ones((HEIGHT, WIDTH), np.uint8))
    dataset = open_dataset(tmp_path)
    assert [info["id"] for info in dataset.image_info] == ["a", "b_mask"] and dataset.left_out == []
    assert [dataset.load_mask(i)[0].shape[2] for i in dataset.image_ids] == [1, 1]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), dtype=st.sampled_from([np.uint8, np.uint16]))
def test_damaged_masks_are_read_or_refused_with_a_sentence(tmp_path, seed, dtype):
    image = np.zeros((HEIGHT, WIDTH), dtype)
    image[3:8, 4:14] = 9
    instance_images(tmp_path / "set", image)
    nuclei(tmp_path / "nuclei" / "one", [(0, 0, 5, 5)])
    for file in (
        tmp_path / "set" / "masks" / "a.png",
        tmp_path / "nuclei" / "one" / "masks" / "0.png",
    ):
        file.write_bytes(cut_or_changed(file.read_bytes(), seed))
    read_or_refuse(lambda: InstanceImageDataset(tmp_path / "set"))
    read_or_refuse(lambda: MaskFolderDataset(tmp_path / "nuclei"))


# --- Several datasets as one ------------------------------------------------------------------------------


def two_sets(tmp_path):
    """COCO's cat 18 and dog 90, then labelme's bird 1 and cat 2."""
    write_image(tmp_path / "coco" / "a.png")
    write_image(tmp_path / "coco" / "b.png")
    one = CocoDataset(write_coco(tmp_path / "coco", coco()))
    return one, LabelmeDataset(labelme(tmp_path / "lm", box_shape("cat"), box_shape("bird", y1=0)))


def test_joined_datasets_share_classes_by_name(tmp_path):
    one, two = two_sets(tmp_path)
    dataset = JoinedDataset([one, two])
    assert dataset.class_names == ["BG", "cat", "dog", "bird"] and dataset.num_images == 3
    assert [info["id"] for info in dataset.image_info] == [7, 9, "a"]
    assert names_of(dataset, 2) == ["cat", "bird"] and dataset.load_mask(2)[1].tolist() == [1, 3]
    masks, class_ids = dataset.load_mask(0)
    assert class_ids.tolist() == [2, 1, -1] and class_ids.dtype == np.int32  # a crowd stays one
    assert [dataset.load_class_ids(i).tolist() for i in dataset.image_ids] == [
        [2, 1, -1],
        [],
        [1, 3],
    ]
    np.testing.assert_array_equal(masks, one.load_mask(0)[0])
    assert dataset.load_mask(1)[0].shape == (HEIGHT, WIDTH, 0)
    np.testing.assert_array_equal(dataset.load_image(2), two.load_image(0))
    assert dataset.image_reference(2) == two.image_reference(0)


def test_joined_datasets_teach_each_image_what_its_source_knows(tmp_path):
    dataset = JoinedDataset(two_sets(tmp_path))
    known = [dataset.source_class_ids[info["source"]] for info in dataset.image_info]
    assert known == [[0, 1, 2], [0, 1, 2], [0, 1, 3]]
    dataset.prepare()  # as old scripts do: changes nothing
    assert [dataset.source_class_ids[info["source"]] for info in dataset.image_info] == known


def test_joined_datasets_keep_the_ids_of_their_sources(tmp_path):
    dataset = JoinedDataset(two_sets(tmp_path))
    assert dataset.map_source_class_id("coco.18") == dataset.map_source_class_id("labelme.2") == 1
    assert (dataset.get_source_class_id(1, "coco"), dataset.get_source_class_id(1, "labelme")) == (
        18,
        2,
    )
    with pytest.raises(ValueError, match="must belong to the source.*bird"):
        dataset.get_source_class_id(3, "coco")
    assert dataset.image_from_source_map["coco.9"] == 1


def test_joined_datasets_of_one_format_are_told_apart(tmp_path):
    one = CocoDataset(write_coco(tmp_path / "1", coco()), class_ids=[18])
    two = CocoDataset(write_coco(tmp_path / "2", coco()))
    dataset = JoinedDataset([one, two, JoinedDataset([two])])
    assert dataset.class_names == ["BG", "cat", "dog"] and dataset.num_images == 6
    assert dataset.source_class_ids["coco"] == [0, 1]
    assert dataset.source_class_ids["coco_2"] == dataset.source_class_ids["coco_3"] == [0, 1, 2]
    assert dataset.map_source_class_id("coco_2.90") == 2 and dataset.load_mask(0)[1].tolist() == [
        1,
        -1,
    ]
    assert [info["source"] for info in dataset.image_info] == ["coco"] * 2 + ["coco_2"] * 2 + [
        "coco_3"
    ] * 2


def test_joined_datasets_match_whole_names_first(tmp_path):
    def one(name, *class_names):
        write_image(tmp_path / name / "a.png")
        write_image(tmp_path / name / "b.png")
        categories = [{"id": i, "name": class_name} for i, class_name in enumerate(class_names)]
        entries = [annotation(i, i, [[4, 3, 14, 3, 14, 8]]) for i in range(len(class_names))]
        return CocoDataset(
            write_coco(tmp_path / name, coco(categories=categories, annotations=entries))
        )

    stands, sits = one("1", "person, standing", "dog, any"), one("2", "person, sitting", "dog")
    assert stands.class_names == ["BG", "person", "dog"] and sits.class_names == [
        "BG",
        "person",
        "dog",
    ]
    joined = JoinedDataset([stands, sits])
    assert joined.class_names == ["BG", "person, standing", "dog", "person, sitting"]
    assert joined.load_mask(2)[1].tolist() == [3, 2]


def test_joined_datasets_hand_on_what_files_say(tmp_path):
    for name in ("1/a.png", "1/b.png", "2/a.png"):
        write_image(tmp_path / name)
    box = annotation(1, 90, [], bbox=[5, 6, 20, 22], area=440)
    outline = annotation(2, 90, [[4, 3, 14, 3, 14, 8, 4, 8]], bbox=[4.5, 3, 9.5, 5], area=47.5)
    one = CocoDataset(write_coco(tmp_path / "1", coco(annotations=[box])))
    two = CocoDataset(write_coco(tmp_path / "2", coco(annotations=[outline])))  # b.png is missing
    joined = JoinedDataset([one, two])
    assert joined.left_out == two.left_out and len(joined.left_out) == 1
    assert joined.annotated_boxes(2) == [{"bbox": [4.5, 3, 9.5, 5], "area": 47.5}]
    assert boxes_alone(JoinedDataset([one, one])) and not boxes_alone(joined)
    assert joined.load_bbox(0)[0].tolist() == [[6, 5, 28, 25]] and joined.load_bbox(2)[
        0
    ].tolist() == [[3, 4, 8, 14]]


def test_joined_datasets_must_be_prepared():
    with pytest.raises(ValueError, match=r"Received: none. Try dataset.prepare\(\)"):
        JoinedDataset([])
    with pytest.raises(ValueError, match=r"Received: \['Dataset'\]"):
        JoinedDataset([ShapesDataset(1), Dataset()])


def test_joined_datasets_reach_the_network_with_their_active_classes(tmp_path):
    from mrcnn import config
    from mrcnn.data import generator as data  # loads Keras: the only test here that does

    class JoinedConfig(config.Config):
        NAME, NUM_CLASSES, IMAGE_MIN_DIM, IMAGE_MAX_DIM = "joined", 4, 64, 64

    dataset = JoinedDataset(two_sets(tmp_path))
    for image_id, active in ((0, [1, 1, 1, 0]), (2, [1, 1, 0, 1])):
        meta = data.load_image_gt(dataset, JoinedConfig(), image_id)[1]
        assert meta[12:].tolist() == active


# --- Recognising ------------------------------------------------------------------------------------------


def test_open_dataset_recognises_what_is_there(tmp_path):
    assert isinstance(open_dataset("shapes", count=2, seed=5), ShapesDataset)
    via(tmp_path / "via", region(rect()), name="any.json")
    assert isinstance(open_dataset(tmp_path / "via"), VIADataset)
    assert isinstance(open_dataset(tmp_path / "via" / "any.json", class_name="x"), VIADataset)
    path = write_coco(tmp_path / "coco" / "annotations", coco(), "instances_val2017.json")
    assert isinstance(open_dataset(path), CocoDataset)
    assert open_dataset(tmp_path / "coco", class_ids=[18]).class_names == ["BG", "cat"]
    nuclei(tmp_path / "nuclei" / "one", [(0, 0, 5, 5)])
    opened = open_dataset(str(tmp_path / "nuclei"), class_name="nucleus")
    assert isinstance(opened, MaskFolderDataset) and opened.class_names == ["BG", "nucleus"]
    assert opened.num_images == 1  # prepared


def test_open_dataset_says_what_it_found_and_what_it_understands(tmp_path):
    with pytest.raises(ValueError, match=r"must exist. Received: nowhere(.|\n)*Understood are"):
        open_dataset("nowhere")
    nuclei(tmp_path / "train" / "one", [])
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(
        ValueError, match=r"readme.txt, train/ \(name one of train/(.|\n)*annotations/"
    ) as caught:
        open_dataset(tmp_path)
    assert "the word shapes" in str(caught.value)
    with pytest.raises(ValueError, match="a file readme.txt"):
        open_dataset(tmp_path / "readme.txt")
    other = tmp_path / "other"
    other.mkdir()
    for content, holds in {
        "[]": "a list of 0",
        "{}": "an empty object",
        '{"images": [], "info": 1}': r"an object with the names \['images', 'info'\]",
        "3": "3",
    }.items():
        (other / "e.json").write_text(content)
        for path in (other, other / "e.json"):
            with pytest.raises(
                ValueError,
                match=f"Received: e.json holds {holds}. COCO's is an object with the lists",
            ):
                open_dataset(path)
    for name in ("instances_train.json", "instances_val.json"):
        write_coco(tmp_path / "annotations", coco(), name)
    with pytest.raises(
        ValueError, match=r"one annotation file. Received: instances_train.json, instances_val"
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize("reader", [CocoDataset, VIADataset, open_dataset])
def test_truncated_json_is_named(tmp_path, reader):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(coco())[:-20])
    with pytest.raises(
        ValueError, match=r"cut\.json must be complete JSON.*Try to export or download"
    ):
        reader(path)


@pytest.mark.parametrize("reader", [CocoDataset, VIADataset])
def test_a_file_of_the_other_format_is_refused(tmp_path, reader):
    path = tmp_path / "other.json"
    path.write_text('{"shapes": [], "version": "5.0"}')
    with pytest.raises(ValueError, match=r"other\.json must be a (COCO|VIA)"):
        reader(path)


def test_open_dataset_recognises_the_newer_formats(tmp_path):
    labelme(tmp_path / "lm", box_shape("cat"), name="a")
    file = labelme(tmp_path / "lm", box_shape("dog"), name="b")
    opened = open_dataset(tmp_path / "lm", class_names=["dog", "cat"])
    assert isinstance(opened, LabelmeDataset) and opened.num_images == 2
    assert open_dataset(file).class_names == ["BG", "dog"]
    root = voc(tmp_path / "VOC2012", voc_object())
    assert isinstance(open_dataset(root), VOCDataset)
    listed = voc_split(root, "Segmentation/val", "2007_000001")
    assert isinstance(open_dataset(listed), VOCDataset) and open_dataset(listed).num_images == 1
    labels = np.ones((HEIGHT, WIDTH), np.uint8)
    assert isinstance(
        open_dataset(instance_images(tmp_path / "ids", labels), class_name="x"),
        InstanceImageDataset,
    )
    assert isinstance(
        open_dataset(instance_images(tmp_path / "id2", labels, masks="labels")),
        InstanceImageDataset,
    )


def test_open_dataset_gives_the_classes_that_were_asked_for(tmp_path):
    labelme(tmp_path / "lm", box_shape("dog"))
    assert open_dataset(tmp_path / "lm").class_names == ["BG", "dog"]
    wanted = open_dataset(tmp_path / "lm", ["cat", "dog"])  # this folder shows no cat
    assert wanted.class_names == ["BG", "cat", "dog"] and wanted.load_mask(0)[1].tolist() == [2]
    with pytest.raises(ValueError, match="'dog'"):
        open_dataset(tmp_path / "lm", ["cat"])
    folder = instance_images(tmp_path / "ids", np.ones((HEIGHT, WIDTH), np.uint8))
    assert open_dataset(folder, ["nucleus"]).class_names == ["BG", "nucleus"]
    with pytest.raises(ValueError, match=r"must be \['a', 'b'\]. Received: \['object'\]"):
        open_dataset(folder, ["a", "b"])


def test_open_dataset_hands_common_options_to_the_readers_that_take_them(tmp_path):
    path = write_coco(tmp_path / "labels", coco())
    photo = write_image(tmp_path / "photos" / "a.png")
    assert open_dataset(path, images_dir=tmp_path / "photos").image_info[0]["path"] == str(photo)
    nuclei(tmp_path / "nuclei" / "one", [(0, 0, 5, 5)])
    assert open_dataset(tmp_path / "nuclei", strict=True).num_images == 1
    with pytest.raises(
        ValueError, match=r"for annotation files.*photos for data that MaskFolderDataset reads"
    ):
        open_dataset(tmp_path / "nuclei", images_dir=tmp_path / "photos")


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train", "val"),
        ("train", "valid"),  # Roboflow
        ("train", "validation"),
        ("train.json", "val.json"),
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
        ("annotations/instances_Train.json", "annotations/instances_Validation.json"),
    ],
)
def test_training_and_validation_data_are_found_in_a_folder(tmp_path, train, val):
    assert split_folders(tmp_path) is None and split_folders(tmp_path / "nowhere") is None
    write_coco(tmp_path / "annotations", coco(), "captions_train2017.json")
    for name in (train, val):
        assert split_folders(tmp_path) is None
        if name.endswith(".json"):
            write_coco((tmp_path / name).parent, coco(), (tmp_path / name).name)
        else:
            write_coco(tmp_path / name, coco(), "_annotations.coco.json")
    assert split_folders(str(tmp_path)) == (tmp_path / train, tmp_path / val)
    assert open_dataset(tmp_path / val).num_images == 2


def test_open_dataset_looks_into_annotations(tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name)
    (tmp_path / "info.json").write_text('{"author": "me"}')
    write_coco(tmp_path / "annotations", coco(), "train.json")
    assert open_dataset(tmp_path).load_mask(0)[1].tolist() == [2, 1, -1]
    write_coco(tmp_path / "annotations", coco(annotations=[]), "instances_default.json")
    assert open_dataset(tmp_path).load_mask(0)[1].tolist() == []  # COCO's own name counts first


def test_open_dataset_names_the_sets_of_roboflow(tmp_path):
    for name in ("train", "valid"):
        write_coco(tmp_path / name, coco(), "_annotations.coco.json")
    with pytest.raises(ValueError, match=r"name one of train/, valid/ to use it"):
        open_dataset(tmp_path)


def test_open_dataset_maps_coco_categories_by_name(tmp_path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    path = write_coco(tmp_path, coco())
    dataset = open_dataset(path, class_names=["dog", "cow, brown", "cat"])
    assert dataset.class_names == ["BG", "dog", "cow", "cat"] and dataset.load_mask(0)[
        1
    ].tolist() == [1, 3, -3]


def test_open_dataset_tells_layouts_of_images_apart(tmp_path):
    labels = np.ones((HEIGHT, WIDTH), np.uint8)
    for name in ("train", "val"):  # two sets, and no folder an image
        instance_images(tmp_path / "sets" / name, labels, "a")
        instance_images(tmp_path / "sets" / name, labels, "b")
    with pytest.raises(ValueError, match=r"\(name one of train/, val/ to use it\)"):
        open_dataset(tmp_path / "sets")
    nuclei(tmp_path / "nuclei" / "one", [(0, 0, 5, 5), (6, 6, 9, 9)])
    with pytest.raises(
        ValueError, match=r"no image of that name.*<id>/images, <id>/masks name the folder above"
    ):
        open_dataset(tmp_path / "nuclei" / "one")
    voc(tmp_path / "VOCdevkit" / "VOC2007")
    with pytest.raises(ValueError, match=r"\(name one of VOC2007/ to use it\)"):
        open_dataset(tmp_path / "VOCdevkit")


def test_open_dataset_refuses_several_formats_in_one_folder(tmp_path):
    via(tmp_path, region(rect()), name="all.json")
    labelme(tmp_path, box_shape(), name="z")
    with pytest.raises(ValueError, match=r"one annotation file. Received: all\.json, z\.json"):
        open_dataset(tmp_path)


# --- The real sets ----------------------------------------------------------------------------------------


def real(shared, name):
    return open_dataset(shared / "data" / name)


@pytest.mark.parametrize(
    ("name", "images", "objects"),
    [
        ("balloon/train", 61, 255),
        ("balloon/val", 13, 50),
        ("nuclei/train", 120, 3549),
        ("nuclei/val", 40, 1080),
    ],
)
def test_the_real_sets_have_the_stated_counts(shared, name, images, objects):
    dataset = real(shared, name)
    assert dataset.num_images == images and dataset.num_classes == 2
    infos = dataset.image_info
    if name.startswith("balloon"):
        assert sum(len(info["polygons"]) for info in infos) == objects
    else:
        assert (
            sum(len(datasets.image_files(datasets.Path(info["masks"]))) for info in infos)
            == objects
        )


def test_coco_tiny_has_the_stated_counts(shared):
    tiny = [
        real(shared, f"coco_tiny/annotations/instances_{subset}2017.json")
        for subset in ("train", "val")
    ]
    assert [dataset.num_images for dataset in tiny] == [80, 80]
    assert [dataset.num_classes for dataset in tiny] == [81, 81]
    entries = [a for dataset in tiny for info in dataset.image_info for a in info["annotations"]]
    assert len(entries) == 1520 and sum(a["iscrowd"] for a in entries) == 17
    assert (
        sum(isinstance(a["segmentation"], list) and len(a["segmentation"]) > 1 for a in entries)
        == 120
    )


def test_joined_datasets_hand_boxes_on_where_one_has_its_own(tmp_path):
    one, two = two_sets(tmp_path)
    assert not overrides(JoinedDataset([one, two]), "load_bbox")
    two.load_bbox = lambda image_id: (np.array([[1.0, 2, 3, 4]]), np.array([-2]))
    joined = JoinedDataset([one, two])
    assert overrides(joined, "load_bbox")
    found, class_ids = joined.load_bbox(2)  # the labelme set's class 2 is the cat, class 1 here
    assert found.tolist() == [[1, 2, 3, 4]]
    assert abs(class_ids[0]) == joined.class_names.index(two.class_names[2]) and class_ids[0] < 0
    np.testing.assert_array_equal(joined.load_bbox(0)[0], one.load_bbox(0)[0])


def test_a_region_attribute_is_named_for_files_of_via_only(tmp_path):
    via(tmp_path, region(rect(), kind="dog", mood="calm"))
    assert open_dataset(tmp_path, attribute="mood").class_names == ["BG", "calm"]
    with pytest.raises(
        ValueError, match=r"Received: 'mood' for data that ShapesDataset reads.*\(--attribute\)"
    ):
        open_dataset("shapes", attribute="mood")
