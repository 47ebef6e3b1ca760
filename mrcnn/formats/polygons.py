"""Polygons: checked, turned into run-length codes, and traced along the pixels of a mask.

Coordinates follow COCO: (0, 0) is the top left corner of the first pixel, x goes right, y goes
down, and everything beyond the border of the image is cut off.

Readers turn polygons into run-length codes (`rle`), which are small and give box and area without
pixels; writers turn masks into rings along the *corners* of their pixels, so that a ring filled by
COCO's rule (pycocotools, and with it our readers) is the mask again, pixel for pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ..files.limits import LONGEST_SIDE, MOST_POINTS
from .rle import RLE, check_rle, encode_polygons, encode_runs, merge
from .values import is_finite, short

MAX_LENGTH = 2_000_000  # of a polygon, pixels; pycocotools allocates 100 bytes for each of them
MERGED_TOGETHER = 64  # parts of an object; merging takes the square of their number

Polygon = list[float]  # x1, y1, x2, y2, ... in pixels
Ring = np.ndarray  # [K, (x, y)] int pixel corners, closed without repeating the first


# --- From annotation files ------------------------------------------------------------------------


def check_polygon(points: Any, where: str) -> Polygon:
    """Return a flat list x1, y1, x2, y2, ... of a file as a polygon.

    where: names file and entry.

    Raises: ValueError unless these are at least three finite points, at most `MOST_POINTS` points
        and a line of at most `MAX_LENGTH` pixels.
    """
    if isinstance(points, list):
        _check_count(len(points) // 2, where)
    try:
        flat = np.asarray(points, dtype=float)
    except (TypeError, ValueError, OverflowError):
        flat = np.array([math.nan])
    if flat.ndim != 1 or not np.isfinite(flat).all():
        raise ValueError(
            f"Coordinates must be a list of finite numbers. Received: {short(points)} in {where}. "
            "Try to draw this shape again, or delete the entry."
        )
    if len(flat) % 2 or len(flat) < 6:
        raise ValueError(
            "A polygon must have at least 3 points, x and y for each. Received: "
            f"{len(flat)} numbers in {where}. Try to draw this shape again, or delete the entry."
        )
    if np.abs(flat).max() > MAX_LENGTH / len(flat):  # otherwise it cannot be too long
        check_length(flat, (LONGEST_SIDE, LONGEST_SIDE), where)
    return flat.tolist()


def check_length(polygon: Sequence[float] | np.ndarray, size: tuple[int, int], where: str) -> None:
    """Check that a polygon is short enough to be filled.

    polygon: x1, y1, x2, y2, ... pixels.
    size: (height, width) of its image, or the largest possible.

    Raises: ValueError if it is longer than `MAX_LENGTH`, as a line that crosses itself 10,000s of
        times is.
    """
    points = _near_image(polygon, size)
    steps = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1)
    length = steps.sum()
    if length > MAX_LENGTH:
        raise ValueError(
            f"A polygon must be at most {MAX_LENGTH:,} pixels long. "
            f"Received: {length:,.0f} pixels, {len(points):,} points in {where}. "
            "Try to simplify it, or to draw it again without crossing lines."
        )


def check_points(points: Any, where: str, least: int = 3) -> Polygon:
    """Return a list of pairs [[x, y], ...] of a file as a flat list of floats.

    where: names file and entry. least: the smallest allowed number of points.

    Raises: ValueError unless these are `least` to `MOST_POINTS` finite points.
    """
    is_pairs = isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 2 for point in points
    )
    if not is_pairs:
        raise ValueError(
            f"Points must be a list of pairs [x, y]. Received: {short(points)} in {where}. "
            "Try to draw this shape again, or delete the entry."
        )
    _check_count(len(points), where)
    flat = [value for point in points for value in point]
    if not all(is_finite(value) for value in flat):
        raise ValueError(
            f"Coordinates must be finite numbers. Received: {short(points)} in {where}. "
            "Try to draw this shape again, or delete the entry."
        )
    if len(points) < least:
        raise ValueError(
            f"This shape must have at least {least} points. Received: {len(points)} in {where}. "
            "Try to draw it again, or delete the entry."
        )
    return [float(value) for value in flat]


def _check_count(points: int, where: str) -> None:
    if points > MOST_POINTS:
        raise ValueError(
            f"A polygon must have at most {MOST_POINTS:,} points. Received: {points:,} in {where}. "
            "Try to simplify it, or delete the entry."
        )


def rectangle(y1: float, x1: float, y2: float, x2: float) -> Polygon:
    """Return the corners of a box."""
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def ellipse(cx: float, cy: float, rx: float, ry: float, theta: float = 0.0) -> Polygon:
    """Return 100 points along an ellipse.

    theta: rotation in radians, clockwise on the screen.
    """
    angles = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    along, across = rx * np.cos(angles), ry * np.sin(angles)
    x = cx + along * np.cos(theta) - across * np.sin(theta)
    y = cy + along * np.sin(theta) + across * np.cos(theta)
    return np.stack([x, y], axis=-1).ravel().tolist()


def rotated(polygon: Polygon, center: Sequence[float], theta: float) -> Polygon:
    """Return a polygon rotated about a point.

    center: (x, y). theta: radians, clockwise on the screen.
    """
    if not theta:
        return polygon
    cos, sin = np.cos(theta), np.sin(theta)
    points = np.reshape(polygon, (-1, 2)) - center
    return (points @ np.array([[cos, sin], [-sin, cos]]) + center).ravel().tolist()


def polygons_to_rle(polygons: Sequence[Polygon], size: tuple[int, int]) -> RLE:
    """Return one compressed RLE of all parts of an object, cut at the border of the image.

    polygons: as `check_polygon` returns them. size: (height, width) of the image.
    """
    if len(polygons) > MERGED_TOGETHER:
        half = len(polygons) // 2
        halves = [polygons[:half], polygons[half:]]
        return merge([polygons_to_rle(part, size) for part in halves])
    flat = [_near_image(polygon, size).ravel().tolist() for polygon in polygons]
    return merge(encode_polygons(flat, size))


def _near_image(polygon: Sequence[float] | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the points `[N, (x, y)]` of a polygon, clipped to at most one image beyond the border.

    pycocotools walks along every pixel of an edge, however far from the image.
    """
    height, width = size
    reach = np.array([width, height])
    return np.clip(np.asarray(polygon, float).reshape(-1, 2), -reach, 2 * reach)


