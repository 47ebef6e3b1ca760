"""--auto: sizes that fit into memory; the user's own stay."""

import logging

import pytest
from squares import Squares, sizes

from mrcnn.app import auto_sizes
from mrcnn.app.auto_sizes import choose_sizes, fitting_sizes, wanted_sides
from mrcnn.app.memory import StepMemory
from mrcnn.config import Config

STEP = StepMemory(fixed=1e9, per_image=1e8, per_pixel=2000)


def images(count, *shape):
    """Images whose annotations give their size."""
    dataset = Squares(count)
    for info in dataset.image_info:
        info["height"], info["width"] = shape
    return dataset


@pytest.mark.parametrize(
    ("dataset", "has_gpu", "side", "larger"),
    [
        (images(3, 500, 640), True, 640, None),
        (images(3, 500, 630), True, 640, None),
        (images(3, 512, 512), False, 512, None),
        (images(3, 500, 640), False, 512, 640),  # detection can do more than a training
        (images(3, 4000, 3000), True, 1024, 1536),  # half as much again
        (images(3, 3000, 3000), False, 512, 768),
        (images(3, 60, 60), True, 256, None),
        (sizes((300, 200), (320, 200)), True, 320, None),  # no files: images
        (Squares(2, broken=(0, 1)), False, 512, None),  # nothing can be read
    ],
)
def test_images_are_wanted_at_their_own_size_within_limits(dataset, has_gpu, side, larger):
    assert wanted_sides(dataset, has_gpu) == (side, larger)


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        # 1e9 + 2 * (1e8 + 2000 * 512 * 512) = 2.25e9, of which 0.8 must be free
        (3.0e9, (512, 2)),
        # 1e9 + 1e8 + 2000 * 512 * 512 = 1.62e9
        (2.5e9, (512, 1)),
        # 1e9 + 1e8 + 2000 * 320 * 320 = 1.305e9 <= 0.8 * 1.7e9 = 1.36e9
        (1.7e9, (320, 1)),
        (1.0e9, (256, 1)),  # it does not fit: the smallest
    ],
)
def test_largest_batch_that_fits_otherwise_smaller_images(available, expected):
    found = fitting_sizes(STEP, available, 512, 256, (2, 1))
    assert (found.side, found.batch) == expected
    assert found.bytes == STEP.of(found.batch, found.side)


@pytest.fixture
def chosen(monkeypatch, caplog):
    """The config after a choice, with a network of STEP and this memory."""

    def choose(dataset, has_gpu=True, available=8e10, by_user=(), **settings):
        monkeypatch.setattr(auto_sizes, "step_memory", lambda _: STEP)
        monkeypatch.setattr(auto_sizes, "memory_at_hand", lambda _: available)
        config = Config()
        for name, value in settings.items():
            setattr(config, name, value)
        with caplog.at_level(logging.INFO, logger="mrcnn"):
            choose_sizes(config, set(by_user), dataset, has_gpu)
        return config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM, config.IMAGES_PER_GPU

    return choose


def test_choice_is_logged(chosen, caplog):
    assert chosen(images(200, 500, 640)) == (640, 640, 16)
    assert "images of 640 px, 16 a batch. A step takes about 15.7 GB, and 80.0 GB of a GPU" in (
        caplog.text  # 1e9 + 16 * (1e8 + 2000 * 640 * 640) = 15.7e9
    )


def test_epoch_keeps_some_steps(chosen):
    assert chosen(images(40, 500, 640))[2] == 4  # 40 images, 8 steps: at most 5
    assert chosen(images(6, 500, 640))[2] == 2


def test_on_a_cpu_batches_are_small(chosen):
    assert chosen(images(200, 500, 640), has_gpu=False) == (512, 512, 2)


def test_settings_of_the_user_stay(chosen):
    by_user = {"IMAGE_MAX_DIM", "IMAGES_PER_GPU"}
    assert chosen(images(200, 500, 640), by_user=by_user, IMAGES_PER_GPU=3) == (800, 1024, 3)
    assert chosen(images(200, 500, 640), IMAGE_RESIZE_MODE="crop")[:2] == (800, 1024)


def test_too_little_memory_is_warned_about(chosen, caplog):
    assert chosen(images(200, 500, 640), has_gpu=False, available=1e9) == (256, 256, 1)
    assert "for images of 512 px there is not enough memory" in caplog.text
    assert "may not fit into memory; try a smaller BACKBONE" in caplog.text


def test_unknown_memory_leaves_the_batch(chosen, caplog):
    assert chosen(images(200, 500, 640), available=None) == (640, 640, 2)
    assert "the memory of this machine is unknown" in caplog.text
