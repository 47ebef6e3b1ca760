"""The application: every answer of every route, from fake models."""

import base64
import io
import json

import numpy as np
import pytest
from fake_detector import (
    FakeModel,
    boxes_image,
    form,
    numbered_box,
    numbered_image,
    png,
    weight_file,
)
from PIL import Image

from mrcnn.formats.rle import decode

TWO = ((5, 6, 15, 26), (20, 30, 38, 40))  # a wide box and a high one
FILE = ("a.png", png(boxes_image(*TWO)))


def image_of(answer):
    """The only image of an answer in JSON."""
    status, _, content = answer
    assert status == 200, content
    (image,) = content["images"]
    return image


# --- Answers --------------------------------------------------------------------------------------


def test_form_is_answered_with_boxes_and_masks(client):
    status, _, content = client.detect(FILE)
    assert (status, content["model"]) == (200, "first")
    image = image_of((status, None, content))
    assert (image["file_name"], image["width"], image["height"]) == ("a.png", 60, 40)
    wide, high = image["detections"]
    assert (wide["class_id"], wide["class_name"], wide["score"]) == (1, "widefirst", 1.0)
    assert (wide["box"], high["box"]) == ([5, 6, 15, 26], [20, 30, 38, 40])
    mask = decode([wide["mask"]], (40, 60))[:, :, 0]
    assert mask.sum() == 200 and mask[5:15, 6:26].all()
    assert "polygons" not in wide


def test_image_without_objects_has_an_empty_list(client):
    for form_of_masks in ("rle", "polygons", "both", "none"):
        answer = client.detect(("a.png", png(boxes_image())), query=f"?masks={form_of_masks}")
        assert image_of(answer)["detections"] == []
    _, _, content = client.detect(("a.png", png(boxes_image())), query="?format=coco")
    assert content["annotations"] == [] and len(content["images"]) == 1
    _, _, content = client.detect(("a.png", png(boxes_image())), query="?format=labelme")
    assert content["shapes"] == []


def test_forms_of_masks(client):
    wide = image_of(client.detect(FILE, query="?masks=polygons"))["detections"][0]
    assert "mask" not in wide
    (polygon,) = wide["polygons"]
    points = {tuple(point) for point in np.reshape(polygon, (-1, 2)).tolist()}
    assert points == {(6, 5), (26, 5), (26, 15), (6, 15)}
    both = image_of(client.detect(FILE, query="?masks=both"))["detections"][0]
    assert both["polygons"] == wide["polygons"] and both["mask"]["size"] == [40, 60]
    none = image_of(client.detect(FILE, query="?masks=none"))["detections"][0]
    assert set(none) == {"class_id", "class_name", "score", "box"}


def test_several_images_are_answered_in_their_order(client):
    files = [(f"{n}.png", png(numbered_image(n))) for n in (7, 300, 41)]
    status, _, content = client.detect(*files)
    assert status == 200
    assert [image["file_name"] for image in content["images"]] == ["7.png", "300.png", "41.png"]
    boxes = [image["detections"][0]["box"] for image in content["images"]]
    assert boxes == [numbered_box(7), numbered_box(300), numbered_box(41)]


def test_json_with_base64(client):
    data = base64.b64encode(FILE[1]).decode()
    body = json.dumps({"images": [{"name": "b.png", "data": data}]})
    answer = client.ask("POST", "/v1/detect", body, {"Content-Type": "application/json"})
    assert image_of(answer)["file_name"] == "b.png" and len(image_of(answer)["detections"]) == 2


def test_coco_and_labelme_are_what_the_writers_write(client, tmp_path):
    result = FakeModel("first").detect([boxes_image(*TWO)])[0]
    result.path = str(tmp_path / "a.png")
    result["masks"] = result.rles
    for name in ("coco", "labelme"):
        status, _, content = client.detect(FILE, query=f"?format={name}")
        result.save(tmp_path / "expected.json", format=name)
        expected = json.loads((tmp_path / "expected.json").read_text())
        assert (status, content) == (200, expected)


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("jpg", "JPEG")])
def test_drawing_is_an_image(client, name, kind):
    status, headers, content = client.detect(FILE, query=f"?format={name}")
    assert (status, headers["Content-Type"]) == (200, f"image/{kind.lower()}")
    drawn = Image.open(io.BytesIO(content))
    assert (drawn.format, drawn.size) == (kind, (780, 520))  # magnified 13 times
    assert len(np.unique(np.asarray(drawn).reshape(-1, 3), axis=0)) > 10


def test_jpeg_has_a_longest_side(client):
    file = ("a.png", png(boxes_image(size=(1, 65_501))))
    status, _, content = client.detect(file, query="?format=jpg")
    assert status == 413 and "Try the format png" in content["error"]
    assert client.detect(file, query="?format=png")[0] == 200


def test_confidence_of_a_request(client):
    weak = ("a.png", png(boxes_image(TWO[0], score=0.5)))
    assert image_of(client.detect(weak))["detections"] == []  # 0.7 is the model's
    found = image_of(client.detect(weak, query="?min_confidence=0.4"))["detections"]
    assert [round(one["score"], 2) for one in found] == [0.5]


def test_other_model(client):
    found = image_of(client.detect(FILE, query="?model=second"))["detections"]
    assert found[0]["class_name"] == "widesecond"
    status, _, content = client.detect(FILE, query="?model=third")
    assert status == 404 and "first, second" in content["error"]


def test_upright_by_exif(client):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated clockwise
    Image.fromarray(boxes_image((0, 0, 10, 20))).save(file, "JPEG", exif=exif, quality=95)
    image = image_of(client.detect(("a.jpg", file.getvalue())))
    assert (image["width"], image["height"]) == (40, 60)
    assert image["detections"][0]["box"] == [0, 30, 20, 40]


