"""README.md and docs/: short, links resolve, Python blocks run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("samples/*/*.md")]
)


def python_blocks(path):
    return re.findall(r"```python\n(.+?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def test_readme_is_short_and_has_a_small_image():
    assert len(README.splitlines()) <= 130
    (image,) = re.findall(r"!\[.+?\]\((.+?)\)", README)
    assert (ROOT / image).stat().st_size < 400_000


@pytest.mark.parametrize(
    "command", ["pip install -e . && mrcnn demo", 'pip install -e ".[test]" && pytest']
)
def test_readme_gives_the_two_commands(command):
    assert f"    {command}\n" in README


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(path):
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[\w-]*)?\)", text)
    files = [
        target for target in targets if "://" not in target and not target.startswith("mailto:")
    ]
    assert [target for target in files if not (path.parent / target).exists()] == []


def test_readme_python_detects(tmp_path, monkeypatch, capsys):
    (tmp_path / "mrcnn").symlink_to(ROOT / "mrcnn")
    monkeypatch.chdir(tmp_path)
    (block,) = python_blocks(ROOT / "README.md")
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert "(256, 256, " in capsys.readouterr().out
    assert (tmp_path / "found.png").is_file()


def test_guide_python_writes_results(tmp_path, monkeypatch):
    from mrcnn.app.demo import DemoConfig
    from mrcnn.model import MaskRCNN

    config = DemoConfig()
    config.DETECTION_MIN_CONFIDENCE = 0.0
    model = MaskRCNN("inference", config, str(tmp_path))
    (tmp_path / "mrcnn_demo").mkdir()
    model.save_weights(tmp_path / "mrcnn_demo" / "shapes.h5")
    monkeypatch.chdir(tmp_path)
    results, _ = python_blocks(ROOT / "docs" / "guide.md")
    Image.fromarray(np.full((128, 128, 3), 200, np.uint8)).save("image.png")
    exec(compile(results, "docs/guide.md", "exec"), {"__name__": "guide"})
    assert json.loads(Path("found.json").read_text())["file_name"] == "image.png"


def test_guide_python_defines_its_classes():
    _, block = python_blocks(ROOT / "docs" / "guide.md")
    namespace = {"__name__": "guide"}
    exec(compile(block, "docs/guide.md", "exec"), namespace)
    dataset = namespace["Pets"]()
    dataset.load_pets(["a.png"])
    dataset.prepare()
    assert dataset.class_names == ["BG", "cat", "dog"]
    config = namespace["PetsConfig"]()
    assert dataset.num_classes == config.NUM_CLASSES
