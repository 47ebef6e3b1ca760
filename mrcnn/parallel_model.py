"""matterport's `ParallelModel`: importable, and an error that names its replacement."""

from __future__ import annotations

_INSTEAD = (
    "ParallelModel must not be built: it split batches in a TensorFlow 1 graph. "
    "Received: {received}. Try Config.GPU_COUNT (mrcnn train --gpus): MaskRCNN then uses the "
    "devices."
)


class ParallelModel:
    """matterport's wrapper for several GPUs; every use raises NotImplementedError."""

    def __init__(self, keras_model, gpu_count):
        raise NotImplementedError(_INSTEAD.format(received=f"gpu_count = {gpu_count!r}"))

    def __getattribute__(self, attrname):
        return super().__getattribute__(attrname)

    def summary(self, *args, **kwargs):
        """Raise NotImplementedError."""
        raise NotImplementedError(_INSTEAD.format(received="summary()"))

    def make_parallel(self):
        """Raise NotImplementedError."""
        raise NotImplementedError(_INSTEAD.format(received="make_parallel()"))
