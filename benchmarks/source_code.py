"""Measure how the source reads, one line a measure: `python benchmarks/source_code.py [--check]`.

Nothing is imported from `mrcnn`; the files are parsed. `--root` measures another checkout, and
`--check` exits with 1 if a limit is exceeded. `tests/test_source_code.py` runs the same functions.
"""

from __future__ import annotations

import argparse
import ast
import graphlib
import io
import re
import shutil
import statistics
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)

# Files that a reader opens to follow one call, with the functions and classes on the path; an empty
# string counts the whole file. Helpers whose name says what they do are not opened: box arithmetic,
# resizing, pasting of masks, NMS, layers that Keras has too.
FROM_DETECT_TO_MASKS = {
    "inference/detector.py": "Detector.detect Detector._prepare Detector._detect_batch "
    "Detector._unmold Detector._mold Detector.predict Detector._compiled_network _run_network",
    "inference/preprocessing.py": "",
    "model.py": "",
    "nn/proposals.py": "",
    "nn/roi_align.py": "",
    "nn/heads.py": "",
    "nn/detections.py": "",
    "inference/postprocessing.py": "",
}
FROM_DATASET_TO_LOSS = {
    "data/ground_truth.py": "",
    "data/generator.py": "DataGenerator",
    "data/rpn_targets.py": "build_rpn_targets",
    "training/pipeline.py": "Batches stream",
    "training/network.py": "TrainingNetwork",
    "model.py": "ProposalLayer DetectionTargetLayer SharedNetwork _build_training "
    "_ground_truth_inputs _training_heads mask_rcnn_losses MaskRCNN.build MaskRCNN._build",
    "detection_model.py": "DetectionModel.build DetectionModel.anchors_of DetectionModel.train",
    "nn/fpn.py": "",
    "nn/rpn.py": "",
    "nn/proposals.py": "",
    "nn/targets.py": "",
    "nn/heads.py": "",
    "nn/losses.py": "",
}

# Phrases that readers of English stumble over, by kind.
ODD_PHRASES = {
    "told/tell of": r"\b(is|are|was|been|be)? ?(told|tells?|telling) (of|it|them|\b)|\btold of\b",
    "where for if": r"\bwhere (it|there|one|they|that|no|nothing|the|an?|images|TensorFlow|none)\b",
    "kept for its place": r"kept for (its|their) (place|name)",
    "alone": r"\b\w+ alone\b",
    "in place of": r"\bin place of\b",
    "so many/such": r"\bso many\b|\bsuch (a )?\w+",
    "beside": r"\bbeside\b",
    "anew": r"\banew\b",
    "what as a noun": r"(?:^|[.:;,] )[Ww]hat \w+",
    "room/finds/looks": r"\brooms?\b|\bfinds\b|\blooks\b",
    "by it/of it": r"\bby it\b|\bof it\b|\bfor it\b",
    "pays/at work": r"\bpays\b|\bat work\b",
    "nothing/none": r"\bnothing\b|\bnone\b",
}
FILE_NAME = r"\S+\.(heic|h5|jpe?g|json|png)\b"
# Phrases that have a standard term: docstrings, comments, messages and names must not contain them.
BANNED_PHRASES = {
    "flows back": "gradient",
    "turned round": "rotated by 180 degrees",
    "(goes|going) on": "resumes",
    "(told|tells?) of": "logged, warned about, reported",
    "(photo|picture)s?": "image",
    "(?<!ground[ -])truths?": "ground truth",
    "kept for (its|their) (place|name)": "unused",
    "where it pays": "if it is faster",
    "beside": "next to, besides",
    "anew": "again",
    "alone": "only",
    "so many": "the number",
}

# Phrases that stay: names that users type, and wording that means something else.
ALLOWED = (
    "--pictures",
    "VALIDATION_PICTURES",
    "boxes alone",  # a kind of finding in check.json
)


class Source(NamedTuple):
    """A parsed file."""

    path: Path
    text: str
    tree: ast.Module


def read(folder: Path) -> list[Source]:
    """All Python files below a folder."""
    paths = sorted(folder.rglob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in paths]
    return [Source(path, text, ast.parse(text)) for path, text in zip(paths, texts, strict=True)]


def functions(sources: list[Source]) -> list[ast.FunctionDef]:
    return [
        node for source in sources for node in ast.walk(source.tree) if isinstance(node, FUNCTION)
    ]


def length(node: ast.AST) -> int:
    """Lines from the `def` or `class` line to the last one, docstring included."""
    return node.end_lineno - node.lineno + 1


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[int(share * (len(values) - 1))]


