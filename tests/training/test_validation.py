"""`MeanAveragePrecisionCallback` and the images for TensorBoard."""

import logging
import math
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from kinds import KINDS
from tiny import Squares, TinyConfig, new_model
from tiny_training import BoxedSquares, build

from mrcnn.evaluation import evaluate
from mrcnn.model import MeanAveragePrecisionCallback
from mrcnn.training import validation
from mrcnn.training.training_state import NEW_RECORD
from mrcnn.training.validation import CurrentDetector, ValidationAP


def network(value, name="dense"):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, name=name)(inputs))
    model.set_weights([np.full(weight.shape, value, np.float32) for weight in model.weights])
    return model


class Detector:
    """A fake inference model: right in images 0 and 1, empty in 2, right and wrong in 3."""

    mode = "inference"
    config = TinyConfig()

    def __init__(self, dataset):
        self.keras_model = network(0)
        self.dataset, self.calls = dataset, 0

    def detect(self, images, masks="full"):
        assert len(images) == 1
        image_id = self.calls % len(self.dataset.image_ids)
        self.calls += 1
        masks, class_ids = self.dataset.load_mask(image_id)
        ys, xs = np.nonzero(masks[:, :, 0])
        box = [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]
        count = [1, 1, 0, 2][image_id]
        scores = [0.5, 0.9][:count]
        ids = [class_ids[0], 3 - class_ids[0]][:count]  # the second class is wrong
        return [
            {
                "rois": np.array([box] * count, np.int32).reshape(-1, 4),
                "class_ids": np.array(ids, np.int32),
                "scores": np.array(scores, np.float32),
                "masks": np.repeat(masks, count, axis=2),
            }
        ]


@pytest.fixture
def dataset():
    return Squares(4)


def callback(dataset, **options):
    trained = SimpleNamespace(keras_model=network(7))
    return MeanAveragePrecisionCallback(trained, Detector(dataset), dataset, **options)


def test_mean_average_precision_is_the_mean_over_images(dataset, caplog):
    logs = {}
    with caplog.at_level(logging.INFO, "mrcnn"):
        callback(dataset, calculate_map_at_every_X_epoch=1).on_epoch_end(0, logs)
    # AP is 1 for images 0 and 1, 0 for image 2, and 1/2 for image 3: the better score is wrong.
    assert logs["val_mean_average_precision"] == (1 + 1 + 0 + 0.5) / 4
    assert "epoch 1  mean average precision 0.625  mAP " in caplog.text


def test_coco_metrics_equal_those_of_the_evaluation(dataset):
    logs = {}
    callback(dataset, calculate_map_at_every_X_epoch=1).on_epoch_end(0, logs)
    expected = evaluate.coco(Detector(dataset), dataset, progress=False)
    assert set(logs) == {"val_mAP", "val_mAP50", "val_box_mAP", "val_mean_average_precision"}
    assert (logs["val_mAP"], logs["val_mAP50"]) == (expected.mask["AP"], expected.mask["AP50"])
    assert logs["val_box_mAP"] == expected.box["AP"]
    assert 0 < logs["val_mAP"] < 1


def test_box_only_model_has_box_metrics(dataset):
    watching = callback(dataset, calculate_map_at_every_X_epoch=1)
    detect = watching.inference_model.detect
    without = lambda images: [{k: v for k, v in r.items() if k != "masks"} for r in detect(images)]  # noqa: E731
    watching.inference_model.detect = without
    scores = watching.scores()
    assert scores["val_mAP"] == scores["val_box_mAP"] > 0
    assert math.isnan(scores["val_mean_average_precision"])


