"""10,000 damaged or hostile files: every reader returns or raises a ValueError, in 10 s and 2 GB.

Run `pytest -m slow -n 0 tests/test_fuzz.py`; `EXAMPLES` has the number of files of each kind.
"""

import base64
import io
import json
import random
import re
import resource
import signal
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
from annotated import (
    HEIGHT,
    JUNK,
    WIDTH,
    box_shape,
    coco,
    cut_or_changed,
    instance_images,
    labelme,
    polygon,
    rect,
    region,
    spoiled,
    via,
    voc,
    voc_object,
    write_image,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mrcnn.config import Config
from mrcnn.data.image import read_image
from mrcnn.files.image_files import read_size
from mrcnn.formats.open_dataset import open_dataset
from mrcnn.training import training_state as state
from mrcnn.weights.loading import load_weights
from mrcnn.weights.opening import check_file, read_metadata
from mrcnn.weights.saving import save_weights
from mrcnn.weights.weight_file import WeightFile

pytestmark = pytest.mark.slow

SECONDS = 10
BYTES = 2 * 2**30
EXAMPLES = {
    "coco": 1800,
    "via": 1000,
    "labelme": 1200,
    "voc": 1000,
    "yolo": 1000,
    "cvat": 800,
    "images": 1700,
    "labels": 300,
    "config": 700,
    "weights": 400,
    "state": 100,
}
SEEDS = st.integers(0, 2**32 - 1)
# Numbers that a file may claim, but that no image has.
CLAIMS = st.sampled_from(
    [0, -1, 60.0, 60.5, 1e5, 1e9, 1e308, float("nan"), 2**31, 2**63, 10**30, "o" * 100_000]
)


def fuzz(kind):
    """Settings of the test of one kind of file."""
    return settings(
        max_examples=EXAMPLES[kind],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


@contextmanager
def within_limits():
    """Fail if the block takes more than `SECONDS`, or more than `BYTES` of additional memory."""

    def stop(*_):
        raise TimeoutError(f"no answer within {SECONDS} s")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < BYTES, f"{grown / 2**30:.1f} GiB more memory"


def answered(read):
    """Run a reader; an error must be a ValueError with our form of message."""
    with within_limits():
        try:
            read()
        except ValueError as error:
            assert "Received: " in str(error), f"not a sentence: {error!r}"


def open_and_read(path):
    """Read everything that a training reads of a dataset, each image on its own."""
    dataset = open_dataset(path)
    for image_id in dataset.image_ids:
        answered(lambda i=image_id: _check_image(dataset, i))


def _check_image(dataset, image_id):
    masks, class_ids = dataset.load_mask(image_id)
    assert masks.dtype == bool and masks.shape[2] == len(class_ids)
    assert set(np.abs(class_ids)) <= set(range(1, dataset.num_classes))


def spoiled_json(path, data, seed, junk):
    """Write the data with one value replaced, or the damaged text."""
    rng = random.Random(seed)
    if rng.random() < 0.15:
        path.write_bytes(cut_or_changed(json.dumps(data).encode(), seed))
        return
    text = json.dumps(spoiled(data, seed, junk), default=str)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


@fuzz("coco")
@given(seed=SEEDS, junk=st.one_of(JUNK, CLAIMS))
def test_coco(tmp_path_factory, seed, junk):
    folder = _folder(
        tmp_path_factory,
        "coco",
        lambda made: (write_image(made / "a.png"), write_image(made / "b.png")),
    )
    spoiled_json(folder / "instances.json", coco(), seed, junk)
    answered(lambda: open_and_read(folder / "instances.json"))


@fuzz("via")
@given(seed=SEEDS, junk=st.one_of(JUNK, CLAIMS))
def test_via(tmp_path_factory, seed, junk):
    def make(made):
        circle = {"name": "circle", "cx": 9, "cy": 9, "r": 4}
        shapes = polygon((1, 1), (9, 1), (9, 9)), rect(), circle
        via(made, *[region(shape, kind="dog") for shape in shapes])

    folder = _folder(tmp_path_factory, "via", make)
    data = _original(folder / "via_region_data.json")
    spoiled_json(folder / "via_region_data.json", data, seed, junk)
    answered(lambda: open_and_read(folder))


@fuzz("labelme")
@given(seed=SEEDS, junk=st.one_of(JUNK, CLAIMS))
def test_labelme(tmp_path_factory, seed, junk):
    def make(made):
        png = io.BytesIO()
        Image.new("L", (11, 6), 255).save(png, "PNG")
        mask = base64.b64encode(png.getvalue()).decode()
        labelme(
            made, box_shape(), box_shape("cat"), {**box_shape(), "shape_type": "mask", "mask": mask}
        )

    folder = _folder(tmp_path_factory, "labelme", make)
    data = _original(folder / "a.json")
    spoiled_json(folder / "a.json", data, seed, junk)
    answered(lambda: open_and_read(folder))


@fuzz("voc")
@given(seed=SEEDS, junk=st.one_of(JUNK, CLAIMS))
def test_voc(tmp_path_factory, seed, junk):
    folder = _folder(
        tmp_path_factory, "voc", lambda made: voc(made, voc_object(), voc_object("cat", 1, 1, 9, 9))
    )
    file = folder / "Annotations" / "2007_000001.xml"
    file.write_bytes(spoiled_xml(_original_bytes(file), seed, junk))
    answered(lambda: open_and_read(folder))


@fuzz("yolo")
@given(seed=SEEDS, junk=st.one_of(JUNK, CLAIMS))
def test_yolo(tmp_path_factory, seed, junk):
    def make(made):
        write_image(made / "images" / "train" / "a.png")
        labels = made / "labels" / "train"
        labels.mkdir(parents=True)
        (labels / "a.txt").write_text("0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.5 0.1 0.5 0.5\n")
        (made / "data.yaml").write_text(
            "path: .\ntrain: images/train\nnames:\n  0: dog\n  1: cat\n"
        )

    folder = _folder(tmp_path_factory, "yolo", make)
    file = folder / random.Random(seed).choice(["data.yaml", "labels/train/a.txt"])
    for other in (folder / "data.yaml", folder / "labels/train/a.txt"):
        other.write_bytes(_original_bytes(other))
    file.write_bytes(spoiled_words(_original_bytes(file), seed, junk))
    answered(lambda: open_and_read(folder))


@fuzz("cvat")
@given(seed=SEEDS, junk=st.one_of(JUNK, CLAIMS))
def test_cvat(tmp_path_factory, seed, junk):
    def make(made):
        write_image(made / "images" / "a.png")
        shapes = (
            '<polygon label="dog" points="1,1;9,1;9,9" z_order="0"/>'
            '<box label="cat" xtl="3" ytl="4" xbr="20" ybr="21"/>'
            '<ellipse label="cat" cx="9" cy="9" rx="4" ry="3"/>'
            '<mask label="dog" rle="3, 5, 8, 4" left="2" top="3" width="5" height="4"/>'
        )
        image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
        (made / "annotations.xml").write_text(
            f"<annotations><version>1.1</version>{image}</annotations>"
        )

    folder = _folder(tmp_path_factory, "cvat", make)
    file = folder / "annotations.xml"
    file.write_bytes(spoiled_xml(_original_bytes(file), seed, junk))
    answered(lambda: open_and_read(folder))


FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")
MODES = ("L", "RGB", "P", "I;16", "F", "1", "CMYK")


def _image_files():
    files = []
    noise = np.random.default_rng(0).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    for kind in FORMATS:
        for mode in MODES:
            file = io.BytesIO()
            image = Image.fromarray(noise)
            if mode == "I;16":
                image = image.convert("L").convert("I")
            image = image.convert(mode)
            try:
                image.save(file, kind)
            except (OSError, KeyError, ValueError):  # the format does not have this mode
                continue
            files.append(file.getvalue())
    return files


IMAGES = _image_files()


@fuzz("images")
@given(seed=SEEDS, magic=st.binary(max_size=40), which=st.integers(0, len(IMAGES) - 1))
def test_images(tmp_path_factory, seed, magic, which):
    file = _folder(tmp_path_factory, "images", lambda made: None) / "a.png"
    rng = random.Random(seed)
    file.write_bytes(magic if rng.random() < 0.1 else damaged(IMAGES[which], seed))
    answered(lambda: read_image(file))
    answered(lambda: read_size(file))


@fuzz("labels")
@given(seed=SEEDS, which=st.integers(0, len(IMAGES) - 1))
def test_label_images(tmp_path_factory, seed, which):
    folder = _folder(
        tmp_path_factory, "labels", lambda made: instance_images(made, np.zeros((24, 20), np.uint8))
    )
    (folder / "masks" / "a.png").write_bytes(damaged(IMAGES[which], seed))
    answered(lambda: open_and_read(folder))


NAMES = sorted(name for name in dir(Config) if name.isupper())


@fuzz("config")
@given(name=st.one_of(st.sampled_from(NAMES), st.text(max_size=20)), value=st.one_of(JUNK, CLAIMS))
def test_config(name, value):
    def read():
        values = {"NUM_CLASSES": 3, name: value}
        config = Config.from_dict(values)
        assert type(config) is Config
        config.validate()

    answered(read)


@pytest.fixture(scope="module")
def network():
    """Four small layers with the optimizer that a training state keeps."""
    import keras

    layers = [
        keras.layers.Conv2D(4, 3, name=name)
        for name in ("conv1", "rpn_conv_shared", "mrcnn_mask_conv1")
    ]
    model = keras.Sequential(
        [keras.Input([16, 16, 3]), *layers, keras.layers.Dropout(0.5, name="dropout")]
    )
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    return model


def _damaged_hdf5(file, seed):
    """Change an entry of the file's structure with h5py, or some of its bytes."""
    rng = random.Random(seed)
    file.write_bytes(_original_bytes(file))
    if rng.random() < 0.7:
        file.write_bytes(damaged(_original_bytes(file), seed))
        return
    with h5py.File(file, "r+") as content:
        groups = [content, *(content[name] for name in content)]
        group = rng.choice(groups)
        name = rng.choice([*group.attrs, *group, "new"])
        if name in group:
            del group[name]
        change = rng.randrange(6)
        if change == 0:
            group.attrs[name] = rng.choice(["x", b"x", 1.0, np.zeros(3), ["a", "b"]])
        elif change == 1:
            group[name] = h5py.ExternalLink("/etc/passwd", "/x")
        elif change == 2:
            group[name] = h5py.SoftLink("/conv1")
        elif change == 3:
            group.create_dataset(name, shape=(2**31, 2**4), dtype="f8", chunks=(2**20, 1))
        elif change == 4:
            group.create_dataset(name, shape=(8,), dtype="f4", external=[("/etc/passwd", 0, 32)])
        else:
            group[name] = np.full((3, 3, 3, 4), np.nan, np.float32)


def _kind(path):
    with WeightFile(path) as file:
        assert file.kind in ("matterport", "backbone", "keras", "unknown")


@fuzz("weights")
@given(seed=SEEDS)
def test_weight_files(tmp_path_factory, network, seed):
    folder = _folder(tmp_path_factory, "weights", lambda made: save_weights(network, made / "w.h5"))
    _damaged_hdf5(folder / "w.h5", seed)
    answered(lambda: read_metadata(folder / "w.h5"))
    answered(lambda: check_file(folder / "w.h5"))
    answered(lambda: _kind(folder / "w.h5"))
    answered(lambda: load_weights(network, folder / "w.h5"))
    assert all(np.isfinite(value).all() for value in network.get_weights())


@fuzz("state")
@given(seed=SEEDS)
def test_training_states(tmp_path_factory, network, seed):
    folder = _folder(
        tmp_path_factory,
        "state",
        lambda made: state.save_state(str(made / "s.hdf5"), network, {"epoch": 1}),
    )
    _damaged_hdf5(folder / "s.hdf5", seed)
    answered(lambda: state.read_record(str(folder / "s.hdf5")))
    answered(lambda: state.restore_state(str(folder / "s.hdf5"), network))


# --- Damage ---


def damaged(content: bytes, seed) -> bytes:
    """Cut the content off, change bytes, or replace 32-bit numbers by large ones."""
    rng = random.Random(seed)
    if rng.random() < 0.6 or len(content) < 12:
        return cut_or_changed(content, seed)
    changed = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(min(len(changed), 200) - 4)
        number = rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 100_000, 30_000])
        changed[place : place + 4] = number.to_bytes(4, rng.choice(["little", "big"]))
    return bytes(changed)


