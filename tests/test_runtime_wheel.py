"""The small wheel `runtime/`: its packages, its requirements, and what a detection imports."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SAME = {"opencv-python": "opencv-python-headless"}
# What a detection with an exported file imports besides ONNX Runtime.
MODULES = {"PIL", "cv2", "numpy", "pycocotools", "rich", "yaml"}
DETECT = """
import json
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name + " must not be imported")
sys.meta_path.insert(0, Refuse())
import numpy as np
from mrcnn.app import benchmark_command, cli, detect_command
from mrcnn.formats import detections_json
from mrcnn.inference import exported_model, runtimes
config = exported_model.Config()
config.NUM_CLASSES = 2
config.BACKBONE = "mrcnn.app.demo:narrow_backbone"  # a function, in a module that imports Keras
sides = {{"batch": None, "height": None, "width": None}}
about = {{"config": config.to_dict(), "class_names": ["BG", "cell"], "input": sides}}
def run(images):
    return {{
        "boxes": np.float32([[[2, 3, 6, 9]]]), "class_ids": np.int32([[1]]),
        "scores": np.float32([[0.9]]), "count": np.int32([1]),
        "masks": np.ones((1, 1, 28, 28), np.float32),
    }}
open_fake = lambda path: runtimes.ExportedFile(run, about)
runtimes.FORMATS["onnx"] = runtimes.FORMATS["onnx"]._replace(module="json", open=open_fake)
open("a.onnx", "w").close()
cli.main(["detect", "a.png", "--weights", "a.onnx", "--out", "out", "--format", "coco"])
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""


def project() -> str:
    return (ROOT / "runtime" / "pyproject.toml").read_text(encoding="utf-8")


def bounds(lines) -> dict[str, str]:
    """Name of a package -> the versions that a line allows."""
    found = {}
    for line in lines:
        match = re.match(r"([\w-]+)((?:[<>=!]=?[\d.*]+,?)+)", line)
        if match:
            found.setdefault(match[1], match[2])
    return found


def test_wheel_has_every_package():
    text = project()
    listed = re.findall(r'^    "(mrcnn[\w.]*)",$', text, re.MULTILINE)
    folders = [path.parent for path in (ROOT / "mrcnn").rglob("__init__.py")]
    assert listed == sorted(".".join(folder.relative_to(ROOT).parts) for folder in folders)


def test_requirements_have_the_bounds_of_the_whole_package():
    text = re.search(r"^dependencies = \[(.+?)^\]", project(), re.DOTALL | re.MULTILINE)[1]
    small = bounds(re.findall(r'"(.+?)"', text))
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    whole = {SAME.get(name, name): rule for name, rule in bounds(requirements).items()}
    extra = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    whole |= bounds(re.findall(r'"(onnxruntime.+?)"', extra))
    assert small == {name: whole[name] for name in small}
    assert len(small) == len(MODULES) + 1


@pytest.fixture
def image(tmp_path):
    from PIL import Image

    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")


def test_detection_imports_the_requirements_only(image, tmp_path):
    blocked = {"tensorflow", "keras", "h5py", "scipy", "skimage", "matplotlib", "imgaug"}
    command = [sys.executable, "-c", DETECT.format(blocked=blocked)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and ", detections.json, coco.json\n" in done.stdout, (
        done.stdout + done.stderr
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert loaded >= MODULES