def test_threshold_of_the_model_is_lowered_during_the_evaluation(dataset):
    watching = callback(dataset)
    watching.inference_model.config = TinyConfig(DETECTION_MIN_CONFIDENCE=0.7)
    seen, detect = [], watching.inference_model.detect

    def watched(images):
        seen.append(watching.inference_model.config.DETECTION_MIN_CONFIDENCE)
        return detect(images)

    watching.inference_model.detect = watched
    scores = watching.scores()
    assert seen == [0.05] * 4 and watching.inference_model.config.DETECTION_MIN_CONFIDENCE == 0.7
    # Above 0.7, images 0 and 1 have no detection (0.5), and image 3 only the wrong one.
    assert scores["val_mean_average_precision"] == 0 and scores["val_mAP"] > 0


def test_early_stopping_and_checkpoints_read_the_metrics(dataset, tmp_path):
    watching = callback(dataset, calculate_map_at_every_X_epoch=1, verbose=0)
    trained = watching.train_model.keras_model
    trained.compile(loss="mse")
    monitor = {"monitor": "val_mAP", "mode": "max"}
    best = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_best_only=True,
                                           save_weights_only=True, **monitor)  # fmt: skip
    history = trained.fit(
        np.zeros((1, 1)), np.zeros((1, 1)), epochs=9, verbose=0,
        callbacks=[watching, keras.callbacks.EarlyStopping(patience=2, **monitor), best],
    )  # fmt: skip
    assert len(history.history["val_mAP"]) == 3  # the first is the best, and patience is 2
    assert [path.name for path in tmp_path.iterdir()] == ["1.weights.h5"]


def test_limit_takes_the_first_images(dataset):
    logs = {}
    limited = callback(dataset, calculate_map_at_every_X_epoch=1, dataset_limit=3)
    limited.on_epoch_end(0, logs)
    assert logs["val_mean_average_precision"] == pytest.approx(2 / 3)
    assert limited.inference_model.calls == 3


def test_evaluation_every_x_epochs(dataset, caplog):
    quiet = callback(dataset, calculate_map_at_every_X_epoch=2, verbose=0)
    rows = [{} for _ in range(5)]
    with caplog.at_level(logging.INFO, "mrcnn"):
        for epoch, logs in enumerate(rows):
            quiet.on_epoch_end(epoch, logs)
        quiet.on_epoch_end(5)  # Keras may pass no logs
    assert [bool(logs) for logs in rows] == [False, True, False, True, False]
    assert caplog.text == ""


def test_default_is_every_five_epochs(dataset):
    rows = [{} for _ in range(5)]
    for epoch, logs in enumerate(rows):
        callback(dataset).on_epoch_end(epoch, logs)
    assert [bool(logs) for logs in rows] == [False] * 4 + [True]


def test_inference_model_gets_the_weights(dataset):
    watching = callback(dataset, calculate_map_at_every_X_epoch=1)
    watching.on_epoch_end(0, {})
    assert [float(np.ravel(w)[0]) for w in watching.inference_model.keras_model.get_weights()] == [
        7,
        7,
    ]


def test_images_without_objects_are_left_out(dataset, monkeypatch):
    empty = (np.zeros((64, 64, 0), bool), np.zeros(0, np.int32))
    load_mask = dataset.load_mask
    watching = callback(dataset, calculate_map_at_every_X_epoch=1)
    watching.inference_model.dataset = Squares(4)
    monkeypatch.setattr(dataset, "load_mask", lambda i: empty if i == 2 else load_mask(i))
    assert watching.mean_average_precision() == pytest.approx(2.5 / 3)
    monkeypatch.setattr(dataset, "load_mask", lambda i: empty)
    assert math.isnan(watching.mean_average_precision())


def test_other_layers_and_modes_are_refused(dataset):
    watching = callback(dataset, calculate_map_at_every_X_epoch=1)
    watching.train_model.keras_model = network(1, name="other")
    with pytest.raises(
        ValueError, match="differ in dense/bias, dense/kernel, other/bias, other/kernel"
    ):
        watching.on_epoch_end(0, {})
    training = SimpleNamespace(mode="training")
    with pytest.raises(ValueError, match="Received: mode 'training'"):
        MeanAveragePrecisionCallback(training, training, dataset)
    with pytest.raises(ValueError, match="at least 1. Received: 0"):
        callback(dataset, calculate_map_at_every_X_epoch=0)


