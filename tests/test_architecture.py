"""docs/architecture.md and the import statements of mrcnn/ must agree."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FILES = {
    ".".join(path.relative_to(ROOT / "mrcnn").with_suffix("").parts): path
    for path in (ROOT / "mrcnn").rglob("*.py")
    if path.name != "__init__.py"
}
REQUIREMENTS = [
    line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()
]
PYTHON_3_11 = {"python_version": "3.11"}  # of requirements-lowest.txt
HEAVY = ("tensorflow", "keras")
WITHOUT_TENSORFLOW = (
    "data",
    "formats",
    "drawing",
    "evaluation",
    "files",
    "many",
    "app",
    "config",
    "utils",
    "visualize",
)

RAY = {"fsspec", "pyarrow", "ray"}  # libraries of the extra [ray]
EXPORT = {
    "flatbuffers",
    "ai_edge_litert",
    "onnx",
    "onnxruntime",
    "openvino",
    "tf2onnx",
}  # of the extra [export]
LOAD_KERAS = {"app.demo", "data.generator"}  # a network of its own; keras.utils.PyDataset


def stairs() -> dict[str, int]:
    """Folder or front module -> row, from the page."""
    picture = re.search(r"^## Stairs\n+```\n(.+?)```", PAGE, re.DOTALL | re.MULTILINE)[1]
    rows = [line.split() for line in picture.splitlines()]
    return {name: int(row) for row, *names in rows for name in names}


def imported(source: str, package: str) -> set[str]:
    """The files of mrcnn, dotted, that a source file imports anywhere.

    package: the folder of the file, dotted; "" for mrcnn/ itself.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("mrcnn.")]
            found |= {name.removeprefix("mrcnn.") for name in names}
        elif isinstance(node, ast.ImportFrom):
            found |= {
                f"{_base(node, package)}.{alias.name}".strip(".")
                for alias in node.names
                if _own(node)
            }
    return {_file(name) for name in found} - {""}


def _own(node: ast.ImportFrom) -> bool:
    return node.level > 0 or (node.module or "").split(".")[0] == "mrcnn"


def _base(node: ast.ImportFrom, package: str) -> str:
    """The dotted path below mrcnn that an import statement starts from."""
    if node.level == 0:
        return node.module.removeprefix("mrcnn").strip(".")
    parts = package.split(".") if package else []
    parts = parts[: len(parts) - (node.level - 1)]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _file(name: str) -> str:
    """The file of a dotted name: `nn.boxes.iou` -> `nn.boxes`; a package stays as it is."""
    while name and name not in FILES and not (ROOT / "mrcnn" / name.replace(".", "/")).is_dir():
        name = name.rpartition(".")[0]
    return name


def arrows() -> dict[str, set[str]]:
    """File -> the files that it imports."""
    return {
        name: imported(path.read_text(encoding="utf-8"), name.rpartition(".")[0])
        for name, path in FILES.items()
    }


@pytest.mark.parametrize(
    ("source", "package", "found"),
    [
        ("from . import boxes, __version__", "nn", {"nn", "nn.boxes"}),
        ("from .boxes import iou", "nn", {"nn.boxes"}),
        ("from ..nn.boxes import iou", "data", {"nn.boxes"}),
        ("from ..nn import boxes", "data", {"nn.boxes"}),
        ("def f():\n    from mrcnn.model import MaskRCNN", "", {"model"}),
        ("import mrcnn.utils as u\nimport os.path", "", {"utils"}),
        ("from mrcnn import config", "", {"config"}),
        ("from keras import config", "", set()),
    ],
)
def test_every_form_of_import_is_seen(source, package, found):
    assert imported(source, package) == found


def test_every_folder_and_front_module_stands_on_the_stairs():
    assert set(stairs()) == {name.split(".")[0] for name in FILES}


