"""Polygons: checked, made, turned into run-length codes, and traced along the pixels of a mask.

Coordinates follow COCO: (0, 0) is the top left corner of the first pixel, and what lies beyond the border of the
image is cut off. Outlines become run-length codes, which are small and tell box and area without pixels
(`pycocotools.mask.toBbox`, `area`), and these become masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from ..files.limits import MOST_POINTS
from .rle import RLE, check_rle, encode
from .values import is_finite, short

LONGEST_WALK = 2_000_000  # pixels; pycocotools needs 100 bytes a pixel of an outline's length
CROSSINGS_AT_ONCE = 2**21  # of edges with columns: about 150 MB
MERGED_AT_ONCE = 64  # parts of an object
Polygon = list[float]  # x1, y1, x2, y2, ... in pixels
Ring = np.ndarray  # [K, (x, y)] int pixel corners, closed without repeating the first


def polygons_to_rle(polygons: Sequence[Polygon], size: tuple[int, int]) -> RLE:
    """One compressed run-length code of all parts of an object, cut at the border of the image.

    polygons: as `check_polygon` gives them. size: (height, width) of the image.
    """
    # Merging takes the square of the number of codes: hundreds of thousands are merged by halves.
    if len(polygons) > MERGED_AT_ONCE:
        half = len(polygons) // 2
        return coco_mask.merge(
            [polygons_to_rle(polygons[:half], size), polygons_to_rle(polygons[half:], size)]
        )
    height, width = size
    reach = np.array([width, height])
    codes = []
    for polygon in polygons:
        # Wild coordinates would have pycocotools walk along kilometres of edge: bring them near first.
        points = np.clip(np.asarray(polygon, float).reshape(-1, 2), -reach, 2 * reach)
        if np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum() > LONGEST_WALK:
            codes.append(encode(fill_even_odd(points, size)))
        else:
            codes += coco_mask.frPyObjects([points.ravel().tolist()], height, width)
    return coco_mask.merge(codes)


def fill_even_odd(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool [H, W]: the pixels whose centre an outline encloses an odd number of times.

    For outlines so long and tangled (100,000 points to and fro) that the libraries take gigabytes or hours.

    points: [N, (x, y)] pixels. size: (height, width).
    """
    height, width = size
    start, end = points, np.roll(points, -1, axis=0)
    left = np.where(start[:, :1] <= end[:, :1], start, end)
    right = np.where(start[:, :1] <= end[:, :1], end, start)
    # Each edge crosses the columns whose centre lies in [left, right), each in one place: all pixels below toggle.
    first, last = (
        np.clip(np.ceil(side[:, 0] - 0.5), 0, width).astype(int) for side in (left, right)
    )
    crossed = last - first
    odd = np.zeros((height + 1, width), bool)
    total = np.cumsum(crossed)
    cuts = np.searchsorted(total, np.arange(CROSSINGS_AT_ONCE, total[-1], CROSSINGS_AT_ONCE))
    for edges in np.split(np.arange(len(points)), cuts):
        edge = np.repeat(edges, crossed[edges])
        before = np.repeat(np.cumsum(crossed[edges]) - crossed[edges], crossed[edges])
        column = first[edge] + np.arange(len(edge)) - before
        run = right[edge] - left[edge]
        y = left[edge, 1] + (column + 0.5 - left[edge, 0]) * run[:, 1] / run[:, 0]
        row = np.clip(np.ceil(y - 0.5), 0, height).astype(int)
        np.logical_xor.at(odd, (row, column), True)
    np.logical_xor.accumulate(odd, axis=0, out=odd)
    return odd[:height]


def rectangle(y1: float, x1: float, y2: float, x2: float) -> Polygon:
    """The corners of a box."""
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def ellipse(cx: float, cy: float, rx: float, ry: float, theta: float = 0.0) -> Polygon:
    """A polygon of 100 points along an ellipse, or a circle; theta turns it, radians, clockwise on the screen."""
    t = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    along, across = rx * np.cos(t), ry * np.sin(t)
    x = cx + along * np.cos(theta) - across * np.sin(theta)
    y = cy + along * np.sin(theta) + across * np.cos(theta)
    return np.stack([x, y], axis=-1).ravel().tolist()


def segmentation_to_rle(segmentation: list | dict, size: tuple[int, int], where: str) -> RLE:
    """A compressed run-length code of the image's size from COCO's polygons or run-length code of either kind.

    segmentation: polygons as `check_polygon` lets pass, or a run-length code. where: names file and entry.

    Raises: ValueError where a run-length code does not fill the image.
    """
    if isinstance(segmentation, list):
        return polygons_to_rle(segmentation, size)
    check_rle(segmentation, size, where)
    code = {"size": list(size), "counts": segmentation["counts"]}
    if isinstance(code["counts"], list):
        code["counts"] = [int(run) for run in code["counts"]]
        return coco_mask.frPyObjects(code, *size)
    return code


def check_polygon(points: Any, where: str) -> Polygon:
    """A flat list of at least three finite points, or a ValueError that says where they stand."""
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
            f"A polygon must have at least 3 points, x and y for each. Received: {len(flat)} numbers in "
            f"{where}. Try to draw this shape again, or delete the entry."
        )
    return flat.tolist()


def _check_count(points: int, where: str) -> None:
    if points > MOST_POINTS:
        raise ValueError(
            f"An outline must have at most {MOST_POINTS:,} points. Received: {points:,} in {where}. "
            "Try to simplify it, or delete the entry."
        )


def check_points(points: Any, where: str, least: int = 3) -> Polygon:
    """A flat list of points that a file lists as pairs [[x, y], ...], or a ValueError that says where they stand."""
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
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


def mask_outlines(mask: np.ndarray) -> list[list[Ring]]:
    """The parts of a mask, each as its outer ring and then its holes: exactly along the corners of its pixels.

    Parts are connected by the sides of pixels, so every ring is simple; rings may touch in a corner.

    mask: [H, W], nonzero inside.

    Returns: one list a part: [outer ring, *holes], each ring [K, (x, y)] int. None for an empty mask.
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
    """The outer ring of one connected part, and its holes."""
    # OpenCV runs through the centres of the outermost pixels. Magnified twice, every corner has a pixel of its own
    # on the inside: pixel u of the larger mask stands for the corner (u + 1) // 2.
    large = cv2.resize(part.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, hierarchy = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents = hierarchy[0, :, 3]
    order = np.argsort(parents >= 0, kind="stable")  # the outer ring has no parent
    return [_corners(contours[i][:, 0, :]) for i in order]


def _corners(contour: np.ndarray) -> Ring:
    """The corners in which a contour of the magnified mask turns."""
    points = (contour + 1) // 2
    points = points[np.any(points != np.roll(points, 1, axis=0), axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]


def one_outline(rings: Sequence[Ring]) -> Ring:
    """All rings as one closed line, for formats that know neither holes nor parts.

    Each ring is reached over a bridge of no width, walked there and back. What fills an outline by counting crossings
    (COCO, matplotlib, most tools) sees no bridge; what also paints the line itself shows it one pixel wide.

    rings: at least one, [K, (x, y)] each. Returns: [K, (x, y)].
    """
    line = rings[0]
    for ring in rings[1:]:
        at = int(np.argmin(np.abs(line - ring[0]).sum(axis=1)))
        line = np.concatenate([line[: at + 1], ring, ring[:1], line[at:]])
    return line
