"""Write a network as a LiteRT (TensorFlow Lite) file."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import tensorflow as tf

from ..inference.runtimes import NOTE
from .description import as_text
from .litert_float16 import store_float16
from .saved_model import write_saved_model
from .settings import Job


def write_litert(path: Path, job: Job) -> None:
    """Write a .tflite file; float16 and int8 store the kernels so.

    int8 computes convolutions in integers whose ranges are those of each image ("dynamic range"),
    so that box arithmetic stays float32.

    The description is appended as a zip archive, as TensorFlow Lite's metadata is: `unzip -p
    FILE mrcnn.json` prints it.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        portable = Path(folder, "portable")
        write_saved_model(portable, job._replace(precision="float32"), is_portable=True)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(portable))
        if job.precision == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        content = converter.convert()
        path.write_bytes(store_float16(content) if job.precision == "float16" else content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(NOTE, as_text(job.metadata))
