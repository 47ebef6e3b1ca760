"""Docstrings, comments, messages and names use the terms of benchmarks/source_code.py."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("mrcnn", "samples", "tests", "benchmarks")
# Scripts as users of the original write them, and the files that hold the banned phrases.
SKIPPED = ("tests/compat/", "tests/test_source_code.py", "benchmarks/source_code.py")


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("source_code")
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_banned_phrases_are_absent(script, folder):
    found = []
    for source in script.read(ROOT / folder):
        path = source.path.relative_to(ROOT).as_posix()
        if not path.startswith(SKIPPED):
            found += [f"{path}:{entry}" for entry in script.banned_phrases(source, script.ALLOWED)]
    assert found == []
