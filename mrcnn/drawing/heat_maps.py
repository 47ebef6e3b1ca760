"""Maps of scores drawn over images as colors, without a display."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import ArrayLike

from .inputs import as_rgb
from .pages import GAP, contact_sheet, magnification, magnify, titled

SIDE, COLUMNS = 512, 3  # of the page; smaller images are magnified to about SIDE pixels

# Share of the color at score 1; less of it at lower scores, so that the image stays visible.
MOST_COLOR = 0.75

SCALE_TITLE = "colors of the scores 0 (left) to 1 (right)"
SCALE_SHAPE = 30  # width of the color scale divided by its height


def draw_heat_maps(image: ArrayLike, maps: Mapping[str, ArrayLike], side: int = SIDE) -> np.ndarray:
    """Draw a page of an image colored by each map: from dark violet (low) to yellow (1).

    Needs no display. A map's title has its name and its highest score; above the maps is the scale
    of their colors.

    image: [H, W] or [H, W, channels]; a small one is magnified, see `pages.draw_result`.
    maps: name -> [H, W] scores in 0..1, as `Detector.heat_maps` returns.

    Returns: uint8 [H', W', 3].
    Raises: ValueError if a map is not as large as the image.
    """
    panes = []
    for name, scores in maps.items():
        highest = np.max(np.asarray(scores), initial=0)
        panes.append(titled(_colored(image, scores, side), f"{name}: up to {highest:.2f}"))
    page = contact_sheet(panes, COLUMNS)
    if not panes:
        return page
    scale = _color_scale(panes[0].shape[1])
    margins = ((0, GAP), (0, page.shape[1] - scale.shape[1]), (0, 0))
    return np.vstack([np.pad(scale, margins, constant_values=255), page])


def _color_scale(width: int) -> np.ndarray:
    """uint8 [h, width, 3]: the colors of rising scores on black, with a title."""
    height = max(1, width // SCALE_SHAPE)
    scores = np.tile(np.linspace(0, 1, width), (height, 1))
    return titled(_colored(np.zeros((height, width), np.uint8), scores, width), SCALE_TITLE)


def _colored(image: ArrayLike, scores: ArrayLike, side: int) -> np.ndarray:
    """uint8 [H', W', 3]: the image in gray, colored by scores [H, W]."""
    canvas = as_rgb(image)
    scores = np.clip(np.asarray(scores, np.float32), 0, 1)
    if scores.shape != canvas.shape[:2]:
        raise ValueError(
            "A heat map must be as high and wide as its image. "
            f"Received: {scores.shape}, and an image of {canvas.shape[:2]}."
        )
    factor = magnification(canvas.shape, side)
    canvas = magnify(canvas, factor)
    height, width = canvas.shape[:2]
    scores = cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap(np.round(255 * scores).astype(np.uint8), cv2.COLORMAP_INFERNO)
    share = MOST_COLOR * np.square(scores)[..., None]
    gray = canvas.mean(axis=2, keepdims=True)  # colors of the image would mix with those of scores
    mixed = gray * (1 - share) + colors[..., ::-1] * share
    return np.round(mixed).astype(np.uint8)
