"""Folders of mask images, one an object or one an image."""

import cv2
import numpy as np
import pytest
from annotated import (
    HEIGHT,
    WIDTH,
    boxes_of,
    cut_or_changed,
    instance_images,
    names_of,
    nuclei,
    read_or_refuse,
    write_image,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mrcnn.files import limits
from mrcnn.formats import mask_images
from mrcnn.formats.mask_images import InstanceImageDataset, MaskFolderDataset
from mrcnn.formats.open_dataset import open_dataset


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


def test_color_mask_is_any_color_and_not_alpha(tmp_path):
    nuclei(tmp_path / "a", [(0, 0, 1, 1)])
    mask = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    mask[:, :, 3] = 255
    mask[2:4, 5:9, 1] = 1
    cv2.imwrite(str(tmp_path / "a" / "masks" / "0.png"), mask)
    assert boxes_of(MaskFolderDataset(tmp_path)) == [[2, 5, 4, 9]]


def test_bad_mask_folders_are_named_in_errors(tmp_path):
    with pytest.raises(ValueError, match="must contain folders of the form.*an empty folder"):
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


def test_image_without_a_mask_has_no_objects(tmp_path, caplog):
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


def test_separate_pieces_of_one_value_are_warned_of_once(tmp_path, caplog):
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


def test_every_color_of_an_instance_image_is_an_object(tmp_path):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[3:8, 4:14], image[10:12, 0:2] = (0, 0, 7), (7, 0, 0)
    assert boxes_of(InstanceImageDataset(instance_images(tmp_path, image))) == [
        [3, 4, 8, 14],
        [10, 0, 12, 2],
    ]


def test_folder_of_several_images_is_skipped(tmp_path, caplog):
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


def test_bad_instance_images_are_named_in_errors(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="contain images in images.*an empty folder"):
        InstanceImageDataset(tmp_path)
    instance_images(tmp_path, np.zeros((5, 6), np.uint8))
    write_image(tmp_path / "images" / "a.jpg")
    with pytest.raises(ValueError, match=r"masks/a\.png of \(5, 6\) and .*a\.jpg of \(30, 40\)"):
        InstanceImageDataset(tmp_path).load_mask(0)
    (tmp_path / "masks" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"readable image. Received: .*masks/a\.png"):
        InstanceImageDataset(tmp_path).load_mask(0)
    instance_images(tmp_path, np.arange(1200, dtype=np.uint16).reshape(HEIGHT, WIDTH))
    monkeypatch.setattr(mask_images, "MAX_INSTANCES", 1000)
    with pytest.raises(ValueError, match=r"at most 1000 values. Received: 1199 in .*masks/a\.png"):
        InstanceImageDataset(tmp_path).load_mask(0)
    write_image(tmp_path / "images" / "a.png")
    with pytest.raises(ValueError, match=r"Received: a\.jpg and a\.png in"):
        InstanceImageDataset(tmp_path)
    write_image(tmp_path / "masks" / "c.png")
    (tmp_path / "images" / "a.png").unlink()
    dataset = InstanceImageDataset(tmp_path)
    assert dataset.num_images == 1 and "masks/c.png" in dataset.left_out[0]
    with pytest.raises(ValueError, match=r"name of an image. Received: .*c\.png"):
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


def with_mask(folder, image, suffix, images="images", mask="masks", **options):
    """Write an image of the mask's size, and the mask. Returns: the folder."""
    for path, pixels in (
        (folder / images / "a.png", np.zeros_like(image)),
        (folder / mask / f"a.{suffix}", image),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **(options if pixels is image else {}))
    return folder


@pytest.mark.parametrize("quality", [50, 90])
@pytest.mark.parametrize("color", [False, True])
def test_a_black_and_white_jpeg_is_one_object(tmp_path, caplog, quality, color):
    mask = discs([255])
    drawn = np.stack([mask] * 3, axis=-1) if color else mask
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


def test_masks_of_gigabytes_are_refused_before_allocation(tmp_path, monkeypatch):
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
def test_mask_file_with_soft_edges_is_thresholded_at_half(tmp_path, caplog, suffix, value):
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
    write_image(tmp_path / images / "b_mask.png")  # an image's own name
    for name in ("a_mask", "b_mask"):
        cv2.imwrite(str(tmp_path / masks / f"{name}.png"), np.ones((HEIGHT, WIDTH), np.uint8))
    dataset = open_dataset(tmp_path)
    assert [info["id"] for info in dataset.image_info] == ["a", "b_mask"] and dataset.left_out == []
    assert [dataset.load_mask(i)[0].shape[2] for i in dataset.image_ids] == [1, 1]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), dtype=st.sampled_from([np.uint8, np.uint16]))
def test_damaged_masks_raise_only_value_errors_with_a_remedy(tmp_path, seed, dtype):
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
