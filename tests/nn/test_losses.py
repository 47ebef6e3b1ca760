"""Each loss against numbers calculated by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from mrcnn.nn import losses

LOG2 = math.log(2.0)


def scalar(half):
    return float(losses.mean(*half))


def test_mean_of_zero_count_is_zero():
    assert float(losses.mean(tf.constant(0.0), tf.constant(0.0))) == 0.0
    assert float(losses.mean(tf.constant(6.0), tf.constant(4.0))) == 1.5


def test_smooth_l1():
    # 0.5 * 0.5^2 = 0.125; at 1 both branches give 0.5; beyond: 3 - 0.5
    found = losses.smooth_l1(tf.constant([0.0, 0.0, 0.0, 5.0]), tf.constant([0.5, -1.0, 3.0, 5.0]))
    np.testing.assert_allclose(found, [0.125, 0.5, 2.5, 0.0])


def test_rpn_class_loss_ignores_neutral_anchors():
    match = tf.constant([[[1], [-1], [0]]])
    logits = tf.constant([[[0.0, 0.0], [0.0, math.log(3.0)], [50.0, -50.0]]])
    # object: -log(1/2); background: -log(1 / (1 + 3)) = 2 log 2; the third is neutral
    numerator, count = losses.rpn_class_loss(match, logits)
    assert float(count) == 2
    assert float(numerator) == pytest.approx(3 * LOG2, rel=1e-6)


def test_rpn_class_loss_of_only_neutral_anchors_is_zero():
    assert scalar(losses.rpn_class_loss(tf.zeros([1, 3, 1], tf.int32), tf.ones([1, 3, 2]))) == 0.0


def test_rpn_bbox_loss_pairs_targets_with_positives_in_their_order():
    match = tf.constant([[0, 1, -1, 1], [1, 0, 0, 0]])[..., None]
    predicted = np.zeros((2, 4, 4), np.float32)
    predicted[0, 1], predicted[0, 3], predicted[1, 0] = 1.0, 2.0, 4.0
    target = np.zeros((2, 3, 4), np.float32)
    target[0, 0], target[0, 1], target[1, 0] = 1.5, 4.0, 4.0
    # 4 * 0.5 * 0.5^2 = 0.5; 4 * (2 - 0.5) = 6; 0; over 3 positives of 4 numbers each
    numerator, count = losses.rpn_bbox_loss(tf.constant(target), match, tf.constant(predicted))
    assert (float(numerator), float(count)) == (pytest.approx(6.5), 12)


def test_rpn_bbox_loss_without_positives_is_zero():
    match = tf.constant([[-1, 0, -1]])[..., None]
    assert scalar(losses.rpn_bbox_loss(tf.ones([1, 2, 4]), match, tf.ones([1, 3, 4]))) == 0.0


def test_mrcnn_class_loss_ignores_inactive_classes():
    logits = tf.constant([[[0.0, 0.0, -99.0], [math.log(7.0), 0.0, -99.0], [0.0, 0.0, 9.0]]])
    # RoI 0: -log(1/2) of class 1; RoI 1: -log(7/8) of background; RoI 2: class 2 is not active
    found = losses.mrcnn_class_loss(tf.constant([[1, 0, 2]]), logits, tf.constant([[1, 1, 0]]))
    assert float(found[1]) == 2
    assert float(found[0]) == pytest.approx(LOG2 + math.log(8 / 7), rel=1e-6)


def test_focal_loss_by_hand():
    match = tf.constant([[1, -1]])
    logits = tf.constant([[[0.0, 0.0], [math.log(3.0), 0.0]]])
    # p = 1/2: log 2 * (1/2)^2; p = 3/4: log(4/3) * (1/4)^2
    numerator, count = losses.rpn_class_loss(match, logits, focal_gamma=2.0)
    assert float(numerator) == pytest.approx(LOG2 / 4 + math.log(4 / 3) / 16, rel=1e-6)
    assert float(count) == 2
    found = losses.mrcnn_class_loss(
        tf.constant([[1, 0]]), logits, tf.constant([[1, 1]]), focal_gamma=2.0
    )
    assert float(found[0]) == pytest.approx(float(numerator), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_probability_one_has_a_finite_gradient(gamma):
    logits = tf.Variable([[[0.0, 200.0]]])
    with tf.GradientTape() as tape:
        loss, _ = losses.rpn_class_loss(tf.constant([[1]]), logits, gamma)
    assert float(loss) == 0.0
    np.testing.assert_allclose(tape.gradient(loss, logits), [[[0.0, 0.0]]], atol=1e-6)


def test_class_weights_make_a_weighted_mean():
    # -log(1/2) of class 1, weight 3; -log(7/8) of the background, weight 0.5
    logits = tf.constant([[[0.0, 0.0], [math.log(7.0), 0.0]]])
    found = losses.mrcnn_class_loss(
        tf.constant([[1, 0]]), logits, tf.constant([[1, 1]]), [0.5, 3.0]
    )
    assert float(found[1]) == 3.5
    assert scalar(found) == pytest.approx((3 * LOG2 + 0.5 * math.log(8 / 7)) / 3.5, rel=1e-6)


def test_mrcnn_class_loss_without_active_classes_is_zero():
    found = losses.mrcnn_class_loss(tf.constant([[1]]), tf.zeros([1, 1, 2]), tf.zeros([1, 2]))
    assert scalar(found) == 0.0


def test_mrcnn_bbox_loss_reads_the_own_class_of_positives():
    predicted = np.full((1, 3, 3, 4), 77.0, np.float32)
    predicted[0, 0, 2] = [0.0, 0.0, 0.0, 2.0]
    predicted[0, 1, 1] = 0.5
    # class 2: 2 - 0.5 = 1.5; class 1: 4 * 0.125 = 0.5; background does not count; 2 positives * 4
    numerator, count = losses.mrcnn_bbox_loss(
        tf.zeros([1, 3, 4]), tf.constant([[2, 1, 0]]), tf.constant(predicted)
    )
    assert (float(numerator), float(count)) == (pytest.approx(2.0), 8)


def test_mrcnn_bbox_loss_without_positives_is_zero():
    ids = tf.zeros([1, 2], tf.int32)
    assert scalar(losses.mrcnn_bbox_loss(tf.ones([1, 2, 4]), ids, tf.zeros([1, 2, 3, 4]))) == 0.0


def test_mrcnn_mask_loss_reads_the_own_class_of_positives():
    predicted = np.full((1, 2, 2, 2, 3), 0.01, np.float32)
    predicted[0, 0, :, :, 2] = [[0.5, 0.25], [0.5, 0.75]]
    target = np.zeros((1, 2, 2, 2), np.float32)
    target[0, 0] = [[1, 1], [0, 1]]
    # -log 0.5 - log 0.25 - log(1 - 0.5) - log 0.75 = 4 log 2 + log(4 / 3), over 4 pixels
    numerator, count = losses.mrcnn_mask_loss(
        tf.constant(target), tf.constant([[2, 0]]), tf.constant(predicted)
    )
    assert float(count) == 4
    assert float(numerator) == pytest.approx(4 * LOG2 + math.log(4 / 3), rel=1e-5)


def test_mrcnn_mask_loss_of_positive_slots_equals_that_of_all_rois():
    """The mask head computes only the slots of positives."""
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0.1, 0.9, (2, 5, 4, 4, 3)).astype(np.float32)
    target = (rng.uniform(size=(2, 5, 4, 4)) > 0.5).astype(np.float32)
    ids = np.array([[1, 2, 0, 0, 0], [2, 0, 0, 0, 0]])
    whole = scalar(losses.mrcnn_mask_loss(target, ids, tf.constant(predicted)))
    first = scalar(losses.mrcnn_mask_loss(target, ids, tf.constant(predicted[:, :2])))
    assert first == pytest.approx(whole, rel=1e-6)


def test_mrcnn_mask_loss_without_positives_is_zero():
    ids = tf.zeros([1, 2], tf.int32)
    assert (
        scalar(losses.mrcnn_mask_loss(tf.ones([1, 2, 2, 2]), ids, tf.zeros([1, 2, 2, 2, 3]))) == 0.0
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_mrcnn_mask_loss_of_saturated_pixels(compiled):
    # Keras 2 clips at 1e-7 and at the float below 1 (1 - 2^-23), then adds 1e-7:
    # -log(2e-7) = 15.425 for an object of probability 0,
    # -log(2^-23 + 1e-7) = 15.333 for background of probability 1
    loss = tf.function(losses.mrcnn_mask_loss) if compiled else losses.mrcnn_mask_loss
    ids = tf.ones([1, 1], tf.int32)
    masks = lambda value: tf.fill([1, 1, 1, 1, 2], value)  # noqa: E731
    wrong = scalar(loss(tf.ones([1, 1, 1, 1]), ids, masks(0.0)))
    assert wrong == pytest.approx(-math.log(2e-7), rel=1e-5)
    wrong = scalar(loss(tf.zeros([1, 1, 1, 1]), ids, masks(1.0)))
    assert wrong == pytest.approx(-math.log(2**-23 + 1e-7), rel=1e-5)
    assert scalar(loss(tf.ones([1, 1, 1, 1]), ids, masks(1.0))) == pytest.approx(0.0, abs=1e-6)


def test_losses_of_two_images_share_one_mean():
    """The mean over all positives of the batch, not the mean of the images' means."""
    match = tf.constant([[1, 1, 1], [1, 0, 0]])
    logits = np.zeros((2, 3, 2), np.float32)
    logits[1, 0] = [0.0, math.log(3.0)]
    # three times log 2 and once log(4/3), over four
    assert scalar(losses.rpn_class_loss(match, tf.constant(logits))) == pytest.approx(
        (3 * LOG2 + math.log(4 / 3)) / 4, rel=1e-6
    )