# --- AP after each epoch ---


def average_precision(dataset, images="auto", **record):
    """Return a `ValidationAP` of the fake detector, with a record of an epoch of 100 s."""
    detector = Detector(dataset)
    record = {**NEW_RECORD, "epoch_seconds": 100.0, **record}
    return ValidationAP(lambda: detector, dataset, images, record)


def test_epoch_adds_the_ap_of_the_evaluation_to_the_logs(dataset, caplog):
    watching, logs = average_precision(dataset), {}
    with caplog.at_level(logging.INFO, "mrcnn"):
        watching.on_epoch_end(0, logs)
    expected = evaluate.coco(Detector(dataset), dataset, progress=False)
    metrics = expected.mask["AP"], expected.mask["AP50"], expected.box["AP"]
    assert (logs["val_mAP"], logs["val_mAP50"], logs["val_box_mAP"]) == metrics
    assert logs["val_mAP_images"] == 4 and watching.record["ap_images"] == 4
    assert f"epoch 1  mask AP {metrics[0]:.3f}, AP50 {metrics[1]:.3f} on 4 images" in caplog.text
    assert watching.evaluation.image_scores.keys() == {0, 1, 2, 3}
    watching.on_epoch_end(1)  # Keras may pass no logs


def evaluations(watching, monkeypatch, seconds):
    """Replace evaluations; return the list of the image ids that they get.

    seconds: of an image.
    """
    seen = []

    def evaluated(image_ids):
        seen.append([int(i) for i in image_ids])
        return SimpleNamespace(
            seconds=seconds * len(image_ids),
            images=len(image_ids),
            kind="box",
            box={"AP": 0.5, "AP50": 0.75},
            mask=None,
            keypoints=None,
        )

    monkeypatch.setattr(watching, "_evaluate", evaluated)
    return seen


def test_sample_takes_a_fifth_of_an_epoch_and_stays_the_same(monkeypatch, caplog):
    # A fifth of 100 s is 20 s: 20 images of 1 s.
    watching, logs = average_precision(Squares(39)), {}
    seen = evaluations(watching, monkeypatch, seconds=1)
    with caplog.at_level(logging.INFO, "mrcnn"):
        watching.on_epoch_end(0, logs)
        watching.on_epoch_end(1, logs)
    assert seen[:2] == [[0], [13, 25, 38]]  # traces the graph, then takes the time
    assert seen[2] == seen[3] == list(range(0, 39, 2))
    assert watching.record["ap_images"] == logs["val_mAP_images"] == 20
    assert (
        "all 39 validation images would take 39 s, more than a fifth of an epoch's" in caplog.text
    )
    assert "20 of the 39 validation images, evenly spread: 0, 2, 4, ..." in caplog.text
    resumed = average_precision(Squares(39), ap_images=20, epoch_seconds=0.0)
    again = evaluations(resumed, monkeypatch, seconds=1)
    resumed.on_epoch_end(2, logs)
    assert again == [seen[2]]


@pytest.mark.parametrize(
    ("images", "seconds", "expected"),
    [("auto", 0.1, 39), ("auto", 1000, ValidationAP.FEWEST), (5, 1000, 5), (1000, 1, 39)],
)
def test_number_of_images(monkeypatch, images, seconds, expected):
    watching = average_precision(Squares(39), images)
    seen = evaluations(watching, monkeypatch, seconds)
    watching.on_epoch_end(0, {})
    assert len(seen[-1]) == expected


def test_few_images_are_all_taken_without_measuring_the_time(monkeypatch):
    watching = average_precision(Squares(ValidationAP.FEWEST))
    seen = evaluations(watching, monkeypatch, seconds=1000)
    watching.on_epoch_end(0, {})
    assert seen == [list(range(ValidationAP.FEWEST))]


