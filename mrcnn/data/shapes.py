"""Made data: images of squares, circles and triangles."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .dataset import Dataset


class ShapesDataset(Dataset):
    """Pictures of squares, circles and triangles, drawn on the fly: the data of `mrcnn demo`.

    Each picture has a noisy background and one to four shapes of 12 to 64 px in colours that stand out from
    the background and from each other. Shapes may overlap: the upper one takes its pixels from the masks
    below. A shape that would hide more than three tenths of another is not drawn at all (the original's sample
    allowed boxes to overlap as much), so everything in a picture can be recognised. A picture depends on (seed,
    image_id) only: different seeds are disjoint sets.
    """

    CLASSES = ("square", "circle", "triangle")
    SIDES = (12, 64)  # smallest and largest side, pixels
    MOST_SHAPES = 4
    LEAST_VISIBLE = 0.7  # of a shape's own pixels
    LEAST_CONTRAST = 40.0  # CIELAB distance of two colours; about 2 is the least an eye tells apart
    NOISE = 12.0  # standard deviation of the background, in grey levels

    def __init__(self, count: int, size: tuple[int, int] = (128, 128), seed: int = 0):
        """A prepared dataset of made pictures.

        count: number of pictures. size: (height, width), pixels, at least 12 each. seed: names the set.
        """
        super().__init__()
        if min(size) < self.SIDES[0]:
            raise ValueError(
                f"size must be at least {self.SIDES[0]} pixels each way. Received: {size}. Try (128, 128)."
            )
        self.size, self.seed = (int(size[0]), int(size[1])), int(seed)
        for class_id, name in enumerate(self.CLASSES, start=1):
            self.add_class("shapes", class_id, name)
        for i in range(count):
            self.add_image("shapes", image_id=i, path=None, height=self.size[0], width=self.size[1])
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        """The picture, uint8 [H, W, 3]."""
        masks, _, (background, *colors), rng = self._scene(image_id)
        noise = rng.normal(0, self.NOISE, (*self.size, 3))
        image = np.clip(background + noise, 0, 255).astype(np.uint8)
        for mask, color in zip(masks, colors, strict=True):
            image[mask] = color
        return image

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """The visible part of each shape, bool [H, W, N], and class ids, int32 [N]."""
        masks, class_ids, _, _ = self._scene(image_id)
        return np.stack(masks, axis=-1), np.array(class_ids, np.int32)

    def image_reference(self, image_id: int) -> str:
        """Which picture it is, in words."""
        return f"shapes, seed {self.seed}, picture {image_id}"

    def _scene(self, image_id: int) -> tuple[list, list, list, np.random.Generator]:
        """Visible masks, class ids, colours (the background's first), and the generator for the noise."""
        rng = np.random.default_rng([self.seed, int(image_id)])
        colors = [rng.integers(0, 256, 3)]
        whole, visible, class_ids = [], [], []
        for _ in range(rng.integers(1, self.MOST_SHAPES + 1)):
            class_id = int(rng.integers(1, len(self.CLASSES) + 1))
            shape = self._shape(rng, self.CLASSES[class_id - 1])
            below = [mask & ~shape for mask in visible]
            left = [now.sum() / full.sum() for now, full in zip(below, whole, strict=True)]
            if left and min(left) < self.LEAST_VISIBLE:
                continue
            colors.append(self._standout_color(rng, colors))
            whole, visible, class_ids = [*whole, shape], [*below, shape], [*class_ids, class_id]
        return visible, class_ids, colors, rng

    def _shape(self, rng: np.random.Generator, name: str) -> np.ndarray:
        """The mask of one shape at a random place, wholly inside the picture."""
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
            cv2.fillPoly(mask, [np.array(corners)], 1)
        return mask.astype(bool)

    def _standout_color(self, rng: np.random.Generator, others: Sequence[np.ndarray]) -> np.ndarray:
        """A random colour that an eye tells from each of the others, uint8 [3]."""
        while True:  # five colours leave most of the colour space free: a few tries
            color = rng.integers(0, 256, 3)
            lab = cv2.cvtColor(np.float32([[color, *others]]) / 255, cv2.COLOR_RGB2LAB)[0]
            if np.linalg.norm(lab[1:] - lab[0], axis=1).min() >= self.LEAST_CONTRAST:
                return color
