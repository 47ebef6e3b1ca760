"""The pipeline of batches and its workers."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from kinds import KINDS
from tiny import Squares, TinyConfig, new_model
from tiny_training import ODD, Various, build

from mrcnn.training.pipeline import Batches, stream

pytestmark = pytest.mark.usefixtures("eagerly")


def test_workers_record_their_batch(dataset):
    seen = []

    class Slow(Squares):
        def load_image(self, image_id):
            seen.append(dict(batches.in_progress))
            return super().load_image(image_id)

    batches = Batches(Slow(), TinyConfig(), batch_size=2, steps=2, seed=7)
    batches[1]
    ((image_ids, since),) = seen[0].values()
    assert image_ids == batches.batch_image_ids(0, 1) == [int(i) for i in image_ids]
    assert time.time() - since < 60 and batches.in_progress == {}
    assert batches.names([3]).startswith("3 (")


def test_workers_stop_after_an_error(tmp_path):
    """A worker inside a batch would hang Python's exit."""
    begun = []

    class Slow(Squares):
        def load_image(self, image_id):
            begun.append(image_id)
            time.sleep(0.05)
            return super().load_image(image_id)

    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise ArithmeticError("mine")

    with pytest.raises(ArithmeticError, match="mine"):
        build(tmp_path, STEPS_PER_EPOCH=9).train(
            Slow(), None, 0.001, 1, "heads", custom_callbacks=[Fail()]
        )
    count = len(begun)
    time.sleep(0.3)
    assert len(begun) == count


@pytest.mark.parametrize("network", KINDS)
def test_error_of_an_unreadable_image_reaches_the_caller(tmp_path, network):
    class Broken(Squares):
        def load_image(self, image_id):
            raise ValueError(
                f"The image must be readable. Received: /data/{image_id}.jpg. Try another one."
            )

    with pytest.raises(
        ValueError, match=r"At most 2 images may be unusable(.|\n)*Received: /data/\d.jpg"
    ):
        model = build(tmp_path, network=network, MAX_IMAGE_ERRORS=2)
        model.train(Broken(), None, 0.001, epochs=1, layers="heads")


def test_stream_yields_uint8_images(network):
    def darken(image, masks, rng):
        return image * 0.5, masks  # floats

    for augmentation, grey in ((None, 128), (darken, 64)):
        batches = Batches(
            Squares(), TinyConfig(), batch_size=2, seed=3, steps=1, augmentation=augmentation
        )
        ((inputs,),) = stream(batches, network, endless=False)
        assert inputs[0].dtype == tf.uint8 and inputs[0][0, 0, 0].numpy().tolist() == [grey] * 3
        assert [x.dtype for x in inputs[1:]] == [i.dtype for i in network.inputs[1:]]


@pytest.mark.parametrize(
    ("kind", "workers"),
    [("mask_rcnn", 1), ("mask_rcnn", 2), *((kind, 4) for kind in KINDS)],
)
def test_stream_keeps_the_order_of_batches(kind, workers):
    anywhere = new_model(kind, "training", IMAGE_RESIZE_MODE="pad64")
    config = anywhere.config
    made = [
        Batches(Various(*ODD), config, batch_size=2, seed=3, steps=2, workers=w)
        for w in (1, workers)
    ]
    made[1].epoch = 1
    streamed = stream(made[1], anywhere.keras_model).take(4)
    for number, (inputs,) in enumerate(streamed, start=2):
        for x, y in zip(inputs, made[0].batch(number)[0], strict=True):
            np.testing.assert_array_equal(x.numpy(), np.asarray(y, x.numpy().dtype))


def test_validation_stream_repeats_the_same_batches(network):
    batches = Batches(Squares(count=5), TinyConfig(), batch_size=2, seed=3, steps=2)
    streamed = stream(batches, network, endless=False)
    metas = [[inputs[1].numpy() for (inputs,) in streamed] for _ in range(2)]
    np.testing.assert_array_equal(metas[0], metas[1])
    assert np.array(metas[0])[:, :, 0].tolist() == [batches.batch_image_ids(0, i) for i in (0, 1)]


def test_stream_raises_the_error_of_the_dataset(tmp_path):
    dataset = Various((64, 100), (64, 64))
    with pytest.raises(
        ValueError, match=r"(?s)At most 0 images.*multiples of 64. Received: 64 x 100"
    ):
        model = build(tmp_path, IMAGE_RESIZE_MODE="none", IMAGES_PER_GPU=1, MAX_IMAGE_ERRORS=0)
        model.train(dataset, None, 0.001, epochs=1, layers="heads")
