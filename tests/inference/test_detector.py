"""Detection from images to results: `Detector`, and `MaskRCNN.detect` that hands on to it."""

import gc
import re
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tiny
from kinds import KINDS
from PIL import Image
from tiny import TinyConfig, assert_same_results, keys_of, noise_images, shake

from mrcnn.data.image import mold_image
from mrcnn.formats.rle import mask_to_rle
from mrcnn.inference.detector import CACHED_SHAPES, AnchorCache, Detector
from mrcnn.inference.fuse_batch_norm import BatchNormFusedModel
from mrcnn.inference.result import Result
from mrcnn.model import MaskRCNN
from mrcnn.nn import boxes
from mrcnn.nn.molding import mold_on_device

pytestmark = pytest.mark.usefixtures("eagerly")


def build(**values):
    return shake(MaskRCNN("inference", TinyConfig(**values)))


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module", params=KINDS)
def any_model(request):
    """A model of each network."""
    return tiny.build(request.param)


@pytest.fixture
def config(model):
    """The model's config, which gets its former values back after the test."""
    before = dict(model.config.__dict__)
    yield model.config
    model.config.__dict__.clear()
    model.config.__dict__.update(before)


def same(a, b):
    return all(np.array_equal(a[key], b[key]) for key in ("rois", "class_ids", "scores", "masks"))


def network_inputs(model, images):
    """The inputs of `predict` and of `keras_model` for a list of images of one size."""
    molded, metas, _ = model.mold_inputs(images)
    anchors = model.get_anchors(molded.shape[1:])
    return [molded, metas, np.broadcast_to(anchors, (len(images), *anchors.shape))]


# --- Results ---


def test_empty_list_gives_empty_list(any_model):
    assert any_model.detect([]) == []


ZOO = {
    "CONTINUOUS_BOXES": True,
    "IMAGE_MIN_DIM": 40,
    "IMAGE_MAX_DIM": 96,
    "ROUND_ANCHORS": True,
    "SYMMETRIC_PADDING": True,
    "MASK_THRESHOLD": 0.4,
    "MEAN_PIXEL": np.array([123.675, 116.28, 103.53]),
    "STD_PIXEL": np.array([58.395, 57.12, 57.375]),
}


