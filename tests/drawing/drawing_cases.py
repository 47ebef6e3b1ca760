"""Instances to draw, and functions that read a drawing."""

import cv2
import numpy as np

NAMES = ["BG", "square", "circle"]


def rectangle(box=(5, 6, 10, 14), shape=(20, 24)):
    """Return boxes [1, 4], masks [H, W, 1] and class ids [1] of one rectangle."""
    y1, x1, y2, x2 = box
    mask = np.zeros((*shape, 1), bool)
    mask[y1:y2, x1:x2] = True
    return np.array([box], np.int32), mask, np.array([1], np.int32)


def painted(image, color):
    """Return the pixels of exactly this color, [H, W] bool."""
    return (image == np.array(color)).all(axis=2)


def written_texts(monkeypatch):
    """Return a list to which every text that OpenCV writes is appended."""
    texts, put_text = [], cv2.putText

    def write(canvas, text, *rest):
        texts.append(text)
        return put_text(canvas, text, *rest)

    monkeypatch.setattr(cv2, "putText", write)
    return texts


def texts_of(ax):
    return [text.get_text() for text in ax.texts]
