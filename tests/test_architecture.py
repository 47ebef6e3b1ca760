"""docs/architecture.md and the import statements of mrcnn/ must agree."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MODULES = {path.stem: path for path in (ROOT / "mrcnn").glob("*.py") if path.stem != "__init__"}
HEAVY = ("tensorflow", "keras")


def stairs() -> dict[str, int]:
    """Module -> row, from the picture on the page."""
    picture = re.search(r"^## Stairs\n+```\n(.+?)```", PAGE, re.DOTALL | re.MULTILINE)[1]
    rows = [line.split() for line in picture.splitlines()]
    return {name: int(row) for row, *names in rows for name in names}


def project_imports(source: str) -> set[str]:
    """The modules of mrcnn that a source file imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("mrcnn.")}
        elif isinstance(node, ast.ImportFrom):
            path = (node.module or "").split(".")
            if node.level == 0 and path[0] == "mrcnn":
                path = path[1:]
            elif node.level == 0:
                continue
            # `from . import boxes` names modules, `from .boxes import iou` names one module
            names |= {path[0]} if path and path[0] else {alias.name for alias in node.names}
    return names & set(MODULES)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from . import boxes, __version__", {"boxes"}),
        ("from .boxes import iou", {"boxes"}),
        ("def f():\n    from mrcnn.model import MaskRCNN", {"model"}),
        ("import mrcnn.utils as u\nimport os.path", {"utils"}),
        ("from mrcnn import config", {"config"}),
        ("from keras import config", set()),
    ],
)
def test_every_form_of_import_is_seen(source, found):
    assert project_imports(source) == found


def test_every_module_stands_on_the_stairs_and_in_the_table_of_rooms():
    rooms = re.findall(r"^\| `(\w+)\.py` \|", PAGE, re.MULTILINE)
    assert set(stairs()) == set(MODULES)
    assert sorted(rooms) == sorted(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down_the_stairs(name):
    row = stairs()
    climbing = [
        f"{name} (row {row[name]}) imports {other} (row {row[other]})"
        for other in project_imports(MODULES[name].read_text(encoding="utf-8"))
        if row[other] >= row[name]
    ]
    assert climbing == []


def test_no_module_below_row_7_imports_utils():
    row = stairs()
    users = [name for name, path in MODULES.items() if "utils" in project_imports(path.read_text(encoding="utf-8"))]
    assert [name for name in users if row[name] < 7] == []


def light_modules() -> list[str]:
    """The modules that the page says import without TensorFlow."""
    sentence = re.search(r"take seconds to load\.(.+?)import without them", PAGE, re.DOTALL)[1]
    return re.findall(r"`(\w+)`", sentence)


def test_the_light_modules_import_without_tensorflow():
    names = light_modules()
    least = {"config", "boxes", "evaluate", "datasets", "visualize", "image", "dataset", "cli"}
    assert least <= set(names)
    script = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module("mrcnn." + name)
    heavy = [module for module in {HEAVY!r} if module in sys.modules]
    if heavy:
        sys.exit(name + " imports " + ", ".join(heavy))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_library_that_is_imported_is_required():
    distribution = {"cv2": "opencv-python", "PIL": "pillow", "skimage": "scikit-image", "yaml": "pyyaml"}
    used_where_installed = {"IPython", "faster_coco_eval", "supervision"}
    optional = {"mrcnn", *used_where_installed, *sys.stdlib_module_names}
    imported = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    required = re.findall(r"^([\w-]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert {distribution.get(name, name) for name in imported - optional} - set(required) == set()


@pytest.mark.parametrize(("set_by_the_user", "found"), [({}, "1"), ({"TF_CPU_ALLOCATOR_USE_BFC": "0"}, "0")])
def test_tensorflow_is_set_up_unless_the_user_has(set_by_the_user, found):
    name = "TF_CPU_ALLOCATOR_USE_BFC"
    kept = {key: value for key, value in os.environ.items() if key != name}
    code = f"import os, mrcnn; print(os.environ[{name!r}])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=kept | set_by_the_user, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == [found]