def spoiled_xml(content: bytes, seed, junk) -> bytes:
    """Damage the content, or replace a value between > and < or quotes by junk."""
    rng = random.Random(seed)
    if rng.random() < 0.3:
        return cut_or_changed(content, seed)
    text = content.decode()
    places = [found.span(1) for found in re.finditer(r'(?<=[>"])([^<>"]+)(?=[<"])', text)]
    start, end = rng.choice(places)
    return (text[:start] + str(junk) + text[end:]).encode("utf-8", "replace")


def spoiled_words(content: bytes, seed, junk) -> bytes:
    """Damage the content, or replace one word by junk."""
    rng = random.Random(seed)
    if rng.random() < 0.3:
        return cut_or_changed(content, seed)
    words = content.decode().split(" ")
    words[rng.randrange(len(words))] = str(junk)
    return " ".join(words).encode("utf-8", "replace")


_FOLDERS = {}
_ORIGINALS = {}


def _folder(factory, kind, make):
    """One folder per kind, created once: 10,000 folders would be slow to write."""
    if kind not in _FOLDERS:
        _FOLDERS[kind] = factory.mktemp(kind)
        make(_FOLDERS[kind])
    return _FOLDERS[kind]


def _original_bytes(file):
    return _ORIGINALS.setdefault(file, file.read_bytes())


def _original(file):
    return json.loads(_original_bytes(file))
