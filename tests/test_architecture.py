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

#: Each room, and the rooms of ours that it may import beside itself. The longest name that fits counts.
DIRECTIONS: dict[str, set[str]] = {"errors": set(), "losses": set(), "triples": set(), "atomic": {"errors"}}
DIRECTIONS["retrieval"] = {"errors", "atomic"}
DIRECTIONS["backbones"] = {"errors", "atomic"}
DIRECTIONS["composition"] = {"errors", "atomic", "triples", "backbones.prompt"}
DIRECTIONS["data"] = {"errors", "atomic", "triples", "backbones.prompt"}
DIRECTIONS["pages"] = {"errors", "atomic", "data"}
DIRECTIONS["data.page_labels"] = {"errors", "data", "pages"}
DIRECTIONS |= dict.fromkeys(
    ["data.page_sources", "data.page_pairs", "data.outline_queries"], DIRECTIONS["data.page_labels"]
)
DIRECTIONS["text_search"] = {"errors", "retrieval"}
DIRECTIONS["judging"] = {"errors", "data", "retrieval"}
DIRECTIONS["data.datamodules"] = DIRECTIONS["data.mined_datamodule"] = {"errors", "backbones", "data"}
DIRECTIONS["data.triplets_datamodule"] = DIRECTIONS["data.datamodules"]
DIRECTIONS["data.drawn_pages"] = DIRECTIONS["data.pages_datamodule"] = DIRECTIONS["data.datamodules"]
DIRECTIONS["probes"] = DIRECTIONS["data.datamodules"]
DIRECTIONS["data.miniature_pages_datamodule"] = DIRECTIONS["data.datamodules"]
DIRECTIONS["captioning"] = {"errors", "atomic", "data"}
DIRECTIONS["pixel_batches"] = {"errors", "backbones", "data"}
DIRECTIONS["embedding"] = {"errors", "atomic", "backbones", "data", "retrieval", "pixel_batches"}
DIRECTIONS["inversion"] = DIRECTIONS["embedding"] | {"embedding", "composition"}
DIRECTIONS["data.images_datamodule"] = {"inversion", *DIRECTIONS["inversion"]}
DIRECTIONS["triplet_generation"] = {
    "errors",
    "atomic",
    "triples",
    "backbones",
    "data",
    "embedding",
    "retrieval",
}
DIRECTIONS["name_lookup"] = DIRECTIONS["retention"] = {"errors", "data", "retrieval"}
DIRECTIONS["server_files"] = {"errors", "atomic", "data", "retrieval"}
DIRECTIONS["scoring"] = {"errors", "data", "judging", "retrieval", "server_files"}
DIRECTIONS["encoded_benchmark"] = {"composition", "embedding", *DIRECTIONS["embedding"]}
DIRECTIONS["corridor"] = {"encoded_benchmark", "judging", *DIRECTIONS["encoded_benchmark"]}
DIRECTIONS["run_methods"] = {
    "errors",
    "data",
    "judging",
    "name_lookup",
    "retrieval",
    "tables.cells",
    "text_search",
}
DIRECTIONS["hard_negatives"] = {"embedding", "text_search", *DIRECTIONS["embedding"]}
DIRECTIONS["mteb_adapter"] = {"embedding", *DIRECTIONS["embedding"]}
DIRECTIONS["pdv_choice"] = {"corridor", *DIRECTIONS["corridor"]}
DIRECTIONS["experiment"] = {
    "inversion",
    "losses",
    "run_methods",
    "server_files",
    "tables.cells",
    "pdv_choice",
}
DIRECTIONS["experiment"] |= DIRECTIONS["pdv_choice"]
DIRECTIONS["cell_training"] = {"errors", "backbones", "composition", "tables.cells"}
DIRECTIONS["experiment"] |= {"cell_training", "pages", "text_search"}
DIRECTIONS["methods"] = {"experiment", "hard_negatives", *DIRECTIONS["experiment"]}
DIRECTIONS["page_probes"] = {"embedding", *DIRECTIONS["embedding"]}
DIRECTIONS["folder_vectors"] = DIRECTIONS["similarity_maps"] = {"embedding", *DIRECTIONS["embedding"]}
DIRECTIONS["page_words"] = {"errors", "pages", "retrieval", "text_search"}
DIRECTIONS["search_result"] = {"data", "display"}
DIRECTIONS["page_search_result"] = {"errors", "backbones", "data", "display", "pages", "search_result"}
DIRECTIONS["page_search_result"] |= {"similarity_maps"}
_SHOWN = {"tables", "display", "explore", "figures", "templates", "report"}
DIRECTIONS |= dict.fromkeys(_SHOWN, _SHOWN | DIRECTIONS["methods"])

#: The command's rooms, which may import everything.
COMMANDS = {"cli", "commands", "demo", "folder_search", "document_search"}

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


def test_the_document_and_this_test_name_the_same_rooms() -> None:
    table = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE)
    names = [name for cell in table for name in re.findall(r"`([^`]+)`", cell)]
    rooms = {re.sub(r"/$|\.py$", "", name).replace("/", ".") for name in names}
    assert rooms == {*DIRECTIONS, *COMMANDS}


@pytest.mark.parametrize("module", [m for m in MODULES if m not in {"mmret", "mmret.__main__"}])
def test_imports_go_one_way(module: str) -> None:
    home = room(module)
    assert home, f"{module}: a new room belongs into docs/architecture.md and into this test"
    if home not in COMMANDS:
        allowed = {home, *DIRECTIONS[home]}
        wrong = [n for n in ours(imported(module)) if not any(lies_in(n, target) for target in allowed)]
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
