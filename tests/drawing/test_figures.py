"""matplotlib figures: their artists, titles and warnings."""

import logging
import re
import warnings

import numpy as np
import pytest
from drawing_cases import NAMES, rectangle, texts_of
from matplotlib import patches
from matplotlib import pyplot as plt

from mrcnn.drawing import figures


def test_display_instances_warns_of_keywords_it_ignores(caplog, monkeypatch):
    monkeypatch.setattr(figures, "_show", lambda: None)
    boxes, masks, ids = rectangle()
    figures.display_instances(
        np.zeros((20, 24, 3)),
        boxes,
        masks,
        ids,
        NAMES,
        making_image=True,
        making_video=False,
        show_class=True,
    )
    assert "display_instances ignores making_image, making_video, show_class" in caplog.text


def test_display_instances_shows_the_figure_and_keeps_it_open(monkeypatch):
    shown = []
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: shown.append(plt.gcf()))
    boxes, masks, ids = rectangle()
    figures.display_instances(np.zeros((20, 24, 3)), boxes, masks, ids, NAMES, [0.98765], title="T")
    assert shown == [plt.gcf()]
    ax = plt.gca()
    assert texts_of(ax) == ["square 0.988"] and ax.get_title() == "T"
    assert plt.gcf().get_size_inches().tolist() == [16, 16]


def test_display_instances_in_a_loop_keeps_one_figure_open():
    boxes, masks, ids = rectangle()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(25):
            figures.display_instances(
                np.zeros((20, 24, 3)), boxes, masks, ids, NAMES, figsize=(1, 1)
            )
    assert len(plt.get_fignums()) == 1


def test_display_instances_draws_into_given_axes_without_showing(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("must not show"))
    boxes, masks, ids = rectangle((5, 6, 10, 14))
    _, (left, right) = plt.subplots(1, 2)
    figures.display_instances(
        np.zeros((20, 24, 3)),
        boxes,
        masks,
        ids,
        NAMES,
        ax=right,
        colors=[(1, 0, 0)],
        captions=["hello"],
    )
    assert not left.images and texts_of(right) == ["hello"]
    (box,) = [p for p in right.patches if isinstance(p, patches.Rectangle)]
    (contour,) = [p for p in right.patches if isinstance(p, patches.Polygon)]
    # pixels 6..13 and 5..9 reach from 5.5 to 13.5 and from 4.5 to 9.5 in an imshow image
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (5.5, 4.5, 8, 5)
    assert contour.get_xy().min(axis=0).tolist() == [5.5, 4.5]
    assert contour.get_xy().max(axis=0).tolist() == [13.5, 9.5]
    drawn = right.images[0].get_array()
    np.testing.assert_array_equal(drawn[:, :, 0], masks[:, :, 0] * 127)  # half of red


def test_display_instances_without_tint_or_boxes_keeps_the_contour():
    boxes, masks, ids = rectangle()
    figures.display_instances(
        np.zeros((20, 24, 3)), boxes, masks, ids, NAMES, show_mask=False, show_bbox=False
    )
    ax = plt.gca()
    assert [type(p) for p in ax.patches] == [patches.Polygon]
    assert not ax.images[0].get_array().any()


@pytest.mark.parametrize(
    "boxes, masks, ids, message",
    [
        ([], [], [], "zero boxes were given.*DETECTION_MIN_CONFIDENCE"),
        (np.zeros((2, 4)), np.zeros((20, 24, 2)), [1, 1], "all 2 boxes are zero"),
    ],
)
def test_display_instances_without_instances_warns_and_shows_the_image(
    boxes, masks, ids, message, caplog
):
    with caplog.at_level(logging.WARNING, "mrcnn"):
        figures.display_instances(np.full((20, 24, 3), 7, np.uint8), boxes, masks, ids, NAMES)
    (record,) = caplog.records
    assert "No instances to display" in record.getMessage()
    assert re.search(message, record.getMessage())
    assert (plt.gca().images[0].get_array() == 7).all()


def test_display_images_arranges_a_grid(caplog):
    images = [
        np.zeros((4, 5), bool),
        np.zeros((4, 5, 1)),
        np.zeros((4, 5, 3), np.uint8),
        np.zeros((4, 5, 9)),
        np.full((4, 5, 3), 4000, np.uint16),
    ]
    figures.display_images(images, titles=list("abcde"), cols=2)
    assert [ax.get_title() for ax in plt.gcf().axes] == list("abcde")
    assert [ax.images[0].get_array().shape for ax in plt.gcf().axes] == [
        (4, 5),
        (4, 5),
        *[(4, 5, 3)] * 3,
    ]
    assert plt.gcf().axes[0].get_subplotspec().get_gridspec().get_geometry() == (3, 2)
    wide = plt.gcf().get_size_inches()
    # Each row is a quarter as high as it is wide, plus its title.
    figures.display_images([np.zeros((4, 16))] * 2, cols=1)
    assert plt.gcf().get_size_inches() == pytest.approx((14, 2 * (14 / 4 + 0.3)))
    assert wide == pytest.approx((14, 3 * (7 * 4 / 5 + 0.3)))
    figures.display_images([])
    assert "No images to display" in caplog.text


