"""Our network with torchvision's and detectron2's weights computes what theirs do, stage by stage.

The references are in `reference/torchvision` of the folder that MRCNN_SHARED names: one file per
network and run, `refs/<network>_<run>.npz`. Each file found there is checked. The weights are drawn
from a seed; the images are real.
"""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference.torchvision_image import torchvision_image

from mrcnn.data.image import read_image
from mrcnn.data.keypoints import decode_heatmaps
from mrcnn.detection_model import DetectionModel
from mrcnn.inference import detector
from mrcnn.inference.postprocessing import unmold_keypoints
from mrcnn.inference.preprocessing import mold
from mrcnn.nn.image_meta import META_COLUMNS

SHARED = Path(os.environ.get("MRCNN_SHARED", ""))
REFERENCE = SHARED / "reference" / "torchvision"
DETECTRON2 = "mask_rcnn_R_50_FPN_3x"
NETWORKS = (
    "maskrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
    DETECTRON2,
)
IMAGES = {"batch": "ab", "full": "a"}  # another run's name is that of its image
# Largest difference of torchvision's float32 from float64 (README of the references).
FLOAT64 = {"C2": 1.9e-4, "C3": 2.8e-4, "C4": 4.3e-4, "C5": 8.1e-4}
FLOAT64 |= dict.fromkeys(("P2", "P3", "P4", "P5", "P6", "P7"), 7.0e-4)
SHARE_OF_DEVIATION = 2e-3  # of every other stage
BOX_TOLERANCE = 0.1  # pixels of the resized image: twice the difference from float64
MAPS = {"C2": "res2c_out", "C3": "res3d_out", "C4": "res4f_out", "C5": "res5c_out"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs MRCNN_SHARED/reference/torchvision"),
]


class Run(NamedTuple):
    """One reference, and what our network computes for it."""

    model: DetectionModel
    images: list
    reference: dict
    outputs: dict
    sides: tuple  # (height, width) of the padded images
    scales: np.ndarray  # [B, (x, y)] pixels of the image for one of the resized image


def references():
    """Return (network, run, file) of all references."""
    found = [(DETECTRON2, "a", path) for path in (REFERENCE / "detectron2").glob("*_a.npz")]
    for path in sorted((REFERENCE / "refs").glob("*.npz")):
        network, _, run = path.stem.rpartition("_")
        found.append((network, run, path))
    return found


def test_references_are_of_networks_that_we_have():
    assert {network for network, _, _ in references()} <= set(NETWORKS)


RUNS = [row for row in references() if row[0] in NETWORKS]


