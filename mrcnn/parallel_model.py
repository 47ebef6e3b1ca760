"""`ParallelModel`, a kept name: importable, so that old scripts start, and clear about what takes its place."""

from __future__ import annotations

_INSTEAD = (
    "ParallelModel must not be built: it split batches in a TensorFlow 1 graph. Received: {received}. "
    "Try Config.GPU_COUNT (mrcnn train --gpus), from which MaskRCNN knows the devices itself: drop this line."
)


class ParallelModel:
    """matterport's wrapper for several GPUs; only its names remain."""

    def __init__(self, keras_model, gpu_count):
        raise NotImplementedError(_INSTEAD.format(received=f"gpu_count = {gpu_count!r}"))

    def __getattribute__(self, attrname):
        return super().__getattribute__(attrname)

    def summary(self, *args, **kwargs):
        """Not there: see the class."""
        raise NotImplementedError(_INSTEAD.format(received="summary()"))

    def make_parallel(self):
        """Not there: see the class."""
        raise NotImplementedError(_INSTEAD.format(received="make_parallel()"))