def test_display_top_masks_orders_classes_by_area():
    masks = np.zeros((10, 10, 3), bool)
    masks[0, :3, 0] = masks[1, :4, 1] = masks[5:9, :, 2] = True  # areas 3, 4, 40
    figures.display_top_masks(np.zeros((10, 10, 3)), masks, np.array([1, 1, 2]), NAMES, limit=3)
    axes = plt.gcf().axes
    assert [ax.get_title() for ax in axes] == ["H x W=10x10", "circle", "square", "-"]
    gray = np.asarray(axes[2].images[0].get_array())
    assert gray[0, 0] == 1 and gray[1, 0] == 2 and gray.sum() == 3 * 1 + 4 * 2
    figures.display_top_masks(np.zeros((10, 10, 3)), np.zeros((10, 10, 0)), [], NAMES, limit=1)
    assert [ax.get_title() for ax in plt.gcf().axes] == ["H x W=10x10", "-"]


def test_draw_rois_pastes_masks_of_positive_rois_only():
    rois = np.array([[2, 3, 6, 9], [10, 10, 14, 18]])
    image, masks = np.zeros((20, 24, 3)), np.ones((2, 28, 28))
    figures.draw_rois(image, rois, rois + 1, masks, np.array([2, 0]), NAMES)
    ax = plt.gca()
    assert texts_of(ax) == ["circle"] and ax.get_title() == "2 of 2 ROIs; of all, 1 positive"
    assert [p.get_y() for p in ax.patches] == [1.5, 2.5, 9.5]
    assert [p.get_linestyle() for p in ax.patches] == ["dashed", "solid", "dashed"]
    assert ax.lines[0].get_xydata().tolist() == [[3, 2], [4, 3]]
    tinted = np.asarray(ax.images[0].get_array()).any(axis=2)
    assert tinted.sum() == 4 * 6 and tinted[2:6, 3:9].all()


def test_draw_rois_respects_its_limit_and_takes_zero_rois():
    rois = np.tile([2, 3, 6, 9], (30, 1))
    image = np.zeros((20, 24, 3))
    figures.draw_rois(image, rois, rois, np.ones((30, 8, 8)), np.zeros(30, int), NAMES, limit=4)
    assert len(plt.gca().patches) == 4
    empty = np.zeros((0, 4))
    figures.draw_rois(image, empty, empty, np.zeros((0, 28, 28)), np.zeros(0, int), NAMES)
    assert not plt.gca().patches


def test_draw_boxes_styles_by_visibility():
    boxes = np.array([[1, 2, 5, 6], [2, 3, 6, 7], [3, 4, 8, 9], [0, 0, 0, 0]])
    masks = np.zeros((20, 24, 4), bool)
    masks[1:5, 2:6, 0] = True
    figures.draw_boxes(
        np.zeros((20, 24, 3)),
        boxes,
        boxes + 1,
        masks,
        list("abcd"),
        visibilities=[0, 1, 2, 0],
        title="T",
    )
    ax = plt.gca()
    outlines = [p for p in ax.patches if isinstance(p, patches.Rectangle)]
    # gray is not refined; the others are followed by their refined box; the zero box is skipped
    assert [p.get_linestyle() for p in outlines] == ["dotted", "dotted", "solid", "solid", "solid"]
    assert outlines[0].get_edgecolor() == (0.5, 0.5, 0.5, 0.5)
    assert len(ax.lines) == 2 and texts_of(ax) == ["a", "b", "c"]
    assert ax.texts[1].get_position() == (4, 3)  # on the refined box
    assert sum(isinstance(p, patches.Polygon) for p in ax.patches) == 1


def test_draw_boxes_requires_boxes_and_takes_zero_boxes():
    with pytest.raises(ValueError, match="boxes or refined_boxes must be given. Received: neither"):
        figures.draw_boxes(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="captions must have .* 1 for 2"):
        figures.draw_boxes(np.zeros((4, 4, 3)), refined_boxes=np.ones((2, 4)), captions=["a"])
    _, ax = plt.subplots()
    figures.draw_boxes(np.zeros((4, 4, 3)), np.zeros((0, 4)), ax=ax)
    assert ax.images and not ax.patches
