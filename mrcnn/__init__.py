"""Mask R-CNN for Keras 3 and TensorFlow, in the matterport style."""

import os

__version__ = "0.1.0"

# TensorFlow's C++ logs tell of absent GPUs and of the cost of every tensor of unknown size, thousands of lines a
# training; what goes wrong raises an exception as well. What the user has set stays.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