@pytest.fixture(scope="module", params=RUNS, ids=lambda row: f"{row[0]}-{row[1]}")
def run(request, tmp_path_factory):
    network, name, path = request.param
    with np.load(path) as file:
        reference = dict(file)
    model = model_of(network, tmp_path_factory.mktemp("weights"))
    if name != "full":
        model.config.IMAGE_MIN_DIM, model.config.IMAGE_MAX_DIM = 320, 544
    images = [read_image(REFERENCE / "photos" / f"{one}.png") for one in IMAGES.get(name, name)]
    molded, metas = padded(images, model.config)
    outputs = stages(model, molded, metas)
    scales = np.stack([scale_of(*pair) for pair in zip(images, metas, strict=True)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "mold", mold_as_torchvision)
        yield Run(model, images, reference, outputs, molded.shape[1:3], scales)
    keras.backend.clear_session()


def model_of(network, folder):
    """Load the seeded weights from a file, as a user does."""
    sys.path.insert(0, str(REFERENCE))
    import rebuild

    sys.path.remove(str(REFERENCE))
    is_detectron2 = network == DETECTRON2
    tensors = rebuild.detectron2_state_dict() if is_detectron2 else rebuild.state_dict(network)
    path = folder / f"{network}.pkl"
    path.write_bytes(pickle.dumps({"model": dict(tensors)}))
    return DetectionModel.from_weights(path, model_dir=folder)


def mold_as_torchvision(image, config, *args, **kwargs):
    """Mold an image; where the original is torchvision's network, to the bits of its input."""
    molded = mold(image, config, *args, **kwargs)
    if config.IMAGE_RESIZE_MODE == "torchvision":
        y1, x1, y2, x2 = molded.window
        molded.image[y1:y2, x1:x2] = torchvision_image(image, y2 - y1, x2 - x1)
    return molded


def padded(images, config, mold_one=mold_as_torchvision):
    """Return molded images of a batch `[B, h, w, 3]`, padded to the largest, and their metas."""
    molded = [mold_one(image, config) for image in images]
    height, width = np.max([one.image.shape[:2] for one in molded], axis=0)
    batch = np.zeros((len(molded), height, width, 3), np.float32)
    metas = np.stack([one.meta for one in molded])
    for image, one in zip(batch, molded, strict=True):
        image[: one.image.shape[0], : one.image.shape[1]] = one.image
    metas[:, 4:6] = height, width
    return batch, metas


def scale_of(image, meta):
    """Return `(x, y)`: pixels of the image for one of the resized image."""
    y1, x1, y2, x2 = meta[META_COLUMNS["window"]]
    return np.float32([image.shape[1] / (x2 - x1), image.shape[0] / (y2 - y1)])


def stages(model, images, metas):
    """Return the values of every stage as NumPy arrays, by name."""
    network = model.keras_model
    layers = {layer.name: layer for layer in network.layers}
    names = {name: layer for name, layer in MAPS.items() if layer in layers}
    for level in (2, 3, 4, 5, 6, 7):
        norm = f"fpn_p{level}_bn"
        if f"fpn_p{level}" in layers:
            names[f"P{level}"] = norm if norm in layers else f"fpn_p{level}"
    names |= network_stages(model.config)
    inside = keras.Model(network.inputs, {k: layers[name].output for k, name in names.items()})
    anchors = np.repeat(model.get_anchors(images.shape[1:])[None], len(images), axis=0)
    compute = tf.function(lambda inputs: inside(inputs, training=False), autograph=False)
    inputs = [tf.constant(x, tf.float32) for x in (images, metas, anchors)]
    values = compute(inputs)
    outputs = {}
    for name, value in values.items():
        is_list = isinstance(value, list | tuple)  # of detections and what belongs to them
        outputs[name] = value[0].numpy() if is_list else value.numpy()
    if model.config.has_rpn():
        rpn = layers["rpn_model"]
        logits = [rpn(outputs[f"P{level}"])[0][..., 1].numpy() for level in (2, 3, 4, 5, 6)]
        outputs["rpn_logits"] = logits
    return {**outputs, "images": images, "metas": metas}


def network_stages(config):
    """Return the layers of the stages after the pyramid, by the names of the stages."""
    if not config.has_rpn():
        names = {"class_logits": "class_logits", "detections": f"{config.NETWORK}_detection"}
        if config.NETWORK == "fcos":
            return names | {"deltas": "sides", "centerness": "centerness"}
        return names | {"deltas": "deltas"}
    names = {name: name for name in ("ROI", "rpn_bbox", "mrcnn_class_logits")}
    names["detections"] = "mrcnn_detection"
    names |= {"box_pool": "roi_align_classifier", "box_deltas": "mrcnn_bbox"}
    if config.USE_MASK:
        names |= {"mask_pool": "roi_align_mask", "masks": "mrcnn_mask"}
    if config.NUM_KEYPOINTS:
        names |= {"keypoint_pool": "roi_align_keypoint", "keypoint_logits": "mrcnn_keypoint"}
    return names


def in_torch_order(boxes, sides):
    """Return normalized `(y1, x1, y2, x2)` as pixels `(x1, y1, x2, y2)`."""
    height, width = sides
    return (boxes * np.float32([height, width, height, width]))[..., [1, 0, 3, 2]]


def suffix(run, image):
    return f"_{image}" if f"final_{image}_boxes" in run.reference else ""


def assert_near_deviation(found, wanted):
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= SHARE_OF_DEVIATION * wanted.std()


def test_images_equal_the_reference(run):
    found, _ = padded(run.images, run.model.config, mold)
    if "images" in run.reference:
        wanted = run.reference["images"]
        step = found.shape[1] // wanted.shape[2]
        exact, found = (
            images.transpose(0, 3, 1, 2)[:, :, ::step, ::step]
            for images in (run.outputs["images"], found)
        )
        np.testing.assert_array_equal(exact, wanted)  # what the other tests begin with
    else:
        wanted = run.reference["resized_bgr"][..., ::-1] - run.model.config.MEAN_PIXEL
        height, width = wanted.shape[:2]
        found = found[0, :height, :width]
    np.testing.assert_allclose(found, wanted, atol=2e-5 * max(1, np.abs(wanted).max()))


def skip_unless(run, has_rpn):
    if run.model.config.has_rpn() != has_rpn:
        pytest.skip("a network of the other kind")


@pytest.mark.parametrize("name", FLOAT64)
def test_feature_maps_equal_the_reference(run, name):
    if name not in run.reference and not run.model.config.has_rpn():
        pytest.skip(f"the network has no {name}")
    if name == "P7" and run.model.config.has_rpn():
        pytest.skip("the network has no P7")
    wanted = run.reference[name]
    found = run.outputs[name].transpose(0, 3, 1, 2)
    is_small = found.shape[2] * found.shape[3] <= 400
    found = found[:, ::8] if is_small else found[:, ::8, ::4, ::4]
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 2 * FLOAT64[name]


def test_predictions_and_anchors_of_every_level_equal_the_reference(run):
    skip_unless(run, has_rpn=False)
    first = 0
    for level in (3, 4, 5, 6, 7):
        step, count = run.reference[f"steps_P{level}"]
        rows = slice(first, first + count)
        assert_near_deviation(
            run.outputs["class_logits"][:, rows][:, ::step], run.reference[f"logits_P{level}"]
        )
        deltas = run.outputs["deltas"][:, rows][:, ::step][..., [1, 0, 3, 2]]
        assert_near_deviation(deltas, run.reference[f"deltas_P{level}"])
        if "centerness" in run.outputs:
            centerness = run.outputs["centerness"][:, rows]
            assert_near_deviation(centerness, run.reference[f"centerness_P{level}"])
        assert_anchors_equal(run, level, run.model.anchors[rows])
        first += count
    assert first == run.outputs["deltas"].shape[1]


def assert_anchors_equal(run, level, anchors):
    anchors = anchors[:, [1, 0, 3, 2]]
    for part, rows in (("head", anchors[:30]), ("tail", anchors[-30:])):
        wanted = run.reference[f"anchors_P{level}_{part}"]
        np.testing.assert_allclose(rows, wanted, atol=1e-4)


def test_rpn_and_anchors_equal_the_reference(run):
    skip_unless(run, has_rpn=True)
    first = 0
    for level, logits in enumerate(run.outputs["rpn_logits"], start=2):
        count = logits.shape[1]
        steps = run.reference[f"rpn_steps_P{level}"]
        deltas = run.outputs["rpn_bbox"][:, first : first + count][..., [1, 0, 3, 2]]
        for name, found, step in (("logits", logits, steps[0]), ("deltas", deltas, steps[1])):
            found = found[:, ::step]
            wanted = run.reference[f"rpn_{name}_P{level}"]  # detectron2's without the batch axis
            assert_near_deviation(found, wanted.reshape(found.shape))
        assert_anchors_equal(run, level, run.model.anchors[first : first + count])
        first += count


def test_every_proposal_of_the_reference_is_found(run):
    """As sets: in float64 every ninth proposal has another rank. One may differ by a tie."""
    skip_unless(run, has_rpn=True)
    for image in range(len(run.images)):
        found = in_torch_order(run.outputs["ROI"][image], run.sides)
        wanted = run.reference[f"proposals{suffix(run, image)}"]
        distance = np.abs(found[None] - wanted[:, None]).max(axis=2).min(axis=1)
        assert (distance < BOX_TOLERANCE).mean() >= 0.998


def test_box_head_equals_the_reference(run):
    """Of each proposal that is in both, whatever its rank."""
    skip_unless(run, has_rpn=True)
    wanted = run.reference[f"proposals{suffix(run, 0)}"]
    found = in_torch_order(run.outputs["ROI"][0], run.sides)
    distances = np.abs(found[None] - wanted[:, None]).max(axis=2)
    nearest, is_same = distances.argmin(axis=1), distances.min(axis=1) < BOX_TOLERANCE / 2
    for name, order in (("box_pool", (0, 3, 1, 2)), ("class_logits", None), ("box_deltas", None)):
        reference = run.reference[name]
        rows = np.flatnonzero(is_same[: len(reference)])
        layer = "mrcnn_class_logits" if name == "class_logits" else name
        ours = run.outputs[layer][0][nearest[rows]]
        if order:
            ours = ours.transpose(order)
            ours = ours[:, :: ours.shape[1] // reference.shape[1]]
        if name == "box_deltas":
            ours = ours[..., [1, 0, 3, 2]]
            ours = ours[:, ours.shape[1] - reference.shape[1] // 4 :].reshape(len(rows), -1)
        if name == "class_logits" and run.model.config.IMAGE_RESIZE_MODE == "detectron2":
            ours = np.roll(ours, -1, axis=1)  # its background is the last class
        assert len(rows) > 0.9 * len(reference)
        assert_near_deviation(ours, reference[rows])


def test_every_detection_of_the_reference_is_found(run):
    for image in range(len(run.images)):
        detections = run.outputs["detections"][image]
        detections = detections[detections[:, 4] > 0]
        found = in_torch_order(detections[:, :4], run.sides)
        key, tolerance = "detections", BOX_TOLERANCE
        if not run.model.config.has_rpn():  # the file has them in the image's pixels only
            key, tolerance = "final", BOX_TOLERANCE * run.scales[image].max()
            found = found * np.tile(run.scales[image], 2)
        boxes, labels, scores = reference_detections(run, key, image)
        assert_same_count(run, detections[:, 5], labels, scores)
        for box, label, score in objects_of(run, boxes, labels, scores):
            same = np.flatnonzero(detections[:, 4] == label)
            nearest = same[np.abs(found[same] - box).max(axis=1).argmin()]
            np.testing.assert_allclose(found[nearest], box, atol=tolerance)
            assert abs(detections[nearest, 5] - score) < 2e-3


def is_certain(run, scores):
    """Whether float32's noise cannot decide if a detection has the lowest score that counts.

    It is 1e-5 there: logits differ by 2e-4, of which a sigmoid at 0.05 leaves a twentieth.
    """
    return scores >= run.model.config.DETECTION_MIN_CONFIDENCE + 5e-5


def objects_of(run, boxes, labels, scores):
    """Return the reference's certain detections without those of the background.

    torchvision's FCOS, which has a sigmoid for the background too, may detect it; ours does not.
    """
    rows = zip(boxes, labels, scores, strict=True)
    return [row for row in rows if row[1] > 0 and is_certain(run, row[2])]


def assert_same_count(run, found, labels, scores):
    """As many detections, but for those that are not certain.

    Other detections may stand where the background takes some of a limited number.

    found: the scores of our detections. labels, scores: of the reference's.
    """
    if labels.all():
        assert np.count_nonzero(is_certain(run, found)) <= len(labels)
    certain = np.count_nonzero((labels > 0) & is_certain(run, scores))
    assert certain <= len(found) <= run.model.config.DETECTION_MAX_INSTANCES


def reference_detections(run, name, image):
    """Return boxes, labels (ours: the background is 0) and scores of the reference."""
    key = f"{name}{suffix(run, image)}"
    boxes, scores = run.reference[f"{key}_boxes"], run.reference[f"{key}_scores"]
    if f"{key}_labels" in run.reference:
        return boxes, run.reference[f"{key}_labels"], scores
    return boxes, run.reference[f"{key}_classes"] + 1, scores


def test_masks_of_the_detections_equal_the_reference(run):
    if not run.model.config.USE_MASK:
        pytest.skip("a network without masks")
    for image in range(len(run.images)):
        _, labels, _ = reference_detections(run, "detections", image)
        masks = run.reference[f"masks{suffix(run, image)}"]  # of the first detections
        nearest = nearest_detections(run, image, len(masks))
        for label, position, mask in zip(labels, nearest, masks, strict=False):
            ours = run.outputs["masks"][image, position, :, :, int(label)]
            assert np.abs(ours - np.squeeze(mask)).max() < 2e-2


def nearest_detections(run, image, count=None):
    """Return for each of the first detections of the reference the position of ours."""
    boxes, labels, _ = reference_detections(run, "detections", image)
    detections = run.outputs["detections"][image]
    found = in_torch_order(detections[:, :4], run.sides)
    positions = []
    for box, label in zip(boxes[:count], labels[:count], strict=True):
        same = np.flatnonzero(detections[:, 4] == label)
        positions.append(same[np.abs(found[same] - box).max(axis=1).argmin()])
    return positions


def keypoint_head_at(run, boxes):
    """Return RoI features and heatmaps of our head `[B, N, h, w, C]`, each, of our feature maps.

    boxes: of each image `[D, 4]` in torch's order and pixels.
    """
    rois = np.zeros((len(boxes), max(map(len, boxes)), 4), np.float32)
    for image, found in enumerate(boxes):
        rois[image, : len(found)] = found[:, [1, 0, 3, 2]] / np.float32([*run.sides, *run.sides])
    maps = [run.outputs[name] for name in ("P2", "P3", "P4", "P5")]
    network = run.model.keras_model
    pooled = network.get_layer("roi_align_keypoint")([rois, run.outputs["metas"], *maps])
    x = pooled
    for layer in network.layers:
        if layer.name.startswith("mrcnn_keypoint"):
            x = layer(x)
    return pooled.numpy(), x.numpy()


def test_keypoint_head_equals_the_reference(run):
    """RoI features, heatmaps and keypoints of the boxes of the reference."""
    if not run.model.config.has_keypoint_head():
        pytest.skip("a network without keypoints")
    boxes = [run.reference[f"detections_{image}_boxes"] for image in range(len(run.images))]
    pooled, heatmaps = keypoint_head_at(run, boxes)
    for name, ours in (("keypoint_pool", pooled), ("keypoint_logits", heatmaps)):
        wanted = run.reference[name]  # of the first RoIs and channels
        ours = ours[0, : len(wanted)].transpose(0, 3, 1, 2)
        assert_near_deviation(ours[:, :: ours.shape[1] // wanted.shape[1]], wanted)
    for image, found in enumerate(boxes):
        ours = decode_heatmaps(heatmaps[image, : len(found)], found[:, [1, 0, 3, 2]])
        scores = run.reference[f"keypoint_scores_{image}"]
        np.testing.assert_allclose(ours[..., 2], scores, atol=1e-3)
        assert_same_places(ours, run.reference[f"keypoints_{image}"])


def assert_same_places(ours, wanted):
    """A place may jump between two maxima that are nearly equal."""
    distance = np.abs(ours[..., [1, 0]] - wanted[..., :2]).max(axis=-1)
    assert (distance < BOX_TOLERANCE).mean() > 0.99


def test_keypoints_equal_the_reference(run):
    """End to end: each network's keypoints of its own boxes.

    A box that moves by 0.001 pixels changes torchvision's own scores, logits up to 13, by 6e-3.
    """
    if not run.model.config.has_keypoint_head():
        pytest.skip("a network without keypoints")
    height, width = run.sides
    shape, window = (height, width, 3), (0, 0, height, width)
    for image in range(len(run.images)):
        nearest = nearest_detections(run, image)
        detections = run.outputs["detections"][image]
        heatmaps = run.outputs["keypoint_logits"][image]
        found = unmold_keypoints(detections, heatmaps, shape, shape, window, continuous=True)
        found = found[nearest]
        boxes = in_torch_order(detections[nearest, :4], run.sides)
        moved = np.abs(boxes - run.reference[f"detections_{image}_boxes"]).max(axis=1)
        differences = np.abs(found[..., 2] - run.reference[f"keypoint_scores_{image}"])
        assert (differences.max(axis=1) <= 1e-3 + 10 * moved).all()
        assert_same_places(found, run.reference[f"keypoints_{image}"])


def without_lines(run, boxes, labels, scores):
    """Return the detections that have an area.

    torchvision's RetinaNet returns boxes that lie outside of the image, clipped to a line.
    """
    is_box = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    assert is_box.all() or not run.model.config.has_rpn()
    return boxes[is_box], labels[is_box], scores[is_box]


def test_detect_returns_the_final_results_of_the_reference(run):
    """From the image, in torchvision's bits, to boxes in pixels and masks."""
    assert_final_results(run)


def assert_final_results(run):
    """Compare what `detect` returns with the reference.

    torchvision's own masks differ by up to 7 pixels in float64, by up to 3 in the layout of
    channels last.
    """
    if len(run.images) > 1:
        pytest.skip("detect() does not pad images to a common size, as the reference does")
    (result,) = run.model.detect(run.images)
    boxes, labels, scores = without_lines(run, *reference_detections(run, "final", 0))
    assert_same_count(run, result["scores"], labels, scores)
    bits = run.reference.get(f"final{suffix(run, 0)}_masks_bits")
    width, tolerance = run.images[0].shape[1], BOX_TOLERANCE * run.scales[0].max()
    for i, (box, label, score) in enumerate(objects_of(run, boxes, labels, scores)):
        same = np.flatnonzero(result["class_ids"] == label)
        distances = np.abs(result["rois"][same][:, [1, 0, 3, 2]] - box).max(axis=1)
        nearest = same[distances.argmin()]
        assert distances.min() < tolerance
        assert abs(result["scores"][nearest] - score) < 2e-3
        if bits is not None and i < len(bits):
            wanted = np.unpackbits(bits[i], axis=-1)[:, :width].astype(bool)
            other = result["masks"][:, :, nearest] != wanted.squeeze()
            assert np.count_nonzero(other) <= 2
        if "keypoints" in result:
            wanted = run.reference["final_0_keypoints"][i]
            distance = np.abs(result["keypoints"][nearest][:, [1, 0]] - wanted[:, :2]).max(axis=-1)
            assert np.count_nonzero(distance > tolerance) <= 1


# --- Weights saved for torch ---


TORCH = """
import sys
import numpy as np, torch, torchvision
path, network, images, eps = sys.argv[1:]
torch.set_num_threads(2)
model = getattr(torchvision.models.detection, network)(
    weights=None, weights_backbone=None, min_size=320, max_size=544
)
if not network.endswith("_v2"):
    for name, module in list(model.named_modules()):
        for child, norm in list(module.named_children()):
            if isinstance(norm, torch.nn.BatchNorm2d):
                frozen = torchvision.ops.misc.FrozenBatchNorm2d(norm.num_features, eps=float(eps))
                setattr(module, child, frozen)
model.load_state_dict(torch.load(path, weights_only=True), strict=True)
image = torch.from_numpy(np.load(images)).permute(2, 0, 1).float() / 255
with torch.inference_mode():
    (result,) = model.eval()([image])
np.savez(path + ".npz", **{key: value.numpy() for key, value in result.items() if key != "masks"})
"""


def test_torch_loads_saved_weights_and_detects_the_same(run, tmp_path):
    python = os.environ.get("PEERS_PYTHON")
    if not python:
        pytest.skip("PEERS_PYTHON must name a Python with torch and torchvision")
    if run.model.config.IMAGE_RESIZE_MODE == "detectron2" or run.model.config.IMAGE_MIN_DIM != 320:
        pytest.skip("torchvision's networks only, at 320/544")
    config = run.model.config
    network = ("mask" if config.USE_MASK else "faster") + "rcnn_resnet50_fpn"
    if config.NUM_KEYPOINTS:
        network = "keypointrcnn_resnet50_fpn"
    if not config.has_rpn():
        network = f"{config.NETWORK}_resnet50_fpn"
    if config.RPN_CONV_LAYERS == 2 or config.P6_INPUT == "c5":
        network += "_v2"
    path = tmp_path / "saved.pth"
    run.model.save_weights(path)
    np.save(tmp_path / "image.npy", run.images[0])
    arguments = [str(path), network, str(tmp_path / "image.npy"), str(config.NORM_EPSILON)]
    command = [python, "-c", TORCH, *arguments]
    subprocess.run(command, check=True, timeout=300)
    theirs = np.load(f"{path}.npz")
    (ours,) = run.model.detect(run.images[:1])
    detected = without_lines(run, theirs["boxes"], theirs["labels"], theirs["scores"])
    assert_same_count(run, ours["scores"], *detected[1:])
    for box, label, score in objects_of(run, *detected):
        same = np.flatnonzero(ours["class_ids"] == label)
        distances = np.abs(ours["rois"][same][:, [1, 0, 3, 2]] - box).max(axis=1)
        assert distances.min() < BOX_TOLERANCE * run.scales[0].max()
        assert abs(ours["scores"][same[distances.argmin()]] - score) < 2e-3


def test_fused_network_returns_the_final_results_of_the_reference(run, monkeypatch):
    """What a user of `mrcnn.load` calls: this package's image; fused kernels, rounded once more.

    The last test, because it changes the network.
    """
    monkeypatch.setattr(detector, "mold", mold)
    run.model.optimize_for_inference()
    assert_final_results(run)
