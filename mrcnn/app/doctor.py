"""Check the installation: versions, missing or broken dependencies, devices, remedies.

Needs only Python itself: dependencies are imported one by one, and a missing one is a finding.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from .. import __version__

DISTRIBUTION = "mask-rcnn-keras3"
MODULES = {
    "opencv-python": "cv2",
    "scikit-image": "skimage",
    "pillow": "PIL",
    "pyyaml": "yaml",
}  # module names that differ from the distribution

FOR_DEVELOPERS = ("test", "docs")  # extras that users need not know

# Distributions of OpenCV; all write the same folder cv2, so that the last installed one wins.
OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)

# A system library that OpenCV loads -> the package of Debian and Ubuntu that contains it.
SYSTEM_PACKAGES = {"libGL": "libgl1", "libgthread": "libglib2.0-0", "libglib": "libglib2.0-0"}


@dataclass
class Finding:
    """One check. broken: mrcnn does not work with it. remedy: a command, or a sentence."""

    name: str
    state: str
    broken: bool = False
    remedy: str = ""


def examine() -> list[Finding]:
    """All findings: Python, mrcnn, each dependency, the devices that TensorFlow sees."""
    findings = [_python(), _mrcnn()]
    dependencies = [check_dependency(requirement) for requirement in requirements()]
    findings += [*dependencies, *_opencv_clash()]
    if any(finding.name == "tensorflow" and not finding.broken for finding in dependencies):
        findings += [_backend(), _devices()]
    return findings + extras()


def report(findings: list[Finding]) -> str:
    """The findings as text: a line each, with the remedy below a broken one."""
    lines = []
    for finding in findings:
        lines.append(f"{'BROKEN' if finding.broken else 'ok':7} {finding.name:15} {finding.state}")
        if finding.remedy:
            lines.append(f"{'':23} try: {finding.remedy}")
    broken = [finding.name for finding in findings if finding.broken]
    lines.append("")
    if broken:
        lines.append(f"To be repaired: {', '.join(broken)}")
    else:
        lines.append("Everything that mrcnn needs is installed.")
    return "\n".join(lines)


def extras() -> list[Finding]:
    """A finding for each extra such as [export]: whether its packages are installed."""
    try:
        required = importlib.metadata.requires(DISTRIBUTION) or []
        from packaging.requirements import Requirement
    except ImportError:  # PackageNotFoundError is one; packaging is reported as a dependency
        return []
    missing: dict[str, list[str]] = {}
    for line in required:
        extra = re.search(r"extra == [\"'](\w+)[\"']", line)
        if extra is None or extra[1] in FOR_DEVELOPERS:
            continue
        absent = missing.setdefault(extra[1], [])
        requirement = Requirement(line)
        marker = requirement.marker
        is_wanted = marker is None or marker.evaluate({"extra": extra[1]})
        if is_wanted and not _is_installed(requirement.name):
            absent.append(requirement.name)
    return [
        Finding(
            f"[{name}]", f"optional, not installed: {', '.join(absent)}" if absent else "installed"
        )
        for name, absent in sorted(missing.items())
    ]


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def requirements() -> list[str]:
    """Requirements like `numpy>=2`: of the installed package, otherwise of requirements.txt."""
    try:
        required = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        file = Path(__file__).parents[2] / "requirements.txt"
        required = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        required = [line.split("#")[0].strip() for line in required]
    plain = [line for line in required if line and "extra ==" not in line]
    plain = [line.split(";")[0].strip() for line in plain if _for_this_python(line)]
    # imgaug comes last because it is imported through other libraries.
    return sorted(plain, key=lambda line: _name(line) == "imgaug")


def _for_this_python(requirement: str) -> bool:
    """Whether a requirement like `pillow>=13; python_version >= "3.11"` applies here."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # reported as a missing dependency
        return True
    marker = Requirement(requirement).marker
    return marker is None or marker.evaluate()


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def _python() -> Finding:
    version = platform.python_version()
    where = f"{version} ({sys.executable})"
    try:
        required = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        required = None
    if required and not _within(version, required):
        return Finding("Python", where, True, f"a virtual environment with Python {required}")
    return Finding("Python", where)


