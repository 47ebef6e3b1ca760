"""The notebooks: committed with their output and without traces of a machine; marked `notebooks`, executed anew."""

import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest

SAMPLES = Path(__file__).resolve().parents[1] / "samples"

# train_shapes comes first: it leaves the weights that the others look for, so that only one training is needed.
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
)
LEAST_PICTURES = 3
LARGEST_FILE = 1_500_000  # bytes
CELL_SECONDS = 1200

# Folders of a machine, logs of TensorFlow, and addresses in memory: nothing that a reader wants to see.
TRACES = re.compile(
    r"/(?:work|tmp|root|home|opt|usr|Users|content)/|[A-Z]:\\\\|[IWE]0000 00:00|\bat 0x[0-9a-f]{6,}"
)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook) -> list:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def pictures(notebook) -> list[str]:
    return [
        output.data["image/png"]
        for output in outputs(notebook)
        if "image/png" in output.get("data", {})
    ]


def text_of(notebook) -> str:
    """All of the file but the pictures."""
    for output in outputs(notebook):
        output.get("data", {}).pop("image/png", None)
    return json.dumps(notebook, ensure_ascii=False)


def test_every_notebook_is_named_here():
    paths = [path.relative_to(SAMPLES) for path in SAMPLES.rglob("*.ipynb")]
    found = {path.as_posix() for path in paths if ".ipynb_checkpoints" not in path.parts}
    assert found == set(NOTEBOOKS)


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
    assert len(pictures(notebook)) >= LEAST_PICTURES
    assert (SAMPLES / name).stat().st_size < LARGEST_FILE


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
    """The samples in a folder of their own, with room for `logs` beside them."""
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
    """Offline, on made data, from top to bottom: no cell fails, and there are as many pictures as were committed."""
    from nbclient import NotebookClient

    for variable in [variable for variable in os.environ if variable.startswith("MRCNN_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PYTHONPATH", str(SAMPLES.parent))
    notebook = nbformat.read(copied / name, as_version=4)
    committed = len(pictures(notebook))
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
    assert len(pictures(notebook)) == committed