def test_preview_is_the_upright_image(client):
    file = io.BytesIO()
    Image.fromarray(boxes_image(*TWO)).save(file, "TIFF")
    body, kind = form(("a.tif", file.getvalue()))
    status, headers, content = client.ask("POST", "/v1/preview", body, {"Content-Type": kind})
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), boxes_image(*TWO))


# --- States and pages -----------------------------------------------------------------------------


def test_models_and_limits(client):
    status, _, content = client.ask("GET", "/v1/models")
    assert status == 200
    first, second = content["models"]
    assert (first["name"], second["name"]) == ("first", "second")
    assert first["class_names"] == ["BG", "widefirst", "highfirst"]
    assert (first["min_confidence"], first["lowest_score"]) == (0.7, 0.05)
    assert content["limits"] == {"bytes": 20 * 2**20, "pixels": 50_000_000, "images": 8}


@pytest.mark.parametrize(
    "path", ["/health", "/v2", "/v2/health/live", "/v2/health/ready", "/openapi.json"]
)
def test_states(client, path):
    assert client.ask("GET", path)[0] == 200


def test_page_has_no_foreign_address_and_a_strict_policy(client):
    for path in ("/", "/page/style.css", "/page/page.js", "/page/client.js", "/page/icon.svg"):
        status, headers, content = client.ask("GET", path)
        assert status == 200
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text.replace("httpd", "")
        assert "innerHTML" not in text


def test_api_page_is_whole_without_a_foreign_address(client):
    status, _, content = client.ask("GET", "/docs")
    assert status == 200 and b"https://" not in content
    assert client.ask("GET", "/docs-files/swagger-ui-bundle.js")[0] == 200


def test_metrics_count_requests_and_batches(client):
    client.detect(FILE)
    client.ask("GET", "/no/such/path/a-client-made-this-up")
    _, headers, content = client.ask("GET", "/metrics")
    text = content.decode()
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'mrcnn_requests_total{code="200",method="POST",path="/v1/detect"}' in text
    assert 'mrcnn_batch_images_count{model="first"}' in text
    assert 'path="other"' in text and "made-this-up" not in text
    assert "mrcnn_accepted_images 0.0" in text


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "word"),
    [("format=exe", "format"), ("masks=all", "masks"), ("min_confidence=2", "min_confidence")],
)
def test_wrong_parameters(client, query, word):
    status, _, content = client.detect(FILE, query=f"?{query}")
    assert status == 400 and content["error"].startswith(f"{word}: ")


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "multipart/form-data; boundary=x", 400),
        (b"--x--", "multipart/form-data; boundary=x", 400),
        (b"no form", "multipart/form-data; boundary=x", 400),
        (b"", "multipart/form-data", 400),
        (b"{}", "application/json", 400),
        (b"text", "text/plain", 415),
        (b"", "", 415),
    ],
)
def test_wrong_bodies(client, body, kind, status):
    found, _, content = client.ask("POST", "/v1/detect", body, {"Content-Type": kind})
    assert found == status and "Try " in content["error"]


def test_no_image_and_too_many_images(client):
    assert client.detect()[0] == 400
    assert client.detect(*[FILE] * 9)[0] == 400
    assert client.detect(FILE, FILE, query="?format=png")[0] == 400


def test_unreadable_image_is_named(client):
    status, _, content = client.detect(("<b>.png", b"no image"))
    assert status == 415 and "<b>.png" in content["error"]


def test_unknown_path_and_method_are_sentences(client):
    assert client.ask("GET", "/nothing")[::2] == (
        404,
        {"error": "The server must know the request. Received: Not Found. Try GET /docs."},
    )
    status, headers, _ = client.ask("GET", "/v1/detect")
    assert (status, headers["Allow"]) == (405, "POST")


def test_image_that_breaks_the_network_harms_no_other(client):
    poison = np.full((40, 60, 3), (66, 6, 66), np.uint8)
    status, _, content = client.detect(("a.png", png(poison)))
    assert status == 500 and "breaks the network" not in content["error"]
    assert client.detect(("a.png", png(poison)), FILE)[0] == 500
    assert len(image_of(client.detect(FILE))["detections"]) == 2
    assert client.state.admission.images == 0


def test_masks_of_a_drawing_are_bounded(client, monkeypatch):
    from mrcnn.serve import answers

    monkeypatch.setattr(answers, "MOST_DRAWN_BYTES", 40 * 60)
    status, _, content = client.detect(FILE, query="?format=png")
    assert status == 413 and "2 of 40 x 60 pixels" in content["error"]


def test_full_server_answers_503_with_a_time_to_retry(serve):
    client = serve(max_images=2)
    with client.state.admission.accept(), client.state.admission.accept():
        status, headers, content = client.detect(FILE)
        assert (status, headers["Retry-After"]) == (503, "1") and "2 of 2" in content["error"]
        assert client.ask("GET", "/health")[0] == 200
    assert client.detect(FILE)[0] == 200
    assert client.detect(FILE, FILE, FILE)[0] == 503  # more than two places


def test_late_answer_is_504_and_health_says_stalled(serve):
    client = serve(seconds=1.0, answer_seconds=0.2)
    status, _, content = client.detect(FILE)
    assert status == 504 and content["error"].startswith("An answer must be ready")
    assert client.ask("GET", "/health")[0] == 503


def test_weights_with_strange_names_are_served_as_text(extra, tmp_path):
    from fake_detector import FakeLoader
    from serving import running

    label = "<script>alert(1)</script>\u202e"
    named = [("<b>", weight_file(tmp_path / "w", label))]
    with running(named, FakeLoader()) as client:
        _, _, content = client.ask("GET", "/v1/models")
        assert content["models"][0]["class_names"][1] == "wide<script>alert(1)</script>"
