"""KServe's V2 protocol: metadata, tensors in JSON and binary, and what is refused."""

import base64
import json

import numpy as np
import pytest
from fake_detector import boxes_image, numbered_box, numbered_image, png

pytest.importorskip("starlette", reason="needs the extra [serve]")

from mrcnn.formats.rle import decode
from mrcnn.serve import kserve
from mrcnn.serve.errors import RequestError

INFER = "/v2/models/first/infer"
IMAGE = boxes_image((5, 6, 15, 26), (20, 30, 38, 40))


def tensor(images, **entries):
    """A tensor of images, in JSON."""
    images = np.asarray(images)
    data = images.ravel().tolist()
    made = {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": data}
    return {**made, **entries}


def infer(client, content, **headers):
    return client.ask("POST", INFER, json.dumps(content), headers)


def outputs_of(content):
    return {
        entry["name"]: np.reshape(np.array(entry["data"], object), entry["shape"])
        for entry in content["outputs"]
    }


def test_metadata(client):
    _, _, first = client.ask("GET", "/v2/models/first")
    assert first["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert [entry["name"] for entry in first["outputs"]] == list(kserve.OUTPUTS)
    (version,) = first["versions"]
    path = f"/v2/models/first/versions/{version}"
    assert client.ask("GET", path)[2] == first
    assert client.ask("GET", f"{path}/ready")[2] == {"name": "first", "ready": True}
    assert client.ask("GET", "/v2/models/first/versions/7")[0] == 404
    assert client.ask("GET", "/v2/models/third")[0] == 404


def test_one_image_in_json(client):
    status, _, content = infer(client, {"id": "42", "inputs": [tensor(IMAGE)]})
    assert status == 200
    assert (content["model_name"], content["id"]) == ("first", "42")
    outputs = outputs_of(content)
    assert outputs["num_detections"].tolist() == [2]
    assert outputs["boxes"].tolist() == [[[5, 6, 15, 26], [20, 30, 38, 40]]]
    assert outputs["class_ids"].tolist() == [[1, 2]] and outputs["scores"].tolist() == [[1, 1]]
    assert outputs["labels"].tolist() == [["widefirst", "highfirst"]]
    rles = [json.loads(text) for text in outputs["masks"][0]]
    assert decode(rles, (40, 60)).sum(axis=(0, 1)).tolist() == [200, 180]


def test_rows_beyond_the_detections_of_an_image_are_empty(client):
    _, _, content = infer(client, {"inputs": [tensor([IMAGE, boxes_image()])]})
    outputs = outputs_of(content)
    assert outputs["num_detections"].tolist() == [2, 0]
    assert outputs["boxes"].shape == (2, 2, 4) and not outputs["boxes"][1].any()
    assert outputs["labels"][1].tolist() == ["", ""]


def test_nothing_found(client):
    _, _, content = infer(client, {"inputs": [tensor([boxes_image()])]})
    shapes = {entry["name"]: entry["shape"] for entry in content["outputs"]}
    assert shapes["boxes"] == [1, 0, 4] and shapes["masks"] == [1, 0]


def test_nested_data_and_chosen_outputs(client):
    nested = tensor(IMAGE, data=IMAGE.tolist())
    _, _, content = infer(client, {"inputs": [nested], "outputs": [{"name": "scores"}]})
    (only,) = content["outputs"]
    assert (only["name"], only["shape"], only["data"]) == ("scores", [1, 2], [1.0, 1.0])


def test_encoded_files(client):
    data = [base64.b64encode(png(numbered_image(n))).decode() for n in (3, 200)]
    files = {"name": "image", "datatype": "BYTES", "shape": [2], "data": data}
    _, _, content = infer(client, {"inputs": [files]})
    boxes = outputs_of(content)["boxes"]
    assert boxes[:, 0].tolist() == [numbered_box(3), numbered_box(200)]


def binary_request(content, blob):
    """`(body, headers)` of a request with a binary tensor, as Triton's clients send it."""
    text = json.dumps(content).encode()
    return text + blob, {kserve.LENGTH_HEADER: str(len(text))}


def test_binary_tensors(client):
    blob = IMAGE.tobytes()
    entry = tensor(IMAGE, parameters={"binary_data_size": len(blob)})
    del entry["data"]
    parameters = {"binary_data_output": True}
    body, headers = binary_request({"inputs": [entry], "parameters": parameters}, blob)
    status, found, answer = client.ask("POST", INFER, body, headers)
    assert (status, found["Content-Type"]) == (200, "application/octet-stream")
    length = int(found[kserve.LENGTH_HEADER])
    sizes = {
        entry["name"]: entry["parameters"]["binary_data_size"]
        for entry in json.loads(answer[:length])["outputs"]
    }
    assert (sizes["num_detections"], sizes["boxes"], sizes["scores"]) == (4, 32, 8)
    assert len(answer) == length + sum(sizes.values())
    boxes = np.frombuffer(answer[length + 4 : length + 36], "<f4").reshape(2, 4)
    assert boxes.tolist() == [[5, 6, 15, 26], [20, 30, 38, 40]]


def test_binary_files(client):
    file = png(IMAGE)
    blob = len(file).to_bytes(4, "little") + file
    size = {"binary_data_size": len(blob)}
    entry = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": size}
    body, headers = binary_request({"inputs": [entry]}, blob)
    status, _, content = client.ask("POST", INFER, body, headers)
    assert status == 200 and outputs_of(content)["num_detections"].tolist() == [2]


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"inputs": []},
        {"inputs": [tensor(IMAGE)] * 2},
        {"inputs": ["image"]},
        {"inputs": [tensor(IMAGE, datatype="FP32")]},
        {"inputs": [tensor(IMAGE, shape=[40, 60])]},
        {"inputs": [tensor(IMAGE, shape=[40, 60, 4])]},
        {"inputs": [tensor(IMAGE, shape=[40, 61, 3])]},
        {"inputs": [tensor(IMAGE, shape=[40, -60, 3])]},
        {"inputs": [tensor(IMAGE, shape=[True, 60, 3])]},
        {"inputs": [tensor(IMAGE, shape="all")]},
        {"inputs": [tensor(IMAGE, data=[[1], [2, 3]])]},
        {"inputs": [tensor(IMAGE, data=None)]},
        {"inputs": [tensor(IMAGE[:1, :1], data=[0, 256, 0])]},
        {"inputs": [tensor(IMAGE[:1, :1], data=[0, 0.5, 0])]},
        {"inputs": [tensor(IMAGE[:1, :1], data=["a", "b", "c"])]},
        {"inputs": [tensor(IMAGE[:1, :1], data=[0, 10**30, 0])]},
        {"inputs": [tensor(IMAGE, parameters={"binary_data_size": 5})]},
        {"inputs": [tensor(IMAGE)], "outputs": [{"name": "other"}]},
        {"inputs": [tensor(IMAGE)], "outputs": "all"},
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [5]}]},
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": ["abcd"]}]},
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["%"]}]},
    ],
)
def test_wrong_requests(client, content):
    status, _, answer = infer(client, content)
    assert status == 400 and "Received: " in answer["error"]


@pytest.mark.parametrize("length", ["-1", "x", "99999999", "1e3", "\u00b2"])
def test_wrong_lengths(length):
    with pytest.raises(RequestError, match="within the body"):
        kserve.read_request(b"{}", length, 3)


def test_element_that_ends_behind_its_tensor_is_refused():
    with pytest.raises(RequestError, match="end within its tensor"):
        kserve._split_bytes(b"\x05\x00\x00\x00abcd")
    assert kserve._split_bytes(b"") == []


def test_sizes_are_checked_before_memory_is_used(client):
    huge = {"name": "image", "datatype": "UINT8", "shape": [100_000, 100_000, 3], "data": []}
    assert infer(client, {"inputs": [huge]})[0] == 413
    nine = tensor(np.zeros((9, 2, 2, 3), np.uint8))
    status, _, answer = infer(client, {"inputs": [nine]})
    assert status == 400 and "at most 8 images" in answer["error"]
