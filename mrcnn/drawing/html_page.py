"""Self-contained HTML pages: escaped texts, tables, embedded images; no script, no address."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..files.safe_text import printable, printable_lines

LONGEST_TEXT = 2000  # characters
JPEG_QUALITY = 85

# `default-src 'none'` makes a browser refuse whatever a mistake in escaping could let in.
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f5f6f8; color: #1d2430; line-height: 1.5;
  font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
main {{ max-width: 1160px; margin: 0 auto; padding: 28px 20px 56px; }}
h1 {{ font-size: 28px; margin: 0; overflow-wrap: anywhere; }}
h2 {{ font-size: 19px; margin: 0 0 12px; }}
p {{ margin: 0 0 12px; }}
.subtitle, .note, figcaption {{ color: #5a6578; font-size: 14px; }}
.subtitle {{ margin: 4px 0 20px; font-size: 15px; }}
section {{ background: #fff; border: 1px solid #e1e5eb; border-radius: 10px; padding: 20px 22px;
  margin: 0 0 18px; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 12px; margin: 0 0 18px; }}
.card {{ flex: 1 1 128px; background: #fff; border: 1px solid #e1e5eb; border-radius: 10px;
  padding: 12px 16px; }}
.card b {{ display: block; font-size: 25px; font-weight: 600; line-height: 1.25;
  white-space: nowrap; }}
.card span {{ color: #5a6578; font-size: 13px; }}
.scroll {{ overflow-x: auto; margin: 0 0 12px; }}
table {{ border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 5px 14px 5px 0; text-align: right; border-bottom: 1px solid #eceff3;
  vertical-align: top; overflow-wrap: anywhere; }}
th {{ color: #5a6578; font-weight: 500; overflow-wrap: normal; }}
th:first-child, td:first-child, .texts th, .texts td {{ text-align: left; }}
pre {{ background: #f2f4f7; border-radius: 8px; padding: 12px 14px; margin: 0 0 12px;
  overflow-x: auto; font-size: 13.5px; }}
img {{ max-width: 100%; height: auto; display: block; }}
figure {{ margin: 0; }}
figcaption {{ margin: 4px 0 0; overflow-wrap: anywhere; }}
.grid {{ display: grid; gap: 18px; grid-template-columns: repeat(auto-fill, minmax(480px, 1fr)); }}
details summary {{ cursor: pointer; color: #33507f; font-size: 14px; margin: 0 0 8px; }}
@media (max-width: 560px) {{ .grid {{ grid-template-columns: 1fr; }} }}
@media print {{ body {{ background: #fff; }} section {{ break-inside: avoid; }} }}
</style>
</head>
<body>
<main>
"""
_FOOT = "</main>\n</body>\n</html>\n"


def page(title: str, parts: Iterable[str]) -> str:
    """Return a page of parts that are HTML already."""
    return _HEAD.format(title=text(title)) + "\n".join(parts) + "\n" + _FOOT


def text(value: object) -> str:
    """Escape a text of unknown source in one line, without control characters."""
    return html.escape(printable(value, LONGEST_TEXT))


def section(title: str, *parts: str) -> str:
    """Return a section of parts that are HTML already; "" if all of them are empty."""
    content = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{text(title)}</h2>\n{content}\n</section>" if content else ""


def paragraph(value: object, kind: str = "") -> str:
    """Return a text as a paragraph. kind: "note" or "subtitle", written smaller."""
    return f'<p class="{text(kind)}">{text(value)}</p>' if kind else f"<p>{text(value)}</p>"


def code(lines: str) -> str:
    """Return lines of code, escaped."""
    return f"<pre>{html.escape(printable_lines(lines))}</pre>"


def cards(figures: Iterable[tuple[str, str]]) -> str:
    """Return large values with a label each, from (label, value)."""
    tiles = []
    for label, value in figures:
        tiles.append(f'<div class="card"><b>{text(value)}</b><span>{text(label)}</span></div>')
    return f'<div class="cards">{"".join(tiles)}</div>'


def table(heads: Sequence[object], rows: Iterable[Sequence[object]], texts: bool = False) -> str:
    """Return a table; numbers stand on the right of their columns. texts: all on the left."""
    lines = [_row("th", heads), *(_row("td", row) for row in rows)]
    kind = ' class="texts"' if texts else ""
    return f'<div class="scroll"><table{kind}>\n' + "\n".join(lines) + "\n</table></div>"


def _row(tag: str, cells: Sequence[object]) -> str:
    return "<tr>" + "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in cells) + "</tr>"


def details(summary: str, content: str) -> str:
    """Return HTML that a click unfolds."""
    return f"<details><summary>{text(summary)}</summary>\n{content}\n</details>"


def grid(figures: Iterable[str]) -> str:
    """Return figures in columns as wide as the window allows; "" without any."""
    content = "\n".join(figures)
    return f'<div class="grid">\n{content}\n</div>' if content else ""


def figure(path: Path, caption: str = "", photographic: bool = True) -> str:
    """Return an image file embedded in the page; "" if there is no such file.

    photographic: embed it as JPEG, a tenth of the size.
    """
    if not path.is_file():
        return ""
    source = _data_address(path, photographic)
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{text(caption or path.stem)}">{below}</figure>'


def _data_address(path: Path, photographic: bool) -> str:
    content, kind = path.read_bytes(), "png"
    if photographic:
        from PIL import Image

        buffer = io.BytesIO()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.convert("RGB").save(buffer, format="JPEG", quality=JPEG_QUALITY)
        content, kind = buffer.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