def test_first_step_which_traces_the_graph_is_left_out_of_the_time(dataset, monkeypatch):
    times = iter([0.0, 60.0, 61.0, 62.0])
    monkeypatch.setattr(validation.time, "perf_counter", lambda: next(times))
    watching, seconds = average_precision(dataset), []
    watching.set_params({"steps": 10})
    watching.on_epoch_begin(0)
    for step in range(3):
        watching.on_train_batch_end(step)
        seconds.append(watching.record["epoch_seconds"])
    assert seconds == [600.0, 10.0, 10.0]


def test_failed_evaluation_is_logged_and_the_training_continues(dataset, monkeypatch, caplog):
    def broken(image_id):
        raise KeyError("masks")

    monkeypatch.setattr(dataset, "load_mask", broken)
    watching, logs = average_precision(dataset), {"loss": 1.0}
    watching.on_epoch_end(0, logs)
    assert "AP of this epoch could not be measured: KeyError: 'masks'" in caplog.text
    assert logs == {"loss": 1.0} and watching.evaluation is None


def test_current_detector_is_made_once_and_gets_the_weights_each_time():
    trained, made = network(1), []

    def make():
        made.append(SimpleNamespace(keras_model=network(0)))
        return made[-1]

    detector = CurrentDetector(trained, make)
    for value in (1, 5):
        trained.set_weights([np.full(weight.shape, value) for weight in trained.weights])
        assert float(detector().keras_model.get_weights()[0][0, 0]) == value
    assert len(made) == 1


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("network", KINDS)
def test_tensorboard_gets_detections_of_the_same_images_each_epoch(tmp_path, caplog, network):
    class OneIsBroken(Squares):
        def load_image(self, image_id):
            if image_id == 1:
                raise ValueError("image 1 is broken")
            return super().load_image(image_id)

    model = build(tmp_path, network=network, VALIDATION_PICTURES=2)
    model.train(Squares(), OneIsBroken(), 0.01, epochs=2, layers="heads")
    shown = {}
    for path in Path(model.log_dir, "validation").iterdir():
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag.startswith("detections"):
                    width, height = (int(side) for side in value.tensor.string_val[:2])
                    shown[value.tag, event.step] = (width, height)
    assert sorted(shown) == [("detections/0", 0), ("detections/0", 1)]
    assert all(
        width > height >= 64 for width, height in shown.values()
    )  # ground truth and detections side by side
    assert "image 1 is broken" in caplog.text


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("network", "values"), [("mask_rcnn", {"USE_MASK": False}), ("retinanet", {}), ("fcos", {})]
)
def test_box_only_training_logs_the_ap_of_boxes(tmp_path, network, values):
    model = build(tmp_path, network=network, **values)
    inference = new_model(network, folder=tmp_path, **values)
    watching = MeanAveragePrecisionCallback(model, inference, BoxedSquares(2), 1)
    history = model.train(BoxedSquares(), None, 0.01, 1, "all", custom_callbacks=[watching]).history
    assert history["val_mAP"] == history["val_box_mAP"] and 0 <= history["val_mAP"][0] <= 1
    assert "val_keypoint_mAP" not in history


@pytest.mark.usefixtures("eagerly")
def test_training_with_keypoints_logs_their_ap(tmp_path):
    model, inference = build(tmp_path, network="keypoints"), new_model("keypoints", folder=tmp_path)
    inference.config.KEYPOINT_SIGMAS = [0.1, 0.1, 0.1]
    watching = MeanAveragePrecisionCallback(model, inference, Squares(2), 1)
    history = model.train(Squares(), None, 0.01, 1, "all", custom_callbacks=[watching]).history
    expected = evaluate.evaluate_dataset(
        lambda image: inference.detect([image])[0],
        Squares(2),
        progress=False,
        sigmas=inference.config.KEYPOINT_SIGMAS,
    )
    assert history["val_keypoint_mAP"] == [expected.keypoints["AP"]]
