"""Test-time augmentation: views by hand, and the detections of a network in several views."""

import numpy as np
import pytest
from tiny import TinyConfig, noise_images, shake

from mrcnn.formats.rle import decode, mask_to_rle
from mrcnn.inference import tta
from mrcnn.model import MaskRCNN

pytestmark = pytest.mark.usefixtures("eagerly")

SHAPE = (10, 20, 3)
FORMS = ("full", "crop", "rle", "soft")


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
    found = tta.unflip(result([[2, 3, 5, 7]], [1], [0.9], [(4, 3, mask)]), 20)
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
    views[0]["keypoints"] = np.zeros((1, 17, 3))
    with pytest.raises(ValueError, match="Received: a result with keypoints. Try TTA = "):
        tta.merge(views, SHAPE, "full", config())


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


@pytest.fixture(scope="module")
def model():
    return shake(MaskRCNN("inference", TinyConfig()))


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
    settings.TTA = ("flip", 0.75, 2)
    images = noise_images(2, sizes=[(64, 64), (40, 90)])
    for image, found in zip(images, model.detect(iter(images)), strict=True):
        count = len(found["rois"])
        assert 0 < count <= settings.DETECTION_MAX_INSTANCES
        assert found["rois"].dtype == np.int32 and found["class_ids"].dtype == np.int32
        assert found["scores"].dtype == np.float32 and (np.diff(found["scores"]) <= 0).all()
        assert found["masks"].shape == (*image.shape[:2], count)
        assert (found["rois"] >= 0).all()
        assert (found["rois"] <= np.tile(image.shape[:2], 2)).all()
    tiled = model.detect_tiled(images[1], tile=64)
    assert len(tiled["rois"]) == len(tiled["masks"]) > 0


def test_flipped_image_has_the_flipped_detections(model, settings):
    settings.TTA = ["flip"]
    (image,) = noise_images(1, seed=3, sizes=[(60, 80)])
    (plain,) = model.detect([image], masks="soft")
    (flipped,) = model.detect([image[:, ::-1]], masks="soft")
    expected = tta.unflip(flipped, 80)
    np.testing.assert_allclose(plain["scores"], expected["scores"], rtol=1e-5)
    np.testing.assert_array_equal(plain["rois"], expected["rois"])
    for (y, x, soft), (y2, x2, soft2) in zip(plain["masks"], expected["masks"], strict=True):
        assert (y, x) == (y2, x2)
        np.testing.assert_allclose(soft, soft2, atol=1e-5)


def test_one_view_gives_the_plain_detections(model, settings):
    """Suppression of what is suppressed already changes nothing."""
    settings.DETECTION_MIN_CONFIDENCE = 0.01
    image = noise_images(1, seed=2, sizes=[(128, 128)])[0]
    (plain,) = model.detect([image])
    settings.TTA = (1,)
    (merged,) = model.detect([image])
    np.testing.assert_array_equal(merged["scores"], plain["scores"])
    np.testing.assert_array_equal(merged["rois"], plain["rois"])
    np.testing.assert_array_equal(merged["masks"], plain["masks"])


def test_scales_need_the_mold_inputs_of_the_package(model, settings, monkeypatch):
    monkeypatch.setattr(model, "mold_inputs", lambda images: model.detector.mold_inputs(images))
    settings.TTA = ("flip",)
    assert len(model.detect(noise_images(1))) == 1
    settings.TTA = (2,)
    with pytest.raises(ValueError, match="Scales of TTA need the mold_inputs.* Received: 2.0"):
        model.detect(noise_images(1))
