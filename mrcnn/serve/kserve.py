"""KServe's V2 inference protocol: tensors of a request to images, detections to tensors.

https://github.com/kserve/open-inference-protocol, with the binary tensors of Triton's extension.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..files.limits import check_size
from ..files.safe_text import printable
from .answers import JSON, Answer, Found
from .errors import RequestError
from .uploads import Upload, decode_base64

LENGTH_HEADER = "Inference-Header-Content-Length"
BINARY = "application/octet-stream"
PLATFORM = "keras_mrcnn"

# The outputs of one image are rows of these tensors; B images, N the most detections of one.
OUTPUTS = {
    "num_detections": ("INT32", [-1]),
    "boxes": ("FP32", [-1, -1, 4]),
    "class_ids": ("INT32", [-1, -1]),
    "scores": ("FP32", [-1, -1]),
    "labels": ("BYTES", [-1, -1]),
    "masks": ("BYTES", [-1, -1]),
}


class InferRequest(NamedTuple):
    """A request: its images, decoded or as files, and how its outputs are wanted.

    arrays: `[H, W, C]` uint8 each. files: encoded images; one of the two is empty.
    outputs: name -> whether as a binary tensor.
    """

    request_id: str | None
    arrays: list[np.ndarray]
    files: list[Upload]
    outputs: dict[str, bool]


def model_metadata(name: str, version: str, channels: int) -> dict[str, Any]:
    """Return the protocol's description of a model."""
    image = {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, channels]}
    outputs = [
        {"name": output, "datatype": datatype, "shape": shape}
        for output, (datatype, shape) in OUTPUTS.items()
    ]
    return {
        "name": name,
        "versions": [version],
        "platform": PLATFORM,
        "inputs": [image],
        "outputs": outputs,
    }


# --- Requests -----------------------------------------------------------------------------------


def read_request(body: bytes, json_length: str | None, channels: int) -> InferRequest:
    """Return the request that a body contains.

    json_length: the header LENGTH_HEADER, if binary tensors follow the JSON.
    channels: of the model's images.

    Raises: RequestError 400, 413.
    """
    content, blobs = _split(body, json_length)
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _invalid("inputs must be a list of one tensor, named image", type(inputs).__name__)
    tensor = inputs[0]
    shape = _shape_of(tensor)
    request_id = content.get("id")
    arrays: list[np.ndarray] = []
    files: list[Upload] = []
    if tensor.get("datatype") == "UINT8":
        arrays = _arrays(tensor, shape, blobs, channels)
    elif tensor.get("datatype") == "BYTES":
        files = _files(tensor, shape, blobs)
    else:
        raise _invalid("datatype must be UINT8 or BYTES", tensor.get("datatype"))
    return InferRequest(
        request_id if isinstance(request_id, str) else None, arrays, files, _wanted(content)
    )


def _invalid(rule: str, received: object) -> RequestError:
    return RequestError(
        400, f"{rule}. Received: {printable(received, 100)}. Try GET /v2/models/NAME."
    )


