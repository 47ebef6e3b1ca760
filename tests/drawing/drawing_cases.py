"""Instances to draw, and what was drawn."""

import cv2
import numpy as np

NAMES = ["BG", "square", "circle"]


def rectangle(box=(5, 6, 10, 14), shape=(20, 24)):
    """boxes [1, 4], masks [H, W, 1] and class ids [1] of one rectangle."""
    y1, x1, y2, x2 = box
    mask = np.zeros((*shape, 1), bool)
    mask[y1:y2, x1:x2] = True
    return np.array([box], np.int32), mask, np.array([1], np.int32)


def painted(picture, color):
    """[H, W] bool: which pixels have exactly this colour."""
    return (picture == np.array(color)).all(axis=2)


def written_texts(monkeypatch):
    """The list that every text written through OpenCV is appended to from now on."""
    texts, put_text = [], cv2.putText

    def write(canvas, text, *rest):
        texts.append(text)
        return put_text(canvas, text, *rest)

    monkeypatch.setattr(cv2, "putText", write)
    return texts


def texts_of(ax):
    return [text.get_text() for text in ax.texts]
