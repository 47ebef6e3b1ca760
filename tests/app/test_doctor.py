"""`mrcnn doctor`: versions, missing and broken dependencies."""

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import run

from mrcnn.app import (
    cli,
    doctor,
)


def broken_import(monkeypatch, module_name, error):
    """Let one module fail to import with this error."""
    plain = importlib.import_module

    def import_module(name, *args):
        if name == module_name:
            raise error
        return plain(name, *args)

    monkeypatch.setattr(doctor.importlib, "import_module", import_module)


def test_every_dependency_is_required():
    names = {doctor._name(requirement) for requirement in doctor.requirements()}
    assert {
        "tensorflow",
        "keras",
        "numpy",
        "opencv-python",
        "imgaug",
        "pycocotools",
        "rich",
        "pillow",
    } <= names
    assert "pytest" not in names  # of the tests only


def test_working_dependency():
    finding = doctor.check_dependency("numpy>=2")
    assert (finding.name, finding.state, finding.broken) == ("numpy", np.__version__, False)


def test_missing_dependency_names_its_install_command(monkeypatch):
    broken_import(monkeypatch, "rich", ModuleNotFoundError("No module named 'rich'", name="rich"))
    finding = doctor.check_dependency("rich>=13")
    assert finding.broken
    assert finding.state == "missing (No module named 'rich')"
    assert finding.remedy == "pip install 'rich>=13'"


def test_opencv_without_libgl_names_the_system_package(monkeypatch):
    reason = "libGL.so.1: cannot open shared object file: No such file or directory"
    broken_import(monkeypatch, "cv2", ImportError(reason))
    finding = doctor.check_dependency("opencv-python>=4.9,<5")
    assert finding.broken
    assert "libGL.so.1" in finding.state
    assert finding.remedy.startswith("apt-get install libgl1 ")
    assert "pip install 'opencv-python-headless>=4.9,<5'" in finding.remedy


def test_imgaug_error_names_the_library_below_it(monkeypatch):
    broken_import(
        monkeypatch,
        "mrcnn.data.imgaug_support",
        ImportError("libGL.so.1: cannot open shared object file"),
    )
    finding = doctor.check_dependency("imgaug>=0.4")
    assert finding.broken
    assert finding.remedy == "repair the libraries above first, then pip install 'imgaug>=0.4'"


@pytest.mark.parametrize(
    ("module_name", "version", "requirement"),
    [("cv2", "5.0.0", "opencv-python>=4.9,<5"), ("numpy", "1.26.4", "numpy>=2")],
)
def test_wrong_version_is_broken(module_name, version, requirement, monkeypatch):
    monkeypatch.setitem(sys.modules, module_name, SimpleNamespace(__version__=version))
    finding = doctor.check_dependency(requirement)
    assert finding.broken and finding.state.startswith(f"{version}, but mrcnn needs ")
    assert finding.remedy == f"pip install '{requirement}'"


@pytest.mark.parametrize(
    ("headless", "findings"), [(None, []), ("4.12.0.88", [False]), ("4.10.0.84", [True])]
)
def test_two_distributions_of_opencv_clash(headless, findings, monkeypatch):
    def version(name):
        known = {"opencv-python": "4.12.0.88", "opencv-python-headless": headless}
        if known.get(name) is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(doctor, "requirements", lambda: ["opencv-python>=4.12,<5"])
    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    found = doctor._opencv_clash()
    assert [finding.broken for finding in found] == findings
    for finding in found:
        assert finding.state.startswith("opencv-python 4.12.0.88 and opencv-python-headless")
        assert finding.remedy.startswith(
            "pip uninstall -y opencv-python opencv-python-headless && pip install 'opencv"
        )


def test_doctor_reports_without_tensorflow(monkeypatch, capsys):
    """One broken dependency: exit code 1, every other one still looked at, no device asked for."""
    broken_import(
        monkeypatch,
        "tensorflow",
        ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow"),
    )
    monkeypatch.setattr(doctor, "requirements", lambda: ["tensorflow>=2.18", "numpy>=2"])
    assert run("doctor") == cli.FAILED
    printed = capsys.readouterr().out
    assert "BROKEN  tensorflow" in printed
    assert "ok      numpy" in printed
    assert "devices" not in printed
    assert printed.rstrip().endswith("To be repaired: tensorflow")


def test_doctor_drops_requirements_of_other_pythons(monkeypatch):
    demanded = [
        'pillow>=13; python_version >= "3.0"',
        'pillow>=12.3; python_version < "3.0"',
        "numpy>=2",
    ]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: demanded)
    assert doctor.requirements() == ["pillow>=13", "numpy>=2"]


def test_extras_name_what_is_not_installed(monkeypatch):
    required = [
        "numpy>=2",
        'numpy>=2; extra == "export"',
        'never-heard-of>=1; extra == "serve"',
        'never-heard-of; python_version < "3" and extra == "export"',
        'never-heard-of; extra == "test"',
    ]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: required)
    found = {finding.name: finding.state for finding in doctor.extras()}
    assert found == {"[export]": "installed", "[serve]": "optional, not installed: never-heard-of"}
    assert not any(finding.broken for finding in doctor.extras())
