"""Test-time augmentation: views by hand, and the detections of a network in several views."""

import numpy as np
import pytest
from kinds import KINDS
from tiny import TinyConfig, assert_same_results, build, keys_of, noise_images

from mrcnn.data.keypoints import mirrored_order
from mrcnn.formats.rle import decode, mask_to_rle
from mrcnn.inference import tta

pytestmark = pytest.mark.usefixtures("eagerly")

SHAPE = (10, 20, 3)
FORMS = ("full", "crop", "rle", "soft")


NO_KEYPOINTS = np.arange(0)


def result(rois=(), class_ids=(), scores=(), masks=()):
    return {
        "rois": np.array(rois, np.int32).reshape(-1, 4),
        "class_ids": np.array(class_ids, np.int32),
        "scores": np.array(scores, np.float32),
        "masks": list(masks),
    }


def config(**values):
    return TinyConfig(DETECTION_NMS_THRESHOLD=0.3, **values)


# --- Merging ---


@pytest.mark.parametrize("form", FORMS)
def test_views_without_detections_give_none(form):
    merged = tta.merge([result(), result()], SHAPE, form, config())
    assert merged["rois"].shape == (0, 4) and merged["rois"].dtype == np.int32
    assert merged["class_ids"].shape == merged["scores"].shape == (0,)
    assert np.shape(merged["masks"])[-1] == 0
    if form == "full":
        assert merged["masks"].shape == (10, 20, 0) and merged["masks"].dtype == bool


def test_views_are_all_sizes_with_and_without_flip_each_once():
    assert tta.views(()) == [(1, False)]
    assert tta.views(["flip"]) == [(1, False), (1, True)]
    assert tta.views((0.5, 1, 0.5)) == [(1, False), (0.5, False)]
    assert tta.views((0.5, "flip")) == [(1, False), (1, True), (0.5, False), (0.5, True)]


def test_unflip_by_hand():
    """In a width of 20, columns 3 to 7 are columns 13 to 17 of the flipped image."""
    mask = np.float32([[0.1, 0.2, 0.3, 0.4]])
    found = tta.unflip(result([[2, 3, 5, 7]], [1], [0.9], [(4, 3, mask)]), 20, NO_KEYPOINTS)
    assert found["rois"].tolist() == [[2, 13, 5, 17]]
    ((y, x, soft),) = found["masks"]
    assert (y, x) == (4, 13)
    np.testing.assert_array_equal(soft, mask[:, ::-1])


def two_views():
    """One object that both views found, and one that only the second found."""
    first = result([[0, 0, 4, 4]], [1], [0.9], [(0, 0, np.full((4, 4), 0.8, np.float32))])
    second = result(
        [[0, 0, 4, 5], [5, 10, 9, 14]],
        [1, 2],
        [0.95, 0.6],
        [(0, 0, np.full((4, 5), 0.4, np.float32)), (5, 10, np.full((4, 4), 0.7, np.float32))],
    )
    return [first, second]


def test_the_better_box_stays_with_the_mean_of_the_masks():
    merged = tta.merge(two_views(), SHAPE, "soft", config())
    assert merged["rois"].tolist() == [[0, 0, 4, 5], [5, 10, 9, 14]]
    assert merged["class_ids"].tolist() == [1, 2]
    np.testing.assert_allclose(merged["scores"], [0.95, 0.6])
    (y, x, soft), (_, _, single) = merged["masks"]
    # (0.8 + 0.4) / 2 = 0.6; in the last column only the second view has a mask: 0.4 / 2 = 0.2
    assert (y, x) == (0, 0)
    np.testing.assert_allclose(soft, np.tile(np.float32([0.6, 0.6, 0.6, 0.6, 0.2]), (4, 1)))
    np.testing.assert_allclose(single, np.full((4, 4), 0.7))  # of the one view that found it


def test_forms_of_merged_masks_agree():
    forms = {form: tta.merge(two_views(), SHAPE, form, config())["masks"] for form in FORMS}
    full = forms["full"]
    assert full.shape == (10, 20, 2) and full.sum(axis=(0, 1)).tolist() == [16, 16]
    assert full[:4, :4, 0].all() and full[5:9, 10:14, 1].all()
    np.testing.assert_array_equal(forms["crop"][0], full[0:4, 0:5, 0])
    np.testing.assert_array_equal(decode(forms["rle"], (10, 20)), full)
    assert forms["rle"][1] == mask_to_rle(full[:, :, 1])


