"""The limits of benchmarks/source_code.py hold for mrcnn/, and its measures count correctly."""

import ast
import importlib
import textwrap
from pathlib import Path

import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    return importlib.import_module("source_code")


@pytest.fixture
def parsed(script):
    """`parsed(text)`: a `Source` of dedented text."""

    def parse(text):
        text = textwrap.dedent(text)
        return script.Source(Path("example.py"), text, ast.parse(text))

    return parse


def test_mrcnn_keeps_every_limit(script):
    assert [str(measure) for measure in script.measures() if measure.exceeded] == []


def test_function_length_includes_docstring_and_signature(script, parsed):
    source = parsed('''
        def f(
            a,
        ):
            """Return a."""
            return a
    ''')
    assert [script.length(node) for node in script.functions([source])] == [5]


def test_nodes_per_line_skips_docstrings_comments_and_closing_brackets(script, parsed):
    source = parsed('''
        """A docstring
        of two lines."""
        # a comment
        a = [
            1,
        ]
    ''')
    # Module, Expr, Constant; Assign, Name, Store, List, Load, Constant: 9 nodes on two lines
    assert script.nodes_per_line([source]) == pytest.approx(9 / 2)


def test_percentile_is_a_value_of_the_list(script):
    assert script.percentile(list(range(1, 12)), 0.9) == 10


@pytest.mark.parametrize(
    ("text", "package", "expected"),
    [
        ("from ..nn.boxes import iou", ["data"], {"nn.boxes", "nn.boxes.iou"}),
        ("from . import boxes", ["nn"], {"nn", "nn.boxes"}),
        ("def f():\n    from mrcnn.model import MaskRCNN", [], {"model", "model.MaskRCNN"}),
        ("import mrcnn.utils, keras\nfrom keras import ops", [], {"utils"}),
    ],
)
def test_imported_names(script, text, package, expected):
    assert set(script.imported_names(ast.parse(text), package)) == expected


def test_cycles_names_the_files(script):
    assert script.cycles({"a": {"b"}, "b": set()}) == []
    assert set(script.cycles({"a": {"b"}, "b": {"a"}})) == {"a", "b"}


def test_climbing_reads_the_stairs(script, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "architecture.md").write_text(
        "## Stairs\n\n```\n1 model\n0 nn data\n```\n"
    )
    graph = {"model": {"nn.boxes"}, "nn.boxes": {"nn.ops", "data.image"}, "data.image": {"model"}}
    assert script.climbing(graph, tmp_path) == ["nn.boxes -> data.image", "data.image -> model"]


def test_odd_phrases_count_docstrings_and_comments(script, parsed):
    source = parsed('''
        """One two beside three."""
        a = "beside"  # in place of four
    ''')
    assert script.odd_phrases([source]) == pytest.approx(1000 * 2 / 8)


def test_banned_phrases_in_docstrings_comments_messages_and_names(script, parsed):
    source = parsed('''
        def test_run_goes_on():
            """Ground truth of photo 1."""
            raise ValueError("a picture is needed")  # anew
    ''')
    found = script.banned_phrases(source)
    assert [entry.split(" (")[0] for entry in sorted(found)] == [
        "2: goes on",
        "3: photo",
        "4: anew",
        "4: picture",
    ]
    assert len(script.banned_phrases(source, allowed=("a picture is needed",))) == 3


def test_file_names_are_no_messages(script, parsed):
    assert script.banned_phrases(parsed('open("photo.jpg")')) == []
    assert script.banned_phrases(parsed('log("reads photo.jpg")')) == []


def test_ground_truth_is_no_banned_phrase(script, parsed):
    assert script.banned_phrases(parsed('"""Ground-truth boxes of the ground\n    truth."""')) == []


def test_functions_without_shapes_are_named(script, parsed):
    source = parsed('''
        def area(boxes):
            """Areas `[N]` of boxes `[N, 4]`."""
        def mean(values):
            """Mean of all values."""
        def _private(values): ...
    ''')
    assert script.without_shapes([source]) == ["example.py:mean"]


def test_reading_counts_whole_files_or_named_functions(script, tmp_path):
    (tmp_path / "mrcnn").mkdir()
    text = "x = 1\n\n\ndef f():\n    return x\n\n\nclass C:\n    def f(self):\n        pass\n"
    (tmp_path / "mrcnn" / "a.py").write_text(text)
    assert script.reading(tmp_path, {"a.py": ""}) == 10
    assert script.reading(tmp_path, {"a.py": "f"}) == 2
    assert script.reading(tmp_path, {"a.py": "f C.f"}) == 4


def test_a_measure_above_its_limit_is_marked(script):
    measure = script.Measure("lines of model.py", 751, 750, "model.py")
    assert measure.exceeded and str(measure).split()[-2:] == ["NO", "model.py"]
    assert not script.Measure("files", 751, None).exceeded
