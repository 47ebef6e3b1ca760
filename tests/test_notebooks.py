"""Notebooks: small outputs, no traces of a machine; the marker `notebooks` executes them."""

import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest

SAMPLES = Path(__file__).resolve().parents[1] / "samples"

# train_shapes comes first: the others use its weights, so one training is enough.
NOTEBOOKS = (
    "shapes/train_shapes.ipynb",
    "demo.ipynb",
    "coco/inspect_data.ipynb",
    "coco/inspect_model.ipynb",
    "coco/inspect_weights.ipynb",
    "balloon/inspect_balloon_data.ipynb",
    "balloon/inspect_balloon_model.ipynb",
    "nucleus/inspect_nucleus_data.ipynb",
    "nucleus/inspect_nucleus_model.ipynb",
    "family.ipynb",
)
SHARE = "0.05"  # of the training steps of family.ipynb
FIGURES = ("image/jpeg", "image/png")
LEAST_FIGURES = 3
LARGEST_OUTPUT = 60_000  # bytes, the limit of the pre-commit hook
ALL_FILES = 2_000_000  # bytes of all notebooks
CELL_SECONDS = 1200

# Folders of a machine, logs of TensorFlow, and memory addresses are of no use to a reader.
TRACES = re.compile(
    r"/(?:work|tmp|root|home|opt|usr|Users|content)/|[A-Z]:\\\\|[IWE]0000 00:00|\bat 0x[0-9a-f]{6,}"
)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook) -> list:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def figures(notebook) -> list[str]:
    """Base64 text of all figures."""
    found = [output.get("data", {}) for output in outputs(notebook)]
    return [data[kind] for data in found for kind in FIGURES if kind in data]


def text_of(notebook) -> str:
    """The file without its figures."""
    for output in outputs(notebook):
        for kind in FIGURES:
            output.get("data", {}).pop(kind, None)
    return json.dumps(notebook, ensure_ascii=False)


def test_every_notebook_is_named_here():
    paths = [path.relative_to(SAMPLES) for path in SAMPLES.rglob("*.ipynb")]
    found = {path.as_posix() for path in paths if ".ipynb_checkpoints" not in path.parts}
    assert found == set(NOTEBOOKS)


def test_all_notebooks_together_are_small():
    assert sum((SAMPLES / name).stat().st_size for name in NOTEBOOKS) < ALL_FILES


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_with_its_output(name):
    notebook = nbformat.read(SAMPLES / name, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1)), (
        "not executed from top to bottom in a fresh kernel"
    )
    assert [
        output.output_type for output in outputs(notebook) if output.output_type == "error"
    ] == []
    assert len(figures(notebook)) >= LEAST_FIGURES
    assert max(len(figure) for figure in figures(notebook)) < LARGEST_OUTPUT


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_without_traces_of_the_machine_that_ran_it(name):
    notebook = nbformat.read(SAMPLES / name, as_version=4)
    assert [output.text for output in outputs(notebook) if output.get("name") == "stderr"] == []
    assert TRACES.findall(text_of(notebook)) == []
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_first_cell_installs_on_a_hosted_notebook_only(name):
    first = nbformat.read(SAMPLES / name, as_version=4).cells[0]
    assert first.cell_type == "code" and first.outputs == []
    condition, *rest = first.source[first.source.index('if "google.colab"') :].splitlines()
    assert condition == 'if "google.colab" in sys.modules:'
    assert any("pip install" in line for line in rest)
    assert all(line.startswith("    ") for line in rest), (
        "something happens outside of the hosted notebook"
    )
    folder = str(Path("samples", name).parent)
    assert any(line.endswith(f"%cd mask_rcnn/{folder}") for line in rest)


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """The samples in a folder of their own, with a place for `logs` next to them."""
    folder = tmp_path_factory.mktemp("notebooks")
    shutil.copytree(
        SAMPLES,
        folder / "samples",
        ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"),
    )
    return folder / "samples"


@pytest.mark.notebooks
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_executes(name, copied, monkeypatch):
    """Execute offline, on generated data: no cell fails, and all committed figures appear."""
    from nbclient import NotebookClient

    for variable in [variable for variable in os.environ if variable.startswith("MRCNN_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PYTHONPATH", str(SAMPLES.parent))
    monkeypatch.setenv("MRCNN_SHARE", SHARE)
    notebook = nbformat.read(copied / name, as_version=4)
    committed = len(figures(notebook))
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    path = str((copied / name).parent)
    try:
        NotebookClient(
            notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": path}}
        ).execute()
    finally:
        nbformat.write(
            notebook, copied / name
        )  # to look at; pytest keeps its last three temporary folders
    assert [output.ename for output in outputs(notebook) if output.output_type == "error"] == []
    assert len(figures(notebook)) == committed