@pytest.mark.parametrize("mode", ["torchvision", "detectron2"])
def test_detection_by_the_rules_of_other_libraries(mode):
    """Images of several sizes, whose padded sides are odd multiples of 32."""
    model = build(IMAGE_RESIZE_MODE=mode, MASK_PASTE=mode, **ZOO)
    images = noise_images(3, sizes=[(60, 100), (60, 100), (90, 45)])
    results = model.detect(images)
    for image, result in zip(images, results, strict=True):
        height, width = image.shape[:2]
        n = len(result["rois"])
        assert n > 0 and result["rois"].dtype == np.float32
        assert (result["rois"] >= 0).all()
        assert (result["rois"] <= [height, width, height, width]).all()
        assert (np.diff(result["scores"]) <= 0).all()
        assert result["masks"].shape == (height, width, n)
        for i, (y1, x1, y2, x2) in enumerate(boxes.outward(result["rois"]).tolist()):
            outside = result["masks"][:, :, i].copy()
            outside[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = False
            assert outside.sum() < 0.1 * max(1, result["masks"][:, :, i].sum())
    one_by_one = [model.detect([image])[0] for image in images]  # the first two are one batch
    for one, result in zip(one_by_one, results, strict=True):
        np.testing.assert_allclose(one["rois"], result["rois"], atol=1e-3)
        np.testing.assert_array_equal(one["class_ids"], result["class_ids"])
    (crops,) = model.detect(images[:1], masks="crop")
    for i, (y1, x1, y2, x2) in enumerate(boxes.outward(crops["rois"]).tolist()):
        assert crops["masks"][i].shape == (y2 - y1, x2 - x1)
    tiled = model.detect_tiled(np.concatenate(images[:2], axis=1), tile=64, overlap=16)
    assert tiled["rois"].dtype == np.float32 and len(tiled["rois"])


@pytest.mark.parametrize("count", [1, 3])
def test_images_of_any_number_and_size_are_detected(any_model, count):
    images = noise_images(count, sizes=[(64, 64), (30, 90), (150, 70)])
    results = any_model.detect(images)
    assert len(results) == count
    kind = "f" if any_model.config.CONTINUOUS_BOXES else "i"
    for image, result in zip(images, results, strict=True):
        assert set(result) == keys_of(any_model)
        height, width = image.shape[:2]
        n = len(result["rois"])
        assert 0 < n <= 10
        assert result["rois"].shape == (n, 4)
        assert (result["rois"].dtype.kind, result["rois"].dtype.itemsize) == (kind, 4)
        assert result["class_ids"].shape == (n,) and result["class_ids"].dtype == np.int32
        assert result["scores"].shape == (n,) and result["scores"].dtype == np.float32
        assert (np.diff(result["scores"]) <= 0).all()
        assert set(result["class_ids"]) <= {1, 2}
        assert (result["rois"] >= 0).all()
        assert (result["rois"] <= [height, width, height, width]).all()
        if "keypoints" in result:
            assert result["keypoints"].shape == (n, 3, 3)
        if "masks" in result:
            assert result["masks"].shape == (height, width, n) and result["masks"].dtype == bool
            for i, (y1, x1, y2, x2) in enumerate(result["rois"]):
                outside = result["masks"][:, :, i].copy()
                outside[y1:y2, x1:x2] = False
                assert not outside.any()


def test_detector_needs_no_model_object(model):
    """As serving and exports use it."""
    names = ["BG", "light", "dark"]
    detector = Detector(model.keras_model, model.config, names)
    images = noise_images(2, sizes=[(64, 64), (40, 90)])
    assert all(map(same, detector.detect(images), model.detect(images)))
    molded, metas, _ = detector.mold_inputs(images)
    assert all(map(same, detector.detect_molded(molded, metas), model.detect_molded(molded, metas)))
    tiled = detector.detect_tiled(noise_images(1, sizes=[(100, 64)])[0])
    assert len(tiled["rois"]) == len(tiled["masks"]) > 0
    found = detector.run_graph(images, [("p2", model.keras_model.get_layer("fpn_p2").output)])
    assert found["p2"].shape == (2, 16, 16, 32)


def test_detector_takes_the_function_that_reads_the_outputs(model):
    """A network of another kind needs one function to become a detector."""

    def best_only(outputs, config):
        detections, class_probs, masks = model.keras_model.read_outputs(outputs, config)
        return [detections[:, :1], class_probs, masks[:, :1]]

    detector = Detector(model.keras_model, model.config, read_outputs=best_only)
    (result,) = detector.detect(noise_images(1))
    (expected,) = model.detect(noise_images(1))
    np.testing.assert_array_equal(result["rois"], expected["rois"][:1])
    np.testing.assert_array_equal(result["masks"], expected["masks"][:, :, :1])


def test_batch_of_two_gives_the_outputs_of_two_batches_of_one(model, compiled):
    inputs = network_inputs(model, noise_images(2))
    for run, output_count in ((model.predict, 3), (model.keras_model.predict_on_batch, 7)):
        together = run(inputs)
        assert len(together) == output_count
        for i in range(2):
            alone = run([x[i : i + 1] for x in inputs])
            for both, one in zip(together, alone, strict=True):
                np.testing.assert_allclose(both[i], one[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("values", [{}, {"CLASS_AGNOSTIC_MASK": True}])
@pytest.mark.parametrize("optimized", [False, True])
def test_predict_selects_the_mask_of_each_detections_class(values, optimized):
    model = build(DETECTION_NMS_THRESHOLD=0.9, **values)
    inputs = network_inputs(model, noise_images(2))
    probs = model.keras_model(inputs, training=False)[1].numpy()
    logits = model.keras_model.get_layer("mrcnn_class_logits")
    kernel, bias = logits.get_weights()
    gain = float(np.median(np.log(probs[..., 2] / probs[..., 1])))
    logits.set_weights([kernel, bias + [-99.0, gain, 0.0]])  # neither class wins everywhere
    network = model.keras_model
    if optimized:
        model.optimize_for_inference()
        network = BatchNormFusedModel(model.keras_model)
    detections, probs, masks = model.predict(inputs)
    expected = network(inputs)
    np.testing.assert_allclose(detections, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(probs, expected[1], rtol=1e-5, atol=1e-5)
    class_ids = detections[..., 4].astype(int)
    assert set(class_ids.ravel().tolist()) >= {1, 2}
    channels = np.zeros_like(class_ids) if "CLASS_AGNOSTIC_MASK" in values else class_ids
    channels = channels[:, :, None, None, None]  # [B, D, 1, 1, 1]
    own_masks = np.take_along_axis(expected[3].numpy(), channels, axis=-1)
    np.testing.assert_allclose(masks, own_masks, atol=1e-5)


def test_batch_size_does_not_change_results(any_model):
    images = noise_images(2)
    assert any_model.config.BATCH_SIZE == 2
    for both, image in zip(any_model.detect(images), images, strict=True):
        (alone,) = any_model.detect([image])
        np.testing.assert_array_equal(both["class_ids"], alone["class_ids"])
        np.testing.assert_array_equal(both["rois"], alone["rois"])
        np.testing.assert_allclose(both["scores"], alone["scores"], rtol=1e-5)


def test_generator_is_read_one_batch_ahead(model, monkeypatch):
    images = noise_images(7, sizes=[(64, 64), (40, 90)])
    read = []
    calls = []  # (images in the batch, images read when it is predicted)
    predict = model.predict

    def recording_predict(inputs):
        calls.append((len(inputs[0]), len(read)))
        return predict(inputs)

    def reading():
        for image in images:
            read.append(image)
            yield image

    monkeypatch.setattr(model, "predict", recording_predict)
    results = model.detect(reading(), batch_size=3)
    assert [batch for batch, _ in calls] == [3, 3, 1]
    assert all(3 * (i + 1) <= count <= 3 * (i + 2) for i, (_, count) in enumerate(calls[:2]))
    for result, expected in zip(results, model.detect(images, batch_size=3), strict=True):
        assert same(result, expected)


def test_error_of_a_generator_reaches_the_caller(any_model):
    def failing():
        yield from noise_images(2)
        raise OSError("the camera is gone")

    with pytest.raises(OSError, match="the camera is gone"):
        any_model.detect(failing())


def test_mask_forms_crop_and_rle_equal_full_masks(model):
    images = noise_images(1, sizes=[(90, 60)])
    (full,) = model.detect(images)
    (crop,) = model.detect(images, masks="crop")
    (rle,) = model.detect(images, masks="rle")
    assert len(full["rois"]) == len(crop["masks"]) == len(rle["masks"]) == 10
    for i, (y1, x1, y2, x2) in enumerate(full["rois"]):
        mask = full["masks"][:, :, i]
        np.testing.assert_array_equal(crop["masks"][i], mask[y1:y2, x1:x2])
        assert rle["masks"][i] == mask_to_rle(mask)
    for name in ("rois", "class_ids", "scores"):
        np.testing.assert_array_equal(crop[name], full[name])
        np.testing.assert_array_equal(rle[name], full[name])


@pytest.mark.parametrize("shape", [(30, 50, 3), (30, 50), (4, 30, 50)])
def test_single_image_without_a_list_is_an_error_of_the_steps(any_model, shape):
    for method in (any_model.detector.detect, any_model.mold_inputs):
        with pytest.raises(
            ValueError, match=r"must be a list of images.*Received: an array.*\[image\]"
        ):
            method(np.zeros(shape, np.uint8))


def test_path_without_a_list_is_an_error_of_the_detector(model):
    with pytest.raises(ValueError, match=r"Received: a.png. Try detect\(\[image\]\)"):
        model.detector.detect("a.png")


def test_stack_of_gray_images_is_no_image(model):
    with pytest.raises(ValueError, match=r"Try list\(images\)"):
        model.detect(np.zeros((4, 30, 50), np.uint8))


@pytest.fixture
def file(tmp_path):
    """The path of a file of noise, and its pixels."""
    (image,) = noise_images(1, sizes=[(40, 60)])
    Image.fromarray(image).save(tmp_path / "a.png")
    return str(tmp_path / "a.png"), image


def test_one_image_gives_one_result(model, file):
    path, image = file
    (expected,) = model.detect([image])
    assert type(expected) is Result and expected.path is None
    for one in (image, path, Path(path), Image.open(path)):
        result = model.detect(one)
        assert type(result) is Result and same(result, expected)
        assert result.image_shape == (40, 60) and result.class_names == ["BG", "class 1", "class 2"]
    assert model.detect(path).path == path
    np.testing.assert_array_equal(model.detect(path).plot(), expected.plot(image))


def test_lists_and_generators_of_mixed_images_give_lists(model, file):
    path, image = file
    images = [path, noise_images(1)[0], Image.open(path), Path(path)]
    for several in (images, (one for one in images), tuple(images)):
        results = model.detect(several)
        assert [result.path for result in results] == [path, None, None, path]
        assert [result.image_shape for result in results] == [(40, 60), (64, 64)] + 2 * [(40, 60)]
    assert isinstance(model.detect([path]), list)
    assert isinstance(model.detect(np.stack(noise_images(2))), list)


def test_missing_file_of_a_list_is_named(model, file):
    with pytest.raises(ValueError, match="must exist. Received: .*missing.png"):
        model.detect([file[0], str(Path(file[0]).with_name("missing.png"))])


def test_results_do_not_hold_their_images(model):
    image = noise_images(1)[0]
    held = weakref.ref(image)
    result = model.detect(image)
    del image
    gc.collect()
    assert held() is None and result.count


def test_progress_of_tiles_is_logged_and_not_printed(model, monkeypatch, capsys, caplog):
    monkeypatch.setattr("mrcnn.data.progress.LINE_SECONDS", 0)
    image = np.concatenate(noise_images(2), axis=1)
    with caplog.at_level("INFO", logger="mrcnn"):
        model.detect_tiled(image, tile=64, overlap=16)
        assert "Detecting" not in caplog.text
        model.detect_tiled(image, tile=64, overlap=16, verbose=1)
    assert "Detecting: 1 of" in caplog.text and "tiles, 0:" in caplog.text
    assert "Detecting" not in capsys.readouterr().out


def test_tiled_and_molded_images_give_results(model, file):
    path, image = file
    tiled = model.detect_tiled(path, tile=64, overlap=16)
    whole = model.detect_tiled(image, tile=64, overlap=16)
    np.testing.assert_array_equal(tiled.masks, whole.masks)
    assert (tiled.path, tiled.image_shape, whole.path) == (path, (40, 60), None)
    molded, metas, _ = model.mold_inputs([image])
    (result,) = model.detect_molded(molded, metas)
    assert type(result) is Result and result.image_shape == (64, 64)


def test_invalid_arguments_are_errors(any_model):
    with pytest.raises(
        ValueError, match="masks must be one of full, crop, rle, soft. Received: 'polygon'"
    ):
        any_model.detect(noise_images(1), masks="polygon")
    with pytest.raises(ValueError, match="batch_size must be at least 1. Received: 0"):
        any_model.detect(noise_images(1), batch_size=0)


@pytest.mark.parametrize("shape", [(1, 3000, 3), (3000, 1, 3), (8, 1024, 3)])
def test_image_of_one_molded_row_is_detected_without_warning(model, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (result,) = model.detect([image])
    height, width = shape[:2]
    assert len(result["rois"]) and (result["rois"] >= 0).all()
    assert (result["rois"] <= [height, width, height, width]).all()


def test_detect_molded_gives_pixels_of_the_molded_image(any_model):
    images = noise_images(1)
    molded, metas, _ = any_model.mold_inputs(images)
    (found,) = any_model.detect_molded(molded, metas)
    assert_same_results(found, any_model.detect(images)[0])


# --- Image types ---


def test_grey_rgba_and_16_bit_images_are_converted(any_model):
    grey = noise_images(1)[0][:, :, 0]
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    expected = any_model.detect([rgb])[0]
    assert_same_results(any_model.detect([grey])[0], expected)
    assert_same_results(any_model.detect([np.dstack([rgb, grey])])[0], expected)
    assert_same_results(any_model.detect([rgb.astype(np.uint16) * 257])[0], expected)
    assert_same_results(any_model.detect([rgb / 255.0])[0], expected)


def test_molded_image_gives_a_warning_and_the_result_of_its_original(any_model, caplog):
    image = noise_images(1)[0]
    with caplog.at_level("WARNING", "mrcnn"):
        result = any_model.detect([mold_image(image, any_model.config)])[0]
    assert "looks already molded" in caplog.text
    assert_same_results(result, any_model.detect([image])[0])
    grey = image[:, :, 0].astype(np.float32) - 120  # has one channel, and the mean has three
    any_model.detect([grey])


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((0, 5, 3), np.uint8), "An image must have pixels. Received: image 0"),
        (np.zeros((5, 5, 7), np.uint8), "IMAGE_CHANNEL_COUNT = 3 channels. Received: image 0"),
        (np.zeros(5, np.uint8), "An image must be .height, width"),
    ],
)
def test_array_that_is_no_image_is_an_error(any_model, image, sentence):
    with pytest.raises(ValueError, match=sentence):
        any_model.detect([image])


# --- Thresholds and reports ---


def highest_iou_within_a_class(result):
    """The largest IoU of two detections of one class."""
    same_class = result["class_ids"][:, None] == result["class_ids"][None]
    overlaps = boxes.iou(result["rois"], result["rois"]) * same_class
    return (overlaps - np.eye(len(overlaps))).max()


def test_changed_thresholds_take_effect_at_the_next_detect(model, config, compiled):
    image = noise_images(1, seed=2, sizes=[(640, 640)])  # large: a box is rounded to its pixels
    everything = model.detect(image)[0]
    config.DETECTION_MIN_CONFIDENCE = float(np.median(everything["scores"]))
    fewer = model.detect(image)[0]
    assert 0 < len(fewer["scores"]) < len(everything["scores"])
    assert (fewer["scores"] >= config.DETECTION_MIN_CONFIDENCE).all()
    config.DETECTION_MIN_CONFIDENCE = 0.0
    config.DETECTION_MAX_INSTANCES = 2
    assert len(model.detect(image)[0]["scores"]) == 2
    config.DETECTION_MAX_INSTANCES = 10
    config.DETECTION_NMS_THRESHOLD = 0.01
    suppressed = model.detect(image)[0]
    assert highest_iou_within_a_class(everything) > 0.1 >= highest_iou_within_a_class(suppressed)
    config.DETECTION_NMS_THRESHOLD = 0.3
    assert same(model.detect(image)[0], everything)


def test_soft_nms_and_box_voting_take_effect_at_the_next_detect(model, config, compiled):
    image = noise_images(1, seed=2, sizes=[(640, 640)])
    config.DETECTION_NMS_THRESHOLD = 0.01
    hard = model.detect(image)[0]
    config.DETECTION_NMS = "gaussian"
    soft = model.detect(image)[0]
    assert len(soft["scores"]) > len(hard["scores"])
    config.SOFT_NMS_SIGMA = 0.01
    lower = model.detect(image)[0]
    assert lower["scores"].sum() < soft["scores"].sum()
    config.BOX_VOTING_IOU = 0.3
    voted = model.detect(image)[0]
    np.testing.assert_array_equal(voted["scores"], lower["scores"])
    assert not np.array_equal(voted["rois"], lower["rois"])


def test_class_agnostic_suppression_takes_effect_at_the_next_detect(model, config, compiled):
    config.DETECTION_NMS_THRESHOLD = 0.01
    image = noise_images(1, seed=3)
    per_class = model.detect(image)[0]
    config.CLASS_AGNOSTIC_NMS = True
    across = model.detect(image)[0]
    assert 0 < len(across["rois"]) < len(per_class["rois"])
    overlaps = boxes.iou(across["rois"], across["rois"]) - np.eye(len(across["rois"]))
    assert overlaps.max() < 0.2  # of boxes rounded to pixels, and they are small


def test_empty_result_has_its_shapes_and_a_reason(model, config, capsys):
    image = noise_images(1, sizes=[(30, 50)])
    best = model.detect(image)[0]
    config.DETECTION_MIN_CONFIDENCE = threshold = float(best["scores"][0]) + 1e-4
    (found,) = model.detect(image, verbose=1)
    shapes = [found[key].shape for key in ("rois", "class_ids", "scores", "masks")]
    assert shapes == [(0, 4), (0,), (0,), (30, 50, 0)]
    text = capsys.readouterr().out
    assert f"the best score was {best['scores'][0]:.3f} (class {best['class_ids'][0]})" in text
    assert f"DETECTION_MIN_CONFIDENCE = {threshold}" in text


def test_reason_of_an_empty_result_names_the_class(model, config, capsys, monkeypatch):
    monkeypatch.setattr(model, "class_names", ["BG", "light", "dark"])
    config.DETECTION_MIN_CONFIDENCE = 1.0
    model.detect(noise_images(1), verbose=1)
    assert re.search(r"the best score was \d\.\d+ \((light|dark)\)", capsys.readouterr().out)


def test_detect_prints_only_if_verbose(model, capsys):
    model.detect(noise_images(1))
    assert capsys.readouterr().out == ""
    model.detect(noise_images(1), verbose=1)
    assert "Processing 1 images" in capsys.readouterr().out


def test_verbose_prints_the_milliseconds_of_each_step(model, capsys):
    model.detect(iter(noise_images(3)), verbose=1, batch_size=2)
    text = capsys.readouterr().out
    assert text.startswith("Processing images\n")
    pattern = r"^Preparing (\d+) ms, network (\d+) ms, finishing (\d+) ms$"
    steps = re.findall(pattern, text, re.MULTILINE)
    assert len(steps) == 2 and all(int(network) > 0 for _, network, _ in steps)


# --- Molding on a GPU ---


@pytest.fixture
def sent(model, monkeypatch):
    """A list that collects the images sent to the network while TensorFlow reports a GPU."""
    images = []
    predict = model.predict

    def recording_predict(inputs):
        images.append(inputs[0])
        return predict(inputs)

    gpus = [SimpleNamespace(device_type="GPU")]
    monkeypatch.setattr(model, "predict", recording_predict)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: gpus)
    return images


def test_gpu_gets_uint8_and_gives_the_same_results(model, sent, monkeypatch, capsys):
    images = noise_images(2, sizes=[(64, 64), (40, 90)])
    on_gpu = model.detect(images, verbose=1)
    assert "images, molded on the GPU" in capsys.readouterr().out
    monkeypatch.undo()
    assert len(on_gpu[0]["rois"]) > 0
    assert all(map(same, on_gpu, model.detect(images)))
    (resized,) = sent
    assert resized.dtype == np.uint8 and resized.shape == (2, 64, 64, 3)
    molded = mold_on_device(tf.constant(resized), model.config)
    np.testing.assert_array_equal(molded, model.mold_inputs(images)[0])


# --- Steps that a subclass or a script replaces ---


@pytest.mark.parametrize("place", ["class", "instance"])
def test_replaced_mold_inputs_is_used_on_a_gpu_too(model, sent, place, monkeypatch):
    def zeros(images):
        molded, metas, windows = MaskRCNN.mold_inputs(model, images)
        return 0 * molded, metas, windows

    if place == "instance":
        monkeypatch.setattr(model, "mold_inputs", zeros)
    else:
        own_class = type("Own", (MaskRCNN,), {"mold_inputs": lambda self, x: zeros(x)})
        monkeypatch.setattr(model, "__class__", own_class)
    model.detect(noise_images(1))
    (molded,) = sent
    assert molded.dtype == np.float32 and not molded.any()


def test_replaced_get_anchors_and_unmold_detections_are_used():
    class Own(MaskRCNN):
        """With matterport's signatures."""

        def get_anchors(self, image_shape):
            self.asked_for = tuple(image_shape)
            return super().get_anchors(image_shape)

        def unmold_detections(
            self, detections, mrcnn_mask, original_image_shape, image_shape, window
        ):
            parts = super().unmold_detections(
                detections, mrcnn_mask, original_image_shape, image_shape, window
            )
            return tuple(part[..., :1] if part.ndim == 3 else part[:1] for part in parts)

    model = shake(Own("inference", TinyConfig()))
    (result,) = model.detect(noise_images(1))
    assert model.asked_for == (64, 64, 3)
    assert len(result["rois"]) == 1 and result["masks"].shape == (64, 64, 1)


def test_replaced_network_is_used():
    model = build()
    (before,) = model.detect(noise_images(1))
    model.keras_model = shake(MaskRCNN("inference", TinyConfig()), seed=1).keras_model
    (after,) = model.detect(noise_images(1))
    assert not same(before, after)


# --- Anchors ---


def test_anchors_are_copied_to_the_device_once_per_size(model):
    small, large = np.zeros((2, 64, 64, 3)), np.zeros((1, 128, 64, 3))
    detector = model.detector
    anchors = detector._batch_of_anchors(small, model)
    np.testing.assert_array_equal(anchors, [model.get_anchors((64, 64))] * 2)
    copied = detector._device_anchors
    detector._batch_of_anchors(small[:1], model)
    assert detector._device_anchors is copied
    anchors = detector._batch_of_anchors(large, model)
    np.testing.assert_array_equal(anchors, [model.get_anchors((128, 64))])
    detector._batch_of_anchors(small, model)
    assert detector._device_anchors[1] is copied[0]


def test_anchors_are_available_in_pixels(model):
    normalised = model.get_anchors((64, 64, 3))
    assert normalised.shape == model.anchors.shape == (1023, 4)
    # the first anchor of P2: 8 pixels, ratio 0.5, centred on the first cell's corner
    height, width = 8 / np.sqrt(0.5), 8 * np.sqrt(0.5)
    expected = [-height / 2, -width / 2, height / 2, width / 2]
    np.testing.assert_allclose(model.anchors[0], expected)
    np.testing.assert_allclose(normalised, boxes.normalize(model.anchors, (64, 64)))
    assert model.get_anchors((128, 64)).shape == (2046, 4)


def test_anchors_of_the_last_shapes_are_cached():
    """The sizes of test-time augmentation take turns."""
    cache, config = AnchorCache(), TinyConfig()
    widths = [64 * i for i in range(1, CACHED_SHAPES + 1)]
    first = [cache.get((64, width, 3), config) for width in widths]
    assert [anchors.image_shape for anchors in first] == [(64, width) for width in widths]
    assert all(cache.get((64, anchors.image_shape[1]), config) is anchors for anchors in first)
    cache.get((128, 64), config)
    assert cache.get((64, 128), config) is first[1]
    assert cache.get((64, 64), config) is not first[0]  # the oldest made place for another


# --- What a server loads ---


def test_detector_imports_only_what_a_server_needs():
    """TensorFlow is loaded with a network; it imports Keras, and Keras matplotlib."""
    code = """
import sys
from mrcnn.inference.detector import Detector
heavy = ("matplotlib", "skimage", "pycocotools", "imgaug", "tensorflow", "keras")
ours = ("mrcnn.training", "mrcnn.drawing")
print([name for name in sys.modules if name in heavy or name.startswith(ours)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
