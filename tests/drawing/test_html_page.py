"""HTML pages: escaping, tables, embedded images."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from mrcnn.drawing import html_page
from mrcnn.files.write_image import save_image

EVIL = "</td><script src=//x.example>\u202e\x1b[31m&\"'"
ESCAPED = "&lt;/td&gt;&lt;script src=//x.example&gt; [31m&amp;&quot;&#x27;"


def test_texts_are_escaped_wherever_they_stand(tmp_path):
    save_image(np.zeros((2, 2, 3), np.uint8), tmp_path / "a.png")
    parts = [
        html_page.paragraph(EVIL),
        html_page.paragraph("x", EVIL),
        html_page.section(EVIL, "content"),
        html_page.cards([(EVIL, EVIL)]),
        html_page.table([EVIL], [[EVIL]]),
        html_page.details(EVIL, ""),
        html_page.figure(tmp_path / "a.png", EVIL),
        html_page.code("a\n" + EVIL),
    ]
    page = html_page.page(EVIL, parts)
    assert "<script" not in page and page.count(ESCAPED) == 12
    assert "\x1b" not in page and "\u202e" not in page
    assert "a\n&lt;/td&gt;" in page  # lines of code stay lines


def test_page_has_no_address_and_allows_none():
    page = html_page.page("t", [html_page.paragraph("text")])
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert not re.search("//|src=|href|url|@import|<link|<script", page)


@pytest.mark.parametrize("photographic", [True, False])
def test_figure_embeds_its_file(tmp_path, photographic):
    image = np.full((4, 6, 3), (255, 0, 0), np.uint8)
    save_image(image, tmp_path / "a.png")
    figure = html_page.figure(tmp_path / "a.png", photographic=photographic)
    kind, content = re.search(r'src="data:image/(\w+);base64,([^"]+)" alt="a"', figure).groups()
    assert kind == ("jpeg" if photographic else "png")
    with Image.open(io.BytesIO(base64.b64decode(content))) as shown:
        np.testing.assert_allclose(np.asarray(shown.convert("RGB")), image, atol=3)


def test_missing_figures_and_empty_sections_are_left_out(tmp_path):
    assert html_page.figure(tmp_path / "missing.png") == ""
    assert html_page.grid([]) == ""
    assert html_page.section("title", "", "") == ""
