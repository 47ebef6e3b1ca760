"""The page in a real Chromium: upload, slider, classes, errors, several images, downloads.

Needs Debian's browser and Playwright's Python package (`pip install playwright`, no browser of its
own): apt-get install chromium.
"""

import io
import json
import shutil

import pytest
from fake_detector import FakeLoader, FakeModel, boxes_image, png, weight_file
from PIL import Image
from serving import running

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TWO = ((5, 6, 15, 26), (20, 30, 38, 40))  # wide, high
SCRIPT_NAME = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def browser(extra):
    """A headless Chromium."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install playwright"
    )
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def tab(browser):
    """A tab of the browser: a new one for each test would take a second."""
    made = browser.new_page(viewport={"width": 1200, "height": 800})
    made.set_default_timeout(30_000)
    return made


@pytest.fixture
def page(tab, client):
    """The page of a server with two models; fails if it asks another address or has an error."""
    page = tab
    address = f"http://127.0.0.1:{client.port}"
    problems = []
    listeners = {
        "pageerror": lambda error: problems.append(str(error)),
        "dialog": lambda dialog: problems.append(dialog.message) or dialog.dismiss(),
        "request": lambda request: _check_address(request.url, address, problems),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    page.goto(address)
    page.locator("#limits:not(:empty)").wait_for()
    yield page
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    assert problems == []


def _check_address(url, address, problems):
    if not url.startswith((f"{address}/", f"blob:{address}/", "data:")):
        problems.append(url)


def file(name, *boxes, score=1.0):
    """An image file for an input of the page."""
    return {
        "name": name,
        "mimeType": "image/png",
        "buffer": png(boxes_image(*boxes, score=score)),
    }


def upload(page, *files):
    """Give files to the page and wait for their answers."""
    page.set_input_files("#files", list(files))
    answered = page.locator("#thumbnails button:is(.done, .failed)")
    answered.nth(len(files) - 1).wait_for()


def names(page):
    return page.locator("#objects .name").all_inner_texts()


def set_confidence(page, value):
    page.locator("#confidence").fill(str(value))


def downloaded(page, kind):
    """The content of a downloaded file, and its name."""
    with page.expect_download() as waiting:
        page.click(f"#download-{kind}")
    download = waiting.value
    with open(download.path(), encoding="utf-8") as stream:
        return json.load(stream), download.suggested_filename


def test_upload_shows_objects_with_boxes_masks_and_labels(page):
    assert page.locator("#empty").is_visible() and page.locator("#download-json").is_disabled()
    upload(page, file("a.png", *TWO))
    assert names(page) == ["widefirst", "highfirst"]
    assert page.locator("#overlay path").count() == page.locator("#overlay rect").count() == 2
    assert page.locator("#tags span").all_inner_texts() == ["highfirst 1.00", "widefirst 1.00"]
    # The overlay lies on the image: the box (5, 6, 15, 26) of 40 x 60 pixels.
    image, box = page.locator("#image").bounding_box(), page.locator("#overlay rect").nth(1)
    scale = image["width"] / 60
    assert box.bounding_box()["x"] - image["x"] == pytest.approx(6 * scale, abs=3)
    assert box.bounding_box()["height"] == pytest.approx(10 * scale, abs=6)
    assert page.locator("#caption").inner_text() == "a.png, 60 x 40 pixels, 2 objects"


def test_image_without_objects(page):
    upload(page, file("empty.png"))
    assert names(page) == [] and "0 objects" in page.locator("#caption").inner_text()
    assert page.locator("#shown").inner_text() == "0 of 0 objects shown"


def test_slider_and_classes_filter(page):
    upload(page, file("a.png", *TWO, score=0.8))
    assert len(names(page)) == 2
    set_confidence(page, 0.81)
    assert names(page) == [] and page.locator("#confidence-value").inner_text() == "0.81"
    assert page.locator("#shown").inner_text() == "0 of 2 objects shown"
    set_confidence(page, 0.5)
    page.get_by_label("highfirst").uncheck()
    assert names(page) == ["widefirst"]
    assert page.locator("#thumbnails .badge").inner_text() == "1"
    page.click("#no-classes")
    assert names(page) == []
    page.click("#all-classes")
    assert len(names(page)) == 2
    page.get_by_label("Masks").uncheck()
    assert not page.locator("#overlay path").first.is_visible()


def test_error_is_a_sentence_with_the_name_of_the_file(page):
    broken = {"name": "<b>broken</b>.png", "mimeType": "image/png", "buffer": b"no image"}
    upload(page, broken, file("a.png", *TWO))
    error = page.locator("#errors .error")
    assert error.count() == 1
    assert error.inner_text().startswith("<b>broken</b>.png The file must be a readable image.")
    error.get_by_role("button", name="Dismiss").click()
    assert page.locator("#errors .error").count() == 0
    page.get_by_role("button", name="a.png, 2 objects").click()
    assert len(names(page)) == 2


def test_several_images_keep_their_own_objects(page):
    upload(page, file("one.png", TWO[0]), file("two.png", *TWO), file("three.png"))
    badges = page.locator("#thumbnails .badge")
    assert badges.all_inner_texts() == ["1", "2", "0"]
    page.locator("#thumbnails button").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#caption").inner_text().startswith("two.png")
    assert len(names(page)) == 2
    current = page.locator("#thumbnails [aria-current=true]")
    assert current.get_attribute("aria-label") == "two.png, 2 objects"
    page.click("#clear")
    assert page.locator("#empty").is_visible() and page.locator("#thumbnails li").count() == 0


def test_downloads_are_what_the_server_writes(page, client):
    ring = boxes_image((5, 6, 25, 26))
    ring[10:15, 10:15] = 0  # a hole
    files = [
        file("one.png", TWO[0], score=0.9),
        {"name": "ring.png", "mimeType": "image/png", "buffer": png(ring)},
    ]
    upload(page, *files)
    set_confidence(page, 0.3)
    sent = [(one["name"], one["buffer"]) for one in files]
    query = "?min_confidence=0.3"
    content, name = downloaded(page, "coco")
    assert name == "coco.json"
    assert content == client.detect(*sent, query=f"{query}&format=coco")[2]
    content, name = downloaded(page, "json")
    assert name == "detections.json"
    assert content["images"] == client.detect(*sent, query=query)[2]["images"]
    assert content["class_names"] == ["BG", "widefirst", "highfirst"]
    page.get_by_role("button", name="ring.png, 1 object").click()
    content, name = downloaded(page, "labelme")
    assert name == "ring.json"
    assert content == client.detect(sent[1], query=f"{query}&format=labelme")[2]


def test_downloads_have_what_is_shown(page):
    upload(page, file("a.png", *TWO))
    page.get_by_label("widefirst").uncheck()
    content, _ = downloaded(page, "coco")
    assert [one["category_id"] for one in content["annotations"]] == [2]


def test_names_of_files_and_classes_are_text(page):
    upload(page, file(SCRIPT_NAME, *TWO))
    assert page.locator("#caption").inner_text().startswith(SCRIPT_NAME)
    assert page.locator("#thumbnails img[src=x], #caption img").count() == 0


def test_other_model(page):
    upload(page, file("a.png", *TWO))
    page.select_option("#model", "second")
    page.locator("#objects .name", has_text="widesecond").wait_for()
    assert page.locator("#classes .name").all_inner_texts() == ["widesecond", "highsecond"]


def test_whole_page_works_with_the_keyboard(page):
    upload(page, file("a.png", *TWO))
    row = page.locator("#objects button").first
    row.focus()
    assert page.locator("#overlay g.active").count() == 1
    row.blur()
    assert page.locator("#overlay g.active").count() == 0
    page.locator("#confidence").focus()
    before = page.locator("#confidence-value").inner_text()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#confidence-value").inner_text() != before
    # Everything that can be used has a name for screen readers.
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select")].filter((one) =>
            !one.closest("dialog") && !one.textContent.trim() && !one.labels?.length
            && !one.getAttribute("aria-label")).length"""
    )
    assert nameless == 0
    assert page.locator("#status").inner_text() == "a.png: 2 objects"


