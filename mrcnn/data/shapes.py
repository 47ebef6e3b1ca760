"""`ShapesDataset`: images of squares, circles and triangles, drawn when they are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .dataset import Dataset


class _Scene(NamedTuple):
    """The shapes of an image.

    masks: `[H, W]` bool, the visible part of each shape. class_ids, colors: of each shape.
    background: `[3]` color. rng: for the noise.
    """

    masks: list[np.ndarray]
    class_ids: list[int]
    colors: list[np.ndarray]
    background: np.ndarray
    rng: np.random.Generator


class ShapesDataset(Dataset):
    """Images of squares, circles and triangles: the data of `mrcnn demo`.

    Each image has a noisy background and one to four shapes of 12 to 64 px, in colors that differ
    from the background and from each other. An upper shape hides pixels of those below, but never
    more than three tenths of one (matterport's sample limited the overlap of boxes alike), so that
    each shape can be recognized. An image depends on (seed, its id) only: different seeds give
    disjoint sets.
    """

    CLASSES = ("square", "circle", "triangle")
    SIDES = (12, 64)  # smallest and largest side, px
    MOST_SHAPES = 4
    LEAST_VISIBLE = 0.7  # share of a shape's own pixels
    LEAST_CONTRAST = 40.0  # CIELAB distance of two colors; people can distinguish about 2
    NOISE = 12.0  # standard deviation of the background, in gray levels

    def __init__(self, count: int, size: tuple[int, int] = (128, 128), seed: int = 0):
        """Create a prepared dataset.

        Args:
            count: number of images.
            size: (height, width) px, at least 12 each.
            seed: selects the set of images.
        """
        super().__init__()
        if min(size) < self.SIDES[0]:
            raise ValueError(
                f"Both sides of size must be at least {self.SIDES[0]} pixels. Received: {size}. "
                "Try (128, 128)."
            )
        self.size, self.seed = (int(size[0]), int(size[1])), int(seed)
        for class_id, name in enumerate(self.CLASSES, start=1):
            self.add_class("shapes", class_id, name)
        for i in range(count):
            self.add_image("shapes", image_id=i, path=None, height=self.size[0], width=self.size[1])
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        """Return the `[H, W, 3]` uint8 image."""
        scene = self._scene(image_id)
        noise = scene.rng.normal(0, self.NOISE, (*self.size, 3))
        image = np.clip(scene.background + noise, 0, 255).astype(np.uint8)
        for mask, color in zip(scene.masks, scene.colors, strict=True):
            image[mask] = color
        return image

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the visible part of each shape, `[H, W, N]` bool, and class ids, `[N]` int32."""
        scene = self._scene(image_id)
        return np.stack(scene.masks, axis=-1), np.array(scene.class_ids, np.int32)

    def image_reference(self, image_id: int) -> str:
        """Return the seed and the number of the image."""
        return f"shapes, seed {self.seed}, image {self.image_info[image_id]['id']}"

    def _scene(self, image_id: int) -> _Scene:
        """Draw the shapes of an image, the same at each call."""
        rng = np.random.default_rng([self.seed, self.image_info[image_id]["id"]])
        background = rng.integers(0, 256, 3)
        whole: list[np.ndarray] = []
        scene = _Scene([], [], [], background, rng)
        for _ in range(rng.integers(1, self.MOST_SHAPES + 1)):
            class_id = int(rng.integers(1, len(self.CLASSES) + 1))
            shape = self._shape(rng, self.CLASSES[class_id - 1])
            below = [mask & ~shape for mask in scene.masks]
            if not self._enough_visible(below, whole):
                continue
            color = self._contrasting_color(rng, [background, *scene.colors])
            whole.append(shape)
            scene.masks[:] = [*below, shape]
            scene.class_ids.append(class_id)
            scene.colors.append(color)
        return scene

    def _enough_visible(self, visible: list[np.ndarray], whole: list[np.ndarray]) -> bool:
        """Whether LEAST_VISIBLE of each shape can be seen."""
        shares = [part.sum() / full.sum() for part, full in zip(visible, whole, strict=True)]
        return min(shares, default=1.0) >= self.LEAST_VISIBLE

    def _shape(self, rng: np.random.Generator, name: str) -> np.ndarray:
        """The mask of one shape at a random position, entirely inside the image."""
        height, width = self.size
        side = int(rng.integers(self.SIDES[0], min(self.SIDES[1], height, width) + 1))
        y, x = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        mask = np.zeros(self.size, np.uint8)
        if name == "square":
            mask[y : y + side, x : x + side] = 1
        elif name == "circle":
            rows, columns = np.ogrid[:side, :side]
            middle = (side - 1) / 2
            inside = (rows - middle) ** 2 + (columns - middle) ** 2 <= (side / 2) ** 2
            mask[y : y + side, x : x + side] = inside
        else:
            corners = [(x, y + side - 1), (x + side - 1, y + side - 1), (x + (side - 1) // 2, y)]
            cv2.fillPoly(mask, [np.array(corners)], [1])
        return mask.astype(bool)

    def _contrasting_color(
        self, rng: np.random.Generator, others: Sequence[np.ndarray]
    ) -> np.ndarray:
        """A random color, `[3]`, that people distinguish from each of the others."""
        while True:  # five colors exclude a small part of the color space: a few tries suffice
            color = rng.integers(0, 256, 3)
            rgb = np.array([[color, *others]], np.float32) / 255
            lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0]
            if np.linalg.norm(lab[1:] - lab[0], axis=1).min() >= self.LEAST_CONTRAST:
                return color