def job(path: Path) -> str:
    """The first paragraph of a file's docstring, as the page has it."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n\n")[0].replace("\n", " ").rstrip(".")


def test_the_page_lists_every_file_with_its_docstring():
    listed = dict(re.findall(r"^\| `([\w/]+)\.py` \| (.+) \|$", PAGE, re.MULTILINE))
    assert listed == {name.replace(".", "/"): job(path) for name, path in FILES.items()}


@pytest.mark.parametrize("folder", sorted({name.split(".")[0] for name in FILES}))
def test_imports_go_down_the_stairs(folder):
    row = stairs()
    climbing = {
        f"{name} -> {other}"
        for name, others in arrows().items()
        for other in others
        if name.split(".")[0] == folder != other.split(".")[0]
        and row[other.split(".")[0]] >= row[folder]
    }
    assert climbing == set()


def test_nn_imports_only_nn_and_config():
    others = {
        other for name, found in arrows().items() if name.startswith("nn.") for other in found
    }
    assert {other.split(".")[0] for other in others} <= {"nn", "config"}


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_private_api_of_keras_or_tensorflow(name):
    source = FILES[name].read_text(encoding="utf-8")
    private = r"_keras_history|_inbound_nodes|_run_through_graph|tensorflow\.python|keras\.src"
    assert re.findall(private, source) == []


def test_imports_form_no_cycle():
    graph = {
        name: {other for other in others if other in FILES} for name, others in arrows().items()
    }
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError and names the cycle


def test_light_folders_import_without_tensorflow():
    names = sorted(
        name
        for name in FILES
        if name.split(".")[0] in WITHOUT_TENSORFLOW and name not in LOAD_KERAS
    )
    script = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module("mrcnn." + name)
    heavy = [module for module in {HEAVY!r} if module in sys.modules]
    if heavy:
        sys.exit(name + " imports " + ", ".join(heavy))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


def libraries_of(path: Path) -> set[str]:
    """The libraries that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def test_only_the_server_imports_its_extra():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = re.search(r"^serve = \[(.+?)^\]", text, re.DOTALL | re.MULTILINE)[1]
    extra = {name.replace("-", "_") for name in re.findall(r'^ +"([\w-]+)', lines, re.MULTILINE)}
    required = {name for line in REQUIREMENTS for name in re.findall(r"^[\w-]+", line)}
    allowed = {"cv2", "PIL", "mrcnn", *required, *sys.stdlib_module_names}
    for name, path in FILES.items():
        if name.startswith("serve."):
            assert libraries_of(path) - allowed <= extra, name
        else:
            assert not libraries_of(path) & extra, name


def test_few_files_import_the_libraries_of_the_extra_ray():
    found = {name: libraries_of(path) & RAY for name, path in FILES.items()}
    assert {name: libraries for name, libraries in found.items() if libraries} == {
        "files.addresses": {"fsspec"},
        "many.inputs": {"pyarrow"},
        "many.on_ray": {"ray"},
        "many.shards": {"pyarrow"},
    }


def test_only_exports_and_runtimes_import_the_libraries_of_the_extra_export():
    found = {name for name, path in FILES.items() if libraries_of(path) & EXPORT}
    assert {name for name in found if not name.startswith("export.")} == {"inference.runtimes"}
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = re.search(r"^export = \[(.+?)^\]", text, re.DOTALL | re.MULTILINE)[1]
    assert {name.replace("-", "_") for name in re.findall(r'^ +"([\w-]+)', lines, re.M)} == EXPORT


def test_every_library_that_is_imported_is_required():
    distribution = {
        "cv2": "opencv-python",
        "PIL": "pillow",
        "skimage": "scikit-image",
        "yaml": "pyyaml",
    }
    one_use = {"IPython", "faster_coco_eval", "pandas", "supervision", "trackers"}
    used_where_installed = {*one_use, *RAY, *EXPORT}
    optional = {"mrcnn", *used_where_installed, *sys.stdlib_module_names}
    others = [path for name, path in FILES.items() if not name.startswith("serve.")]
    imported = set().union(*map(libraries_of, others))
    required = re.findall(
        r"^([\w-]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {distribution.get(name, name) for name in imported - optional} - set(required) == set()


@pytest.mark.parametrize(
    ("libraries", "modules"),
    [
        ("logging, os", "mrcnn"),
        # OpenCV and TensorFlow set variables of their own: they come first.
        (
            "logging, os, cv2, matplotlib, scipy.ndimage",
            "mrcnn.formats.open_dataset, mrcnn.visualize",
        ),
        ("logging, os, cv2, matplotlib, tensorflow, keras", "mrcnn.model"),
    ],
)
def test_import_changes_nothing_outside(libraries, modules):
    script = f"""
import {libraries}
def state():
    root, own = logging.getLogger(), logging.getLogger("mrcnn")
    handlers = list(root.handlers), list(own.handlers)
    return dict(os.environ), root.level, own.level, own.propagate, handlers
before = state()
import {modules}
assert state() == before, (before, state())
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_lowest_set_holds_the_lower_bound_of_every_requirement():
    lowest = dict(
        re.findall(
            r"^([\w-]+)==([\w.]+)", (ROOT / "requirements-lowest.txt").read_text(), re.MULTILINE
        )
    )
    lines = [Requirement(line) for line in REQUIREMENTS if line]
    bounds = {
        line.name: line.specifier
        for line in lines
        if not line.marker or line.marker.evaluate(PYTHON_3_11)
    }
    assert set(lowest) == set(bounds)
    for name, specifier in bounds.items():
        bound = next(part.version for part in specifier if part.operator == ">=")
        assert lowest[name] in specifier and f"{lowest[name]}.".startswith(f"{bound}."), name