def test_class_agnostic_row_is_used_for_every_class():
    ids = tf.constant([[1, 2, 0]])
    deltas = tf.constant(
        np.float32([[[[1, 0, 0, 0]], [[0, 3, 0, 0]], [[9, 9, 9, 9]]]])
    )  # [1, 3, 1, 4]
    # smooth L1 of 1 and 3: 0.5 and 2.5, over the four deltas of two positives
    numerator, count = losses.mrcnn_bbox_loss(tf.zeros([1, 3, 4]), ids, deltas)
    assert (float(numerator), float(count)) == (3.0, 8.0)
    # -log 0.5 for an object, -log(1 - 0.75) = 2 log 2 for a background pixel
    masks = tf.reshape(tf.constant([0.5, 0.75, 0.1]), [1, 3, 1, 1, 1])
    numerator, count = losses.mrcnn_mask_loss(
        tf.constant([[[[1.0]], [[0.0]], [[1.0]]]]), ids, masks
    )
    assert float(numerator) == pytest.approx(3 * LOG2, rel=1e-5)
    assert float(count) == 2


# --- Detectron's and torchvision's terms ---


def test_smooth_l1_of_a_small_beta():
    # beta 1/9: 0.5 * 0.1^2 * 9 = 0.045 below; at 1/9 both branches give 1/18; beyond: 3 - 1/18
    found = losses.smooth_l1(tf.zeros([3]), tf.constant([0.1, -1 / 9, 3.0]), 1 / 9)
    np.testing.assert_allclose(found, [0.045, 1 / 18, 3 - 1 / 18], rtol=1e-5)
    # beta 0 is L1
    np.testing.assert_allclose(
        losses.smooth_l1(tf.zeros([2]), tf.constant([0.1, -3.0]), 0), [0.1, 3]
    )


