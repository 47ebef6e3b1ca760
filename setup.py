"""Installs the package `mrcnn` and the command of that name; the list of dependencies is requirements.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """The version in mrcnn/__init__.py, read as text: an import would need the dependencies."""
    source = (HERE / "mrcnn" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"', source, re.MULTILINE)[1]


def requirements() -> list[str]:
    """The lines of requirements.txt without comments."""
    lines = (HERE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in (line.split("#")[0].strip() for line in lines) if line]


setup(
    name="mask-rcnn-keras3",
    version=version(),
    description="Mask R-CNN for Keras 3 and TensorFlow, in the style of matterport/Mask_RCNN",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="the mrcnn contributors",
    license="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["mrcnn", "mrcnn.*"]),
    python_requires=">=3.10,<3.14",
    install_requires=requirements(),
    extras_require={
        "albumentations": ["albumentations>=2", "opencv-python-headless<5"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff>=0.15",
            "faster-coco-eval>=1.8",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "ipykernel>=6.29",
        ],
    },
    entry_points={"console_scripts": ["mrcnn = mrcnn.app.cli:main"]},
)