def test_image_that_browsers_cannot_show(page):
    stream = io.BytesIO()
    Image.fromarray(boxes_image(*TWO)).save(stream, "TIFF")
    upload(page, {"name": "a.tif", "mimeType": "image/tiff", "buffer": stream.getvalue()})
    assert len(names(page)) == 2
    preview = page.locator("#image[src^=blob]")
    preview.evaluate(
        "async (image) => { while (!image.naturalWidth) await new Promise("
        "(resolve) => setTimeout(resolve, 20)); }"
    )
    assert preview.evaluate("(image) => [image.naturalWidth, image.naturalHeight]") == [60, 40]


def test_page_asks_for_the_token(tab, serve):
    token = "0123456789abcdef"
    client = serve(token=token)
    page = tab
    page.goto(f"http://127.0.0.1:{client.port}")
    page.locator("#token").fill("a wrong token")
    page.keyboard.press("Enter")
    page.locator("#token-dialog[open] #token").fill(token)
    page.get_by_role("button", name="Use it").click()
    page.locator("#limits:not(:empty)").wait_for()
    upload(page, file("a.png", *TWO))
    assert len(names(page)) == 2


def test_single_class_shows_scores_and_a_color_per_object(tab, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeModel, "set_label", _one_class)
    with running([("one", weight_file(tmp_path / "w"))], FakeLoader()) as client:
        page = tab
        page.goto(f"http://127.0.0.1:{client.port}")
        upload(page, file("a.png", TWO[0], (25, 6, 35, 26)))
        assert page.locator("#tags span").all_inner_texts() == ["1.00", "1.00"]
        colors = [one.get_attribute("fill") for one in page.locator("#overlay path").all()]
        assert len(set(colors)) == 2


def _one_class(model, label):
    model.class_names = ["BG", "object"]
