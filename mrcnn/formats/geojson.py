"""Writer of GeoJSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .polygons import Ring
from .writing import Result, Writer, box_of, detections_of, write_json


def geojson_features(
    result: Result, class_names: Sequence[str], file_name: str
) -> list[dict[str, Any]]:
    """Return the GeoJSON features of one image, one per detection; holes and parts are kept.

    Coordinates are pixel corners, y down: no degrees. Outer rings turn from x to y (clockwise on
    the screen) and holes the other way: RFC 7946's order, read with y as written.

    result: as `MaskRCNN.detect` returns. class_names: by class id, background first.

    Returns: Polygon features, or MultiPolygon for several parts, with image, class, score and box
        in `properties`.
    """
    features = []
    for detection in detections_of(result, class_names, file_name):
        polygons = [_closed_rings(part) for part in detection.parts]
        if len(polygons) == 1:
            geometry = {"type": "Polygon", "coordinates": polygons[0]}
        else:
            geometry = {"type": "MultiPolygon", "coordinates": polygons}
        y1, x1, y2, x2 = box_of(result, detection.index)
        properties = {
            "image": str(file_name),
            "class": detection.class_name,
            "score": detection.score,
            "box": [x1, y1, x2, y2],
        }
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return features


def _closed_rings(part: list[Ring]) -> list[list[list[int]]]:
    outer, *holes = part
    return [_closed(outer, turn=1), *(_closed(hole, turn=-1) for hole in holes)]


def _closed(ring: Ring, turn: int) -> list[list[int]]:
    """Return a ring with its first point repeated at the end.

    turn: 1 for a ring that turns from x to y, -1 for the opposite direction.
    """
    x, y = ring.T.astype(float)
    area = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    points = ring if np.sign(area) == turn else ring[::-1]
    return [*points.tolist(), points[0].tolist()]


class GeoJSONWriter(Writer):
    """Writes `detections.geojson`: one feature per detection of all images."""

    file_name = "detections.geojson"

    def __init__(self, folder: Path, class_names: Sequence[str]):
        super().__init__(folder, class_names)
        self._features: list[dict] = []

    def add(self, image: Path, size: Sequence[int], result: Result) -> None:
        """Add the detections of one image."""
        self._features += geojson_features(result, self.class_names, str(image))

    def finish(self) -> list[Path]:
        """Write the file."""
        path = self.folder / self.file_name
        write_json(path, {"type": "FeatureCollection", "features": self._features})
        return [path]
