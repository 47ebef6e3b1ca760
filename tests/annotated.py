"""Small annotation files of every format, and ways to spoil them."""

import json
import random

import cv2
import numpy as np
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from mrcnn.data.masks import extract_bboxes

HEIGHT, WIDTH = 30, 40


def write_image(path, shape=(HEIGHT, WIDTH, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full(shape, 90, np.uint8))
    return path


def boxes_of(dataset, image_id=0):
    return extract_bboxes(dataset.load_mask(image_id)[0]).tolist()


def names_of(dataset, image_id=0):
    return [dataset.class_names[i] for i in dataset.load_mask(image_id)[1]]


# --- Folders of mask images -----------------------------------------------------------------------


def nuclei(folder, masks):
    """One image with masks from rectangles (y1, x1, y2, x2)."""
    write_image(folder / "images" / "a.png", (HEIGHT, WIDTH, 4))
    for i, (y1, x1, y2, x2) in enumerate(masks):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[y1:y2, x1:x2] = 255
        (folder / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "masks" / f"{i}.png"), mask)


def instance_images(folder, labels, name="a", masks="masks"):
    """Write an image and its instance-id image [H, W] or [H, W, (r, g, b)]."""
    write_image(folder / "images" / f"{name}.jpg", (*labels.shape[:2], 3))
    (folder / masks).mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(folder / masks / f"{name}.png")
    return folder


# --- VIA ------------------------------------------------------------------------------------------


def polygon(*points):
    return {
        "name": "polygon",
        "all_points_x": [x for x, _ in points],
        "all_points_y": [y for _, y in points],
    }


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def rect(x=4, y=3, width=10, height=5):
    return {"name": "rect", "x": x, "y": y, "width": width, "height": height}


def via(tmp_path, *regions, as_dict=False, project=False, name="via_region_data.json"):
    """A VIA file of one image with these regions."""
    write_image(tmp_path / "a.png")
    listed = {str(i): r for i, r in enumerate(regions)} if as_dict else list(regions)
    entries = {
        "a.png123": {"filename": "a.png", "size": 123, "regions": listed, "file_attributes": {}}
    }
    data = {"_via_settings": {}, "_via_img_metadata": entries} if project else entries
    (tmp_path / name).write_text(json.dumps(data))
    return tmp_path / name


# --- COCO -----------------------------------------------------------------------------------------


def coco(**changes):
    """A small instances file without info and licenses: images 7 and 9, the second empty."""
    square = [4, 3, 14, 3, 14, 8, 4, 8]
    donut = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    donut[10:20, 10:20] = 1
    donut[13:16, 13:16] = 0
    compressed = coco_mask.encode(donut)
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 9, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 18, "name": "cat"}],
        "annotations": [
            annotation(1, 90, [square, [20, 20, 30, 20, 30, 25, 20, 25]]),
            annotation(2, 18, {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()}),
            # column by column: 60 pixels are two columns of 30, then three columns inside
            annotation(3, 18, {"size": [HEIGHT, WIDTH], "counts": [60, 90, 1050]}, iscrowd=1),
        ],
        **changes,
    }


def annotation(annotation_id, category_id, segmentation, image_id=7, iscrowd=0, **more):
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": segmentation,
        "iscrowd": iscrowd,
        **more,
    }


def write_coco(folder, data, name="instances.json"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(data))
    return folder / name


# --- labelme --------------------------------------------------------------------------------------


def shape(label, points, kind="polygon", group=None, **more):
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "shape_type": kind,
        "flags": {},
        **more,
    }


def box_shape(label="dog", y1=3, x1=4, y2=8, x2=14, **more):
    return shape(label, [[x1, y1], [x2, y2]], "rectangle", **more)


def labelme(folder, *shapes, name="a", **changes):
    """A labelme file of one image with these shapes."""
    write_image(folder / f"{name}.png")
    data = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": f"{name}.png",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **changes,
    }
    (folder / f"{name}.json").write_text(json.dumps(data))
    return folder / f"{name}.json"


# --- Pascal VOC -----------------------------------------------------------------------------------


def voc_object(name="dog", xmin=5, ymin=4, xmax=14, ymax=8, difficult=0, more=""):
    """By default the box y 3..8, x 4..14, counted from 0 with its end after the last pixel."""
    box = f"<xmax>{xmax}</xmax><xmin>{xmin}</xmin><ymax>{ymax}</ymax><ymin>{ymin}</ymin>"
    marks = f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name>{marks}<bndbox>{box}</bndbox>{more}</object>"


def voc(root, *objects, name="2007_000001", size=(HEIGHT, WIDTH), instances=None, classes=None):
    """One image of a VOC folder; instances and classes: label images [H, W] uint8."""
    write_image(root / "JPEGImages" / f"{name}.jpg")
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    height, width = size
    size_element = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    file = root / "Annotations" / f"{name}.xml"
    file.write_text(
        f"<annotation><filename>{name}.jpg</filename>{size_element}{''.join(objects)}</annotation>"
    )
    for folder, labels in (("SegmentationObject", instances), ("SegmentationClass", classes)):
        if labels is not None:
            (root / folder).mkdir(exist_ok=True)
            image = Image.fromarray(labels)
            image.putpalette(
                np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes()
            )
            image.save(root / folder / f"{name}.png")
    return root


def voc_split(root, path, *names):
    file = root / "ImageSets" / f"{path}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{name}\n" for name in names))
    return file


# --- Spoiling -------------------------------------------------------------------------------------


def spoil(data, rng, junk):
    """Replace one random value inside nested dicts and lists."""
    places = []

    def walk(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(data)
    node, key = rng.choice(places)
    node[key] = junk


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def spoiled(data, seed, junk):
    """The data with one value somewhere replaced."""
    data = json.loads(json.dumps(data))
    spoil(data, random.Random(seed), junk)
    return data


def cut_or_changed(content: bytes, seed) -> bytes:
    """The content of a file, truncated or with some bytes changed."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def read_or_refuse(make):
    """Read the whole dataset that `make` opens; a ValueError must name the remedy."""
    try:
        dataset = make()
        for i in dataset.image_ids:
            masks, class_ids = dataset.load_mask(i)
            assert masks.shape[2] == len(class_ids) and masks.dtype == bool
            assert set(np.abs(class_ids)) <= set(range(1, dataset.num_classes))
    except ValueError as error:
        assert "Received: " in str(error) and "Try " in str(error)
