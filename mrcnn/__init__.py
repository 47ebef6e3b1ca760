"""Mask R-CNN for Keras 3 and TensorFlow, in the matterport style."""

__version__ = "0.1.0"