def _mrcnn() -> Finding:
    where = f"{__version__} ({Path(__file__).parents[1]})"
    try:
        importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "mrcnn",
            f"{where}, used from this folder without being installed",
            remedy="pip install -e .",
        )
    return Finding("mrcnn", where)


def check_dependency(requirement: str) -> Finding:
    """Check that one dependency can be imported and has a required version.

    requirement: for example `opencv-python>=4.9,<5`.
    """
    name, required = _name(requirement), requirement[len(_name(requirement)) :].strip()
    module_name = MODULES.get(name, name.replace("-", "_"))
    install = f"pip install '{requirement}'"
    try:
        module = _import(module_name)
    except Exception as error:  # a half-removed package raises anything
        return Finding(name, _why(error), True, _remedy(module_name, requirement, error))
    version = _version(name, module)
    if version is None:
        return Finding(name, "no version known")
    if required and not _within(version, required):
        return Finding(name, f"{version}, but mrcnn needs {required}", True, install)
    return Finding(name, version)


def _opencv_clash() -> list[Finding]:
    """A finding if several OpenCV distributions are installed; broken if their versions differ."""
    installed = {}
    for name in OPENCV:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(installed) < 2:
        return []
    found = " and ".join(f"{name} {version}" for name, version in installed.items())
    wanted = next((demand for demand in requirements() if _name(demand) in OPENCV), OPENCV[0])
    return [
        Finding(
            "OpenCV",
            f"{found} overwrite each other's files",
            len(set(installed.values())) > 1,
            f"pip uninstall -y {' '.join(installed)} && pip install '{wanted}'",
        )
    ]


def _import(module_name: str):
    """Import a module; imgaug as mrcnn imports it, for plain `import imgaug` fails on NumPy 2."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if module_name == "imgaug":
        return importlib.import_module("mrcnn.data.imgaug_support").import_imgaug()
    return importlib.import_module(module_name)


def _why(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"missing ({error})"
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"cannot be imported ({type(error).__name__}: {first_line})"


def _remedy(module_name: str, requirement: str, error: Exception) -> str:
    """The command that repairs a failed import."""
    if module_name == "cv2":
        library = re.search(r"lib\w+", str(error))
        package = SYSTEM_PACKAGES.get(library[0]) if library else None
        if package:
            headless = requirement.replace("opencv-python", "opencv-python-headless")
            return (
                f"apt-get install {package}  (or, without root: pip uninstall -y opencv-python && "
                f"pip install '{headless}')"
            )
    if module_name == "imgaug":  # it is imported together with other libraries
        return f"repair the libraries above first, then pip install '{requirement}'"
    force = "" if isinstance(error, ModuleNotFoundError) else "--force-reinstall "
    return f"pip install {force}'{requirement}'"


def _version(name: str, module) -> str | None:
    """The version of the imported module: several OpenCV wheels may overwrite each other."""
    version = getattr(module, "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _within(version: str, required: str) -> bool:
    """Whether a version is in a range like `>=4.9,<5`; True without `packaging`."""
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # a finding of its own
        return True
    return SpecifierSet(required).contains(version, prereleases=True)


def _backend() -> Finding:
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        return Finding("Keras backend", backend)
    return Finding(
        "Keras backend",
        f"{backend}, but mrcnn needs tensorflow",
        True,
        "export KERAS_BACKEND=tensorflow",
    )


def _devices() -> Finding:
    import tensorflow as tf

    gpus = [
        device.name.removeprefix("/physical_device:")
        for device in tf.config.list_physical_devices("GPU")
    ]
    cores = f"CPU ({os.cpu_count()} cores)"
    if gpus:
        return Finding("devices", ", ".join([cores, *gpus]))
    if shutil.which("nvidia-smi"):
        return Finding(
            "devices",
            f"{cores}; TensorFlow sees no GPU, but nvidia-smi is installed",
            remedy="pip install 'tensorflow[and-cuda]'",
        )
    return Finding("devices", f"{cores}; no GPU")
