"""The wheel: it holds the package's data, and is small enough for PyPI's base download."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LARGEST = 25_000_000  # bytes of the wheel
LARGEST_INSTALLED = 40_000_000  # bytes of its files
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "requirements.txt", "README.md", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The contents of the wheel, built from a copy of the sources."""
    pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("packaging", minversion="24.2")  # setuptools 77 parses the licence with it
    folder = tmp_path_factory.mktemp("wheel")
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "mrcnn", folder / "mrcnn", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", BUILD, str(folder / "built")]
    (folder / "built").mkdir()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    (path,) = (folder / "built").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return path.stat().st_size, {info.filename: info.file_size for info in archive.infolist()}


def test_wheel_holds_every_data_file_of_the_package(wheel):
    _, files = wheel
    folders = ("weights/packaged", "app/examples", "serve/page")
    data = [file for folder in folders for file in (ROOT / "mrcnn" / folder).iterdir()]
    data = [file for file in data if file.is_file()] + [ROOT / "mrcnn" / "py.typed"]
    missing = [file.name for file in data if f"{file.relative_to(ROOT).as_posix()}" not in files]
    assert not missing and len(data) > 8


def test_wheel_is_small(wheel):
    size, files = wheel
    assert size < LARGEST and sum(files.values()) < LARGEST_INSTALLED
