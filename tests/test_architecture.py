"""What docs/architecture.md promises: directions of imports, no cycles, sizes, docstrings.

Imports inside functions count like all others, and so do module names in strings (`import_module`); those
under `TYPE_CHECKING` count for directions but not for cycles.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "mmret").rglob("*.py"))
}
MODULES = sorted(PATHS)

ROW = re.compile(r"^\| (`.*?) \| (.*?) \|", re.MULTILINE)
NAME = re.compile(r"`([^`]+)`")
AND_ITS_OWN = re.compile(r"`([^`]+)` and what it may")

#: Each room, and the rooms of ours that it may import beside itself, as docs/architecture.md has them.
DIRECTIONS: dict[str, set[str]] = {}

#: The command's rooms, which may import everything.
COMMANDS: set[str] = set()

for rooms, targets in ROW.findall((ROOT / "docs/architecture.md").read_text("utf-8")):
    named = {re.sub(r"/$|\.py$", "", each).replace("/", ".") for each in NAME.findall(rooms)}
    if targets == "everything":
        COMMANDS |= named
    else:
        inherited = [DIRECTIONS[each] for each in AND_ITS_OWN.findall(targets)]
        allowed = set(NAME.findall(targets)).union(*inherited)
        DIRECTIONS |= dict.fromkeys(named, allowed)

TYPING_ONLY = "if TYPE_CHECKING:"
MODULE_NAME = re.compile(r"mmret(\.\w+)+(:\w+)?")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(PATHS[module].read_text(encoding="utf-8"))


def absolute(module: str, node: ast.ImportFrom) -> str:
    """The module that `from … import` names, relative or not."""
    if not node.level:
        return node.module or ""
    is_package = PATHS[module].name == "__init__.py"
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


def names_in(module: str, node: ast.AST) -> Iterator[str]:
    """Dotted names that one node imports: modules, or things in modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{absolute(module, node)}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_NAME.fullmatch(node.value):
        yield from {node.value.split(":")[0]} & set(PATHS)


def is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node).startswith(TYPING_ONLY)


def walk(node: ast.AST, typing_only: bool) -> Iterator[ast.AST]:
    """All nodes below, with or without what stands under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if typing_only or not is_typing_only(child):
            yield child
            yield from walk(child, typing_only)


@cache
def imported(module: str, *, typing_only: bool = True) -> frozenset[str]:
    """Dotted names that a module imports anywhere."""
    nodes = walk(tree(module), typing_only)
    return frozenset(name for node in nodes for name in names_in(module, node))


def ours(names: frozenset[str]) -> set[str]:
    """The modules of ours among dotted names: a module itself, or that of a thing; never the bare root."""
    found = {name if name in PATHS else name.rpartition(".")[0] for name in names}
    return {name for name in found if name in PATHS and name != "mmret"}


def lies_in(module: str, room: str) -> bool:
    """Whether `mmret.data.miniature.world` lies in `data`: it does, and in `data.miniature`."""
    return f"{module}.".startswith(f"mmret.{room}.")


def room(module: str) -> str | None:
    """The longest room that a module lies in."""
    return max((r for r in [*DIRECTIONS, *COMMANDS] if lies_in(module, r)), key=len, default=None)


def public(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions, classes and methods at any depth of classes, with their qualified names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not child.name.startswith("_"):
                yield prefix + child.name, child  # type: ignore[misc]
            if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
                yield from public(child, f"{prefix}{child.name}.")


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return (node for node in nodes if isinstance(node, ast.FunctionDef))


def covers(name: str, target: str) -> bool:
    """Whether leave to import `name` is leave to import the module `target`.

    A part of `name` with a row of its own that may import more has to be named itself.
    """
    home = room(target)
    if not lies_in(target, name) or home is None:
        return False
    further = {each for each in DIRECTIONS[home] if not f"{each}.".startswith(f"{name}.")}
    return len(home) <= len(name) or further <= DIRECTIONS[name]


def test_the_table_names_what_is_there_and_only_what_stands_above() -> None:
    """So that no two rooms can import each other."""
    lying = {*MODULES, *(".".join(module.split(".")[:2]) for module in MODULES)}
    assert [each for each in [*DIRECTIONS, *COMMANDS] if f"mmret.{each}" not in lying] == []
    order = list(DIRECTIONS)
    for home, targets in DIRECTIONS.items():
        above = order[: order.index(home)]
        assert [each for each in targets if not any(lies_in(f"mmret.{each}", row) for row in above)] == []


@pytest.mark.parametrize("module", [m for m in MODULES if m not in {"mmret", "mmret.__main__"}])
def test_imports_go_one_way(module: str) -> None:
    home = room(module)
    assert home, f"{module}: a new room belongs into the table of docs/architecture.md"
    if home not in COMMANDS:
        allowed = {home, *DIRECTIONS[home]}
        wrong = [n for n in ours(imported(module)) if not any(covers(target, n) for target in allowed)]
        assert wrong == []


def test_nothing_imports_the_command() -> None:
    importers = {module for module in MODULES if "mmret.cli" in ours(imported(module))}
    assert importers <= {"mmret.__main__"}


def test_no_import_cycles() -> None:
    graph = {
        module: ours(imported(module, typing_only=False)) - {module}
        for module in MODULES
        if module != "mmret"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("module", MODULES)
def test_only_modules_that_train_import_lightning(module: str) -> None:
    if not any(re.match(r"(pytorch_)?lightning\b", name) for name in imported(module)):
        return
    bases = {
        ast.unparse(b)
        for _, node in public(tree(module))
        if isinstance(node, ast.ClassDef)
        for b in node.bases
    }
    is_data_module = lies_in(module, "data") and any(base.endswith("DataModule") for base in bases)
    assert is_data_module or room(module) in {"methods", *COMMANDS}


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_has_a_docstring(module: str) -> None:
    missing = [name for name, node in public(tree(module)) if ast.get_docstring(node) is None]
    assert ast.get_docstring(tree(module)), f"{module} has no docstring"
    assert missing == []


SOURCES = [*PATHS.values(), *sorted((ROOT / "bench").glob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_and_modules_are_short(path: Path) -> None:
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions(path)}
    assert {name: length for name, length in lengths.items() if length > 60} == {}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils", "util", "common", "helpers", "helper", "misc"}
    assert [module for module in MODULES if module.rpartition(".")[2] in drawers] == []