def test_boxes_of_other_classes_are_other_objects():
    views = [result([[0, 0, 4, 4]], [i], [0.9 - i / 10], [(0, 0, np.ones((4, 4)))]) for i in (1, 2)]
    assert tta.merge(views, SHAPE, "soft", config())["class_ids"].tolist() == [1, 2]
    agnostic = tta.merge(views, SHAPE, "soft", config(CLASS_AGNOSTIC_NMS=True))
    assert agnostic["class_ids"].tolist() == [1]
    np.testing.assert_allclose(agnostic["scores"], [0.8])


def test_views_vote_if_box_voting_is_on():
    views = [
        result([[0, 0, 10, 10]], [1], [0.9], [(0, 0, np.ones((10, 10)))]),
        result([[0, 2, 10, 12]], [1], [0.6], [(0, 2, np.ones((10, 10)))]),
    ]
    merged = tta.merge(views, SHAPE, "soft", config(BOX_VOTING_IOU=0.5))
    # IoU 80 / 120. x1: (0.9 * 0 + 0.6 * 2) / 1.5 = 0.8, rounded to a pixel.
    assert merged["rois"].tolist() == [[0, 1, 10, 11]]
    for view in views:
        view["rois"] = view["rois"].astype(np.float32)
    merged = tta.merge(views, SHAPE, "soft", config(BOX_VOTING_IOU=0.5))
    np.testing.assert_allclose(merged["rois"], [[0, 0.8, 10, 10.8]], rtol=1e-6)


def test_results_without_masks_are_merged_and_others_refused():
    views = two_views()
    for view in views:
        del view["masks"]
    merged = tta.merge(views, SHAPE, "full", config())
    assert set(merged) == {"rois", "class_ids", "scores"} and len(merged["rois"]) == 2
    views[0]["depth"] = np.zeros(1)
    with pytest.raises(ValueError, match="Received: a result with depth. Try TTA = "):
        tta.merge(views, SHAPE, "full", config())


# --- Keypoints ---


def with_keypoints(view, *keypoints):
    """The view's result with keypoints `[(y, x, score)]` of each object."""
    return {**view, "keypoints": np.float32(keypoints).reshape(-1, 2, 3)}


def test_views_without_detections_have_no_keypoints():
    merged = tta.merge([with_keypoints(result())] * 2, SHAPE, "full", config())
    assert merged["keypoints"].shape == (0, 2, 3) and merged["keypoints"].dtype == np.float32


def test_flipped_keypoints_change_places():
    """In a width of 20, column 3 is column 17 of the flipped image, where left is right."""
    view = with_keypoints(result([[2, 3, 5, 7]], [1], [0.9]), [[2, 3, 0.5], [4, 6, 0.7]])
    found = tta.unflip(view, 20, mirrored_order(2, ["left", "right"], None))
    np.testing.assert_allclose(found["keypoints"], [[[4, 14, 0.7], [2, 17, 0.5]]])
    assert view["keypoints"][0, 0].tolist() == [2, 3, 0.5]  # unchanged


def test_each_keypoint_is_that_of_the_view_with_its_highest_score():
    """The first view sees the first object; the second sees both, a pixel to the right."""
    first, second = two_views()
    first = with_keypoints(first, [[1, 1, 5], [3, 3, 2]])
    second = with_keypoints(second, [[1, 2, 4], [3, 4, 3]], [[6, 11, 1], [8, 13, 1]])
    merged = tta.merge([first, second], SHAPE, "full", config())
    assert merged["rois"].tolist() == [[0, 0, 4, 5], [5, 10, 9, 14]]
    expected = [[[1, 1, 5], [3, 4, 3]], [[6, 11, 1], [8, 13, 1]]]
    np.testing.assert_array_equal(merged["keypoints"], expected)


def test_box_that_votes_moved_away_has_no_keypoints():
    """Two votes of equal weight, far from each other: the box between them is of no view."""
    views = [
        with_keypoints(
            result([[0, x, 4, x + 4]], [1], [0.8], [(0, x, np.ones((4, 4)))]), [[1] * 3] * 2
        )
        for x in (0, 12)
    ]
    merged = tta.merge(views, SHAPE, "soft", config(BOX_VOTING_IOU=0.0))
    assert merged["rois"].tolist()[0] == [0, 6, 4, 10]
    assert not merged["keypoints"].any()


# --- Any function that detects ---