def _split(body: bytes, json_length: str | None) -> tuple[dict, bytes]:
    """Return the JSON of a body, and the binary tensors behind it."""
    length = len(body)
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdigit() and int(json_length) <= length):
            raise _invalid(f"{LENGTH_HEADER} must be a length within the body", json_length)
        length = int(json_length)
    try:
        content = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise _invalid("The body must be JSON", f"{type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise _invalid("The JSON must be an object with inputs", type(content).__name__)
    return content, body[length:]


def _shape_of(tensor: dict) -> list[int]:
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(map(_is_side, shape)):
        raise _invalid("shape must be a list of positive whole numbers", shape)
    return shape


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _arrays(tensor: dict, shape: list[int], blobs: bytes, channels: int) -> list[np.ndarray]:
    """Return the images of a tensor `[H, W, C]` or `[B, H, W, C]` of UINT8."""
    if len(shape) not in (3, 4) or shape[-1] != channels:
        raise _invalid(f"shape must be [H, W, {channels}] or [B, H, W, {channels}]", shape)
    try:
        check_size(shape[-3], shape[-2], "a tensor")
    except ValueError as error:
        raise RequestError(413, str(error)) from error
    count = math.prod(shape)
    blob = _blob(tensor, blobs)
    if blob is not None:
        if len(blob) != count:
            raise _invalid(f"The tensor of shape {shape} must have {count} bytes", len(blob))
        values = np.frombuffer(blob, np.uint8)
    else:
        values = _from_numbers(tensor.get("data"), count)
    images = values.reshape(-1, *shape[-3:])
    return list(images)


def _from_numbers(data: Any, count: int) -> np.ndarray:
    """Return `count` numbers 0 to 255 of a list, flat or nested."""
    try:
        values = np.asarray(data).ravel()
    except (ValueError, OverflowError) as error:
        raise _invalid("data must be numbers from 0 to 255", error) from error
    if values.dtype.kind not in "iu" or len(values) != count:
        raise _invalid(f"data must be {count} numbers from 0 to 255", f"{len(values)} values")
    if values.min() < 0 or values.max() > 255:
        raise _invalid("data must be numbers from 0 to 255", f"{values.min()} to {values.max()}")
    return values.astype(np.uint8)


def _files(tensor: dict, shape: list[int], blobs: bytes) -> list[Upload]:
    """Return the image files of a tensor `[B]` of BYTES: base64 in JSON, as they are in binary."""
    blob = _blob(tensor, blobs)
    if blob is not None:
        contents = _split_bytes(blob)
    else:
        data = tensor.get("data")
        if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
            raise _invalid("data of BYTES must be a list of texts in base64", type(data).__name__)
        contents = [decode_base64(text, "data") for text in data]
    if len(contents) != math.prod(shape):
        raise _invalid(f"The tensor must have its shape {shape}", f"{len(contents)} elements")
    return [Upload(f"image_{i + 1}", content) for i, content in enumerate(contents)]


def _blob(tensor: dict, blobs: bytes) -> bytes | None:
    """Return the bytes of a binary tensor; None for one whose data is in the JSON."""
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if size != len(blobs):
        raise _invalid("binary_data_size must be the number of bytes after the JSON", size)
    return blobs


def _split_bytes(blob: bytes) -> list[bytes]:
    """Return the elements of a binary tensor of BYTES: each has its length before it."""
    elements, place = [], 0
    while place < len(blob):
        length = int.from_bytes(blob[place : place + 4], "little")
        place += 4
        if place + length > len(blob):
            raise _invalid("An element of BYTES must end within its tensor", length)
        elements.append(blob[place : place + length])
        place += length
    return elements


def _wanted(content: dict) -> dict[str, bool]:
    """Return which outputs a request wants, and whether as binary tensors; default all."""
    is_binary = _flag(content, "binary_data_output")
    outputs = content.get("outputs")
    if not outputs:
        return dict.fromkeys(OUTPUTS, is_binary)
    wanted = {}
    for output in outputs if isinstance(outputs, list) else [outputs]:
        name = output.get("name") if isinstance(output, dict) else None
        if name not in OUTPUTS:
            raise _invalid(f"outputs must be among {', '.join(OUTPUTS)}", name)
        wanted[name] = _flag(output, "binary_data") or is_binary
    return wanted


def _flag(entry: dict, name: str) -> bool:
    parameters = entry.get("parameters")
    return isinstance(parameters, dict) and parameters.get(name) is True


# --- Responses ----------------------------------------------------------------------------------


class InferAnswer(NamedTuple):
    """The body of a response. json_length: of its JSON, if binary tensors follow it."""

    answer: Answer
    json_length: int | None


def response(request: InferRequest, found: Sequence[Found], model: str) -> InferAnswer:
    """Return the response to a request; rows beyond an image's detections are 0 or empty."""
    tensors = output_tensors(found, "masks" in request.outputs)
    entries, blobs = [], []
    for name, is_binary in request.outputs.items():
        values = tensors.get(name)
        if values is None:  # a network without masks
            continue
        entry = {"name": name, "datatype": OUTPUTS[name][0], "shape": list(values.shape)}
        if is_binary:
            blobs.append(_as_bytes(values))
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = values.ravel().tolist()
        entries.append(entry)
    content = {"model_name": model, "model_version": found[0].version, "outputs": entries}
    if request.request_id is not None:
        content["id"] = request.request_id
    text = json.dumps(content).encode()
    if not blobs:
        return InferAnswer(Answer(text, JSON), None)
    return InferAnswer(Answer(b"".join([text, *blobs]), BINARY), len(text))


def output_tensors(found: Sequence[Found], with_masks: bool) -> dict[str, np.ndarray]:
    """Return the tensors of `OUTPUTS` for B images; masks are JSON of run-length codes."""
    counts = [one.result.count for one in found]
    rows = (len(found), max(counts, default=0))
    tensors = {
        "num_detections": np.array(counts, np.int32),
        "boxes": np.zeros((*rows, 4), np.float32),
        "class_ids": np.zeros(rows, np.int32),
        "scores": np.zeros(rows, np.float32),
        "labels": np.full(rows, "", object),
    }
    if with_masks and all("masks" in one.result for one in found):
        tensors["masks"] = np.full(rows, "", object)
    for i, one in enumerate(found):
        result, count = one.result, counts[i]
        tensors["boxes"][i, :count] = result.boxes
        tensors["class_ids"][i, :count] = result.class_ids
        tensors["scores"][i, :count] = result.scores
        tensors["labels"][i, :count] = result.labels
        if "masks" in tensors:
            tensors["masks"][i, :count] = [json.dumps(rle) for rle in result.rles or []]
    return tensors


def _as_bytes(values: np.ndarray) -> bytes:
    """Return a tensor in the binary form of Triton's extension."""
    if values.dtype != object:
        return values.astype(values.dtype.newbyteorder("<")).tobytes()
    texts = [text.encode() for text in values.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