def nodes_per_line(sources: list[Source]) -> float:
    """Syntax nodes a line of code: a line outside of docstrings on which a node starts."""
    nodes, lines = 0, 0
    for source in sources:
        found = list(ast.walk(source.tree))
        starts = {node.lineno for node in found if hasattr(node, "lineno")}
        nodes += len(found)
        lines += len(starts - docstring_lines(source))
    return nodes / lines


def docstring_nodes(source: Source) -> Iterator[ast.Constant]:
    for node in ast.walk(source.tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, *FUNCTION))
            and ast.get_docstring(node) is not None
        ):
            yield node.body[0].value


def docstring_lines(source: Source) -> set[int]:
    lines = set()
    for node in docstring_nodes(source):
        lines |= set(range(node.lineno, node.end_lineno + 1))
    return lines


# --- Imports ------------------------------------------------------------------------------------


def imports(root: Path) -> dict[str, set[str]]:
    """Dotted file name -> the files of `mrcnn` that it imports, also inside functions."""
    names = {}
    for source in read(root / "mrcnn"):
        parts = source.path.relative_to(root / "mrcnn").with_suffix("").parts
        names[".".join(parts)] = source
    graph = {}
    for name, source in names.items():
        if not name.endswith("__init__"):
            targets = set(imported_names(source.tree, name.split(".")[:-1]))
            graph[name] = {target for target in targets if target in names} - {name}
    return graph