def bright_pixels(calls):
    """A function for `tta.detect` that finds the bright pixels of an image as one object."""

    def detect(images, masks, zoom):
        calls.append((len(images), masks, zoom))
        results = []
        for image in images:
            ys, xs = np.nonzero(image.max(axis=2) > 200)
            box = [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]
            mask = np.float32(image[box[0] : box[2], box[1] : box[3], 0] > 200)
            results.append(result([box], [1], [0.9], [(box[0], box[1], mask)]))
        return results

    return detect


def test_each_size_is_one_call_and_the_views_agree():
    image = np.zeros((30, 40, 3), np.uint8)
    image[5:15, 20:30] = 255
    image[5:8, 20:23] = 0
    calls = []
    views = tta.detect(bright_pixels(calls), iter([image] * 2), "full", config(TTA=("flip", 2)))
    assert calls == [(2, "soft", 1.0), (2, "soft", 2.0)] * 2
    for found in views:
        assert found["rois"].tolist() == [[5, 20, 15, 30]]
        np.testing.assert_array_equal(found["masks"][:, :, 0], image[:, :, 0] > 0)


# --- In a network ---


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return build(request.param)


@pytest.fixture
def settings(model):
    """The model's config, which gets its former values back after the test."""
    before = dict(model.config.__dict__)
    yield model.config
    model.config.__dict__.clear()
    model.config.__dict__.update(before)


def test_no_images_give_no_results(model, settings):
    settings.TTA = ("flip", 2)
    assert model.detect([]) == []


def test_merged_detections_have_the_form_of_plain_ones(model, settings):
    images = noise_images(2, sizes=[(64, 64), (40, 90)])
    plain = model.detect(images)
    settings.TTA = ("flip", 0.75, 2)
    for image, found, expected in zip(images, model.detect(iter(images)), plain, strict=True):
        count = len(found["rois"])
        assert 0 < count <= settings.DETECTION_MAX_INSTANCES
        assert {key: value.dtype for key, value in found.items()} == {
            key: value.dtype for key, value in expected.items()
        }
        assert (np.diff(found["scores"]) <= 0).all()
        if "masks" in found:
            assert found["masks"].shape == (*image.shape[:2], count)
        if "keypoints" in found:
            assert found["keypoints"].shape == (count, 3, 3)
        assert (found["rois"] >= 0).all()
        assert (found["rois"] <= np.tile(image.shape[:2], 2)).all()
    tiled = model.detect_tiled(images[1], tile=64)
    assert set(tiled) == keys_of(model) and len(tiled["rois"]) > 0


def test_flipped_image_has_the_flipped_detections(model, settings):
    settings.TTA = ["flip"]
    settings.KEYPOINT_NAMES = ["left", "right", "middle"]
    (image,) = noise_images(1, seed=3, sizes=[(60, 80)])
    (plain,) = model.detect([image], masks="soft")
    (flipped,) = model.detect([image[:, ::-1]], masks="soft")
    expected = tta.unflip(flipped, 80, np.array([1, 0, 2]))
    np.testing.assert_allclose(plain["scores"], expected["scores"], rtol=1e-5)
    np.testing.assert_allclose(plain["rois"], expected["rois"], rtol=1e-5)
    if "masks" in plain:
        for (y, x, soft), (y2, x2, soft2) in zip(plain["masks"], expected["masks"], strict=True):
            assert (y, x) == (y2, x2)
            np.testing.assert_allclose(soft, soft2, atol=1e-5)
    if "keypoints" in plain:
        np.testing.assert_allclose(plain["keypoints"], expected["keypoints"], rtol=1e-4)


def test_one_view_gives_the_plain_detections(model, settings):
    """Suppression of what is suppressed already changes nothing."""
    settings.DETECTION_MIN_CONFIDENCE = 0.01
    image = noise_images(1, seed=2, sizes=[(128, 128)])[0]
    (plain,) = model.detect([image])
    settings.TTA = (1,)
    (merged,) = model.detect([image])
    assert_same_results(merged, plain)


def test_scales_need_the_mold_inputs_of_the_package(model, settings, monkeypatch):
    monkeypatch.setattr(model, "mold_inputs", lambda images: model.detector.mold_inputs(images))
    settings.TTA = ("flip",)
    assert len(model.detect(noise_images(1))) == 1
    settings.TTA = (2,)
    with pytest.raises(ValueError, match="Scales of TTA need the mold_inputs.* Received: 2.0"):
        model.detect(noise_images(1))