@pytest.mark.parametrize(("name", "beta"), [("1", 1.0), ("1_9", 1 / 9), ("0.1", 0.1), ("0", 0.0)])
def test_smooth_l1_is_that_of_torch(shared, name, beta):
    unit = np.load(shared / "reference" / "torchvision" / "unit" / "losses.npz")
    predicted = tf.Variable(unit["l1_p"])
    with tf.GradientTape() as tape:
        loss = losses.smooth_l1(tf.constant(unit["l1_t"]), predicted, beta)
        total = tf.reduce_sum(loss)
    np.testing.assert_allclose(loss, unit[f"smooth_l1_{name}"], rtol=1e-5, atol=1e-7)
    gradient = tape.gradient(total, predicted)
    np.testing.assert_allclose(gradient, unit[f"smooth_l1_{name}_grad"], rtol=1e-5, atol=1e-7)


def test_rpn_bbox_loss_per_sampled_anchor():
    match = tf.constant([[0, 1, -1, -1]])
    predicted = tf.fill([1, 4, 4], 2.0)
    # L1: 4 * 2 of the positive anchor, over three sampled anchors
    numerator, count = losses.rpn_bbox_loss(tf.zeros([1, 2, 4]), match, predicted, 0.0, True)
    assert (float(numerator), float(count)) == (8.0, 3.0)


def test_losses_per_sampled_roi_leave_out_padding():
    ids = tf.constant([[1, 0, 0]])
    is_roi = tf.constant([[True, True, False]])
    deltas = tf.fill([1, 3, 2, 4], 2.0)
    # L1: 4 * 2 of the positive RoI, over two RoIs
    numerator, count = losses.mrcnn_bbox_loss(tf.zeros([1, 3, 4]), ids, deltas, 0.0, is_roi)
    assert (float(numerator), float(count)) == (8.0, 2.0)
    # log 2 of each of two RoIs; with padding it would be three
    found = losses.mrcnn_class_loss(ids, tf.zeros([1, 3, 2]), tf.constant([[1, 1]]), is_roi=is_roi)
    assert float(found[1]) == 2
    assert float(found[0]) == pytest.approx(2 * LOG2, rel=1e-6)