def segmentation_to_rle(segmentation: list | dict, size: tuple[int, int], where: str) -> RLE:
    """Return a compressed RLE from COCO's polygons, or from an RLE of either kind.

    segmentation: polygons that `check_polygon` accepts, or an RLE. size: (height, width) of the
    image. where: names file and entry.

    Raises: ValueError if an RLE does not fill the image.
    """
    if isinstance(segmentation, list):
        return polygons_to_rle(segmentation, size)
    check_rle(segmentation, size, where)
    counts = segmentation["counts"]
    if isinstance(counts, str):
        return {"size": list(size), "counts": counts}
    runs = [int(run) for run in counts]  # check_rle accepts 60.0, too
    return encode_runs([runs], size)[0]


# --- From masks -----------------------------------------------------------------------------------


def trace_mask(mask: np.ndarray) -> list[list[Ring]]:
    """Return the rings of each part of a mask, exactly along the corners of its pixels.

    Parts are connected by the sides of pixels, so that no ring crosses itself; rings may touch in a
    corner.

    mask: `[H, W]`, nonzero inside.

    Returns: for each part [outer ring, *holes], each ring `[K, (x, y)]` int; no part for an empty
        mask.
    """
    mask = np.asarray(mask).astype(bool)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return []
    top, left = int(rows[0]), int(columns[0])
    inside = mask[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
    parts = []
    for label in range(1, count):
        x, y, width, height = (int(side) for side in boxes[label, :4])
        part = labels[y : y + height, x : x + width] == label
        parts.append([ring + (left + x, top + y) for ring in _rings(part)])
    return parts


def _rings(part: np.ndarray) -> list[Ring]:
    """Return the outer ring of one connected part, then its holes. part: bool `[h, w]`."""
    # OpenCV walks along the centers of the outermost pixels. In the mask enlarged by 2, each corner
    # has a pixel of its own on the inside: pixel u there is the corner (u + 1) // 2.
    large = cv2.resize(part.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, hierarchy = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents = hierarchy[0, :, 3]
    order = np.argsort(parents >= 0, kind="stable")  # the outer ring has no parent
    return [_corners(contours[i][:, 0, :]) for i in order]


def _corners(contour: np.ndarray) -> Ring:
    """Return the corners at which a contour `[K, (x, y)]` of the enlarged mask turns."""
    points = (contour + 1) // 2
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    before = points - np.roll(points, 1, axis=0)
    after = np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return points[turns]


def join_rings(rings: Sequence[Ring]) -> Ring:
    """Return all rings as one closed line, for formats that know neither holes nor parts.

    Each ring is reached over a bridge of no width, walked there and back. Tools that fill a polygon
    by counting crossings (COCO, matplotlib, most others) do not show the bridge; those that also
    paint the line show it one pixel wide.

    rings: at least one, `[K, (x, y)]` each. Returns: `[K, (x, y)]`.
    """
    line = rings[0]
    for ring in rings[1:]:
        nearest = int(np.argmin(np.abs(line - ring[0]).sum(axis=1)))
        line = np.concatenate([line[: nearest + 1], ring, ring[:1], line[nearest:]])
    return line