def imported_names(tree: ast.Module, package: list[str]) -> Iterator[str]:
    """Dotted names below `mrcnn` that a file in `package` may import; some are no files."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("mrcnn."):
                    yield alias.name.removeprefix("mrcnn.")
        if not isinstance(node, ast.ImportFrom):
            continue
        base = (node.module or "").split(".") if node.module else []
        if node.level:
            base = package[: len(package) - node.level + 1] + base
        elif base[0] == "mrcnn":
            base = base[1:]
        else:
            continue
        yield ".".join(base)
        for alias in node.names:
            yield ".".join([*base, alias.name])


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """The files of one import cycle, or an empty list."""
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def climbing(graph: dict[str, set[str]], root: Path) -> list[str]:
    """Imports that do not go down the stairs of docs/architecture.md."""
    page = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = re.search(r"^## Stairs\n+```\n(.+?)```", page, re.DOTALL | re.MULTILINE)[1]
    rows = {}
    for row in picture.splitlines():
        number, *names = row.split()
        rows.update(dict.fromkeys(names, int(number)))
    found = []
    for name, targets in graph.items():
        folder = name.split(".")[0]
        for target in targets:
            other = target.split(".")[0]
            if other != folder and rows[other] >= rows[folder]:
                found.append(f"{name} -> {target}")
    return found


# --- Language -----------------------------------------------------------------------------------


def comments(source: Source) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def prose(source: Source) -> list[str]:
    """Docstrings and comments of a file."""
    docstrings = [node.value for node in docstring_nodes(source)]
    return docstrings + [text for _, text in comments(source)]


def odd_phrases(sources: list[Source]) -> float:
    """Odd phrases per 1,000 words of docstrings and comments."""
    text = "\n".join(part for source in sources for part in prose(source))
    words = len(re.findall(r"[A-Za-z']+", text))
    found = sum(len(re.findall(pattern, text)) for pattern in ODD_PHRASES.values())
    return 1000 * found / words


def texts(source: Source) -> Iterator[tuple[int, str]]:
    """Line number and text of each docstring, comment, message, and name of a function or class.

    A string without a space is a file name, a key or an option, no message.
    """
    yield from comments(source)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
        if isinstance(node, (ast.ClassDef, *FUNCTION)):
            yield node.lineno, node.name.replace("_", " ")


def banned_phrases(source: Source, allowed: tuple[str, ...] = ()) -> list[str]:
    """`line: phrase (write ...)` for each banned phrase, after the allowed ones are cut out."""
    found = []
    for number, text in texts(source):
        text = re.sub(FILE_NAME, " ", " ".join(text.split()))
        for phrase in allowed:
            text = text.replace(phrase, " ")
        for pattern, instead in BANNED_PHRASES.items():
            for match in re.finditer(rf"\b{pattern}\b", text, re.IGNORECASE):
                found.append(f"{number}: {match[0]} (write: {instead})")
    return found


def without_shapes(sources: list[Source]) -> list[str]:
    """Public functions whose docstring names no shape in brackets and no scalar."""
    missing = []
    for source in sources:
        for node in source.tree.body:
            if isinstance(node, FUNCTION) and not node.name.startswith("_"):
                text = ast.get_docstring(node) or ""
                if not re.search(r"\[[^\]]+\]|\bscalars?\b", text):
                    missing.append(f"{source.path.name}:{node.name}")
    return missing


# --- What a reader passes -----------------------------------------------------------------------


def reading(root: Path, files: dict[str, str]) -> int:
    """Lines of the files, or of the functions and classes that are named for a file."""
    total = 0
    for path, names in files.items():
        text = (root / "mrcnn" / path).read_text(encoding="utf-8")
        if names:
            lengths = definitions(ast.parse(text))
            total += sum(lengths[name] for name in names.split())
        else:
            total += len(text.splitlines())
    return total


def definitions(tree: ast.Module) -> dict[str, int]:
    """Lines of each function, class and `Class.method` at the top of a file."""
    found = {}
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, *FUNCTION)):
            found[node.name] = length(node)
        for method in getattr(node, "body", []):
            if isinstance(node, ast.ClassDef) and isinstance(method, FUNCTION):
                found[f"{node.name}.{method.name}"] = length(method)
    return found


# --- The table ----------------------------------------------------------------------------------


class Measure(NamedTuple):
    """A line of the table: a value, and the limit that it must not exceed."""

    name: str
    value: float
    limit: float | None
    note: str = ""

    @property
    def exceeded(self) -> bool:
        return self.limit is not None and self.value > self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"<= {self.limit:g}"
        mark = "NO" if self.exceeded else ""
        return f"{self.name:44}{self.value:>8.4g} {limit:>8} {mark:3}{self.note}".rstrip()


def measures(root: Path = ROOT) -> list[Measure]:
    """All lines of the table but pyright's."""
    sources = read(root / "mrcnn")
    lengths = [length(node) for node in functions(sources)]
    longest = max(functions(sources), key=length).name
    graph = imports(root)
    up = climbing(graph, root)
    banned = [phrase for source in sources for phrase in banned_phrases(source, ALLOWED)]
    shapeless = without_shapes(read(root / "mrcnn" / "nn"))
    model = (root / "mrcnn" / "model.py").read_text(encoding="utf-8")
    table = [
        Measure("lines of model.py", len(model.splitlines()), 750),
        Measure("files", len(graph), None),
        Measure("imports between files", sum(len(targets) for targets in graph.values()), None),
        Measure("files of an import cycle", len(cycles(graph)), 0, " ".join(cycles(graph))),
        Measure("imports that go up the stairs", len(up), 0, ", ".join(up)),
        Measure("functions", len(lengths), None),
        Measure("lines of a function, median", statistics.median(lengths), 10),
        Measure("lines of a function, 90th percentile", percentile(lengths, 0.9), 30),
        Measure("lines of a function, most", max(lengths), 100, longest),
        Measure("syntax nodes a line of code", nodes_per_line(sources), 10.5),
        Measure("odd phrases in 1,000 words", odd_phrases(sources), 1.5),
        Measure("banned phrases", len(banned), 0, ", ".join(banned)),
        Measure("public functions of nn without shapes", len(shapeless), 0, " ".join(shapeless)),
    ]
    if FROM_DETECT_TO_MASKS and (root / "mrcnn" / "inference").exists():
        detect, loss = FROM_DETECT_TO_MASKS, FROM_DATASET_TO_LOSS
        table += [
            Measure("lines from detect() to masks", reading(root, detect), 1600),
            Measure("files from detect() to masks", len(detect), 8),
            Measure("lines from dataset to loss", reading(root, loss), 1900),
        ]
    return table


def pyright(root: Path) -> str:
    """The last line of pyright's report, or a sentence if it is not installed."""
    command = shutil.which("pyright")
    if command is None:
        return "pyright is not installed. Try pip install pyright."
    arguments = [command, "--pythonpath", sys.executable, "mrcnn"]
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True)
    return "pyright: " + (done.stdout.strip().splitlines() or ["no output"])[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how the source of mrcnn reads.")
    parser.add_argument("--root", type=Path, default=ROOT, help="another checkout")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is exceeded")
    args = parser.parse_args()
    table = measures(args.root)
    for measure in table:
        print(measure)
    print(pyright(args.root))
    return int(args.check and any(measure.exceeded for measure in table))


if __name__ == "__main__":
    sys.exit(main())
