"""The grid of augmentations: its size, its image, and datasets that have none."""

import numpy as np
from squares import BoxedSquares, Shown, Squares, box_only, config

from mrcnn.data.augment import compose
from mrcnn.drawing.augmentations import augmentation_sheet


def test_without_a_readable_image_there_is_no_sheet():
    broken = Squares(2, broken=(0, 1))
    assert augmentation_sheet(broken, config(), compose(["flip"])) is None


def test_first_tile_is_the_image_and_others_are_draws():
    sheet = augmentation_sheet(Shown(), config(), compose(["none"]))
    height = (sheet.shape[0] + 8) // 3  # three rows, with gaps of 8
    first, second = sheet[:, :360], sheet[:, 368:728]
    assert sheet.shape[1] == 4 * 360 + 3 * 8 and height > 360
    # Titles differ, images do not.
    np.testing.assert_array_equal(
        first[height - 8 - 360 : height - 8], second[height - 368 : height - 8]
    )
    flipped = augmentation_sheet(Shown(), config(), compose(["flip"]))
    assert not np.array_equal(sheet, flipped)


def test_image_with_objects_is_chosen():
    class Late(Shown):
        def load_mask(self, image_id):
            masks, ids = super().load_mask(image_id)
            return (masks, ids) if image_id == 4 else (masks[:, :, :0], ids[:0])

    drawn = augmentation_sheet(Late(), config(), compose(["none"]))
    colors = np.unique(drawn.reshape(-1, 3), axis=0)
    assert len(colors) > 20  # the three objects are drawn in color


def test_images_without_objects_and_boxes_without_masks():
    empty = Squares(masks=np.zeros((64, 64, 0), bool), class_ids=[])
    assert augmentation_sheet(empty, config(), compose(["standard"])) is not None
    boxed = augmentation_sheet(BoxedSquares(), box_only(), compose(["aerial"]))
    assert boxed is not None
