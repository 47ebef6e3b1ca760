"""Detections as GeoJSON."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .polygons import Ring
from .results import Result, found_in


def geojson_features(result: Result, class_names: Sequence[str], file_name: str) -> list[dict]:
    """The GeoJSON features of one image, a feature a detection: holes and parts are kept.

    Coordinates are pixel corners, y down: no degrees. Outer rings turn from x to y (clockwise on the screen), holes
    the other way, which is RFC 7946's order read with y as written.

    result, class_names, file_name: as for `labelme`.

    Returns: Polygon or, for several parts, MultiPolygon features with image, class, score and box in `properties`.
    """
    features = []
    for i, name, score, parts in found_in(result, class_names, file_name):
        polygons = [
            [_closed(outer, 1), *(_closed(hole, -1) for hole in holes)] for outer, *holes in parts
        ]
        geometry = (
            {"type": "Polygon", "coordinates": polygons[0]}
            if len(polygons) == 1
            else {"type": "MultiPolygon", "coordinates": polygons}
        )
        y1, x1, y2, x2 = (int(side) for side in result["rois"][i])
        properties = {
            "image": str(file_name),
            "class": name,
            "score": score,
            "box": [x1, y1, x2, y2],
        }
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return features


def _closed(ring: Ring, turn: int) -> list[list[int]]:
    """The ring with its first point repeated at the end; turn 1: from x to y, -1: the other way."""
    x, y = ring.T.astype(np.int64)
    area = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    ring = ring if np.sign(area) == turn else ring[::-1]
    return [*ring.tolist(), ring[0].tolist()]
