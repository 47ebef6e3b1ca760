"""Mask R-CNN for Keras 3 and TensorFlow, in the matterport style."""

import os

__version__ = "0.1.0"

# TensorFlow's C++ logs tell of absent GPUs and of the cost of every tensor of unknown size, thousands of lines a
# training; what goes wrong raises an exception as well. What the user has set stays.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Where TensorFlow computes without oneDNN (a CPU without AVX-512) it gives the memory of every large tensor back to the
# system and gets it anew, page by page, at each op: 7 % of a detection. The allocator that it takes with oneDNN or a
# GPU keeps the memory for the next op; the peak is the same. Its limit of 64 GB is lifted.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(2**24))
