"""A module is named after its one idea and says what of it is public."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tailrace"

SHAPELESS_NAMES = {"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}


def is_public(module: Path) -> bool:
    names = [*module.parent.relative_to(PACKAGE).parts, module.stem]
    return not any(name.startswith("_") and name != "__init__" for name in names)


def is_only_a_docstring(tree: ast.Module) -> bool:
    return len(tree.body) == 1 and ast.get_docstring(tree) is not None


def assigned_names(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case _:
                pass


PUBLIC_MODULES = [str(path.relative_to(PACKAGE)) for path in sorted(PACKAGE.rglob("*.py")) if is_public(path)]


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_a_public_module_says_what_is_public(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))

    assert is_only_a_docstring(tree) or "__all__" in assigned_names(tree)


def test_no_module_has_a_name_that_could_hold_anything() -> None:
    paths = [path.relative_to(ROOT) for top in ("src", "tests") for path in (ROOT / top).rglob("*.py")]

    shapeless = [str(path) for path in paths if SHAPELESS_NAMES & {*path.parent.parts, path.stem}]

    assert paths
    assert shapeless == []
