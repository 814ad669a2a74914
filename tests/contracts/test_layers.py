"""Imports only point down, and rows side by side do not know each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "grainwise"
ROWS = [
    ["core"],
    ["primitives"],
    ["networks"],
    ["data", "evaluation"],
    ["training", "runtime"],
    ["export"],
    ["web"],
    ["cli"],
]
HEIGHT = {layer: height for height, row in enumerate(ROWS) for layer in row}
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE]
INNER = [path for path in FILES if path.relative_to(PACKAGE).parts[0] not in ROWS[-1]]


def imported(path: Path) -> set[str]:
    """Layers that a file imports, wherever in the file."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return {m.split(".")[1] for m in modules if m.startswith("grainwise.") and m.split(".")[1] in HEIGHT}


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_imports_point_down(path: Path) -> None:
    layer = path.relative_to(PACKAGE).parts[0]
    for other in imported(path) - {layer}:
        assert HEIGHT[other] < HEIGHT[layer], f"{path.relative_to(PACKAGE)} imports {other}"


def test_every_layer_is_in_a_row() -> None:
    assert {path.relative_to(PACKAGE).parts[0] for path in FILES} <= set(HEIGHT)


@pytest.mark.parametrize("path", INNER, ids=[str(path.relative_to(PACKAGE)) for path in INNER])
def test_only_the_faces_print_or_exit(path: Path) -> None:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {
        f.id if isinstance(f, ast.Name) else ast.unparse(f) for f in calls if isinstance(f, ast.Name | ast.Attribute)
    }
    assert not names & {"print", "exit", "sys.exit", "os._exit"}
