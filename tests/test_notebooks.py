"""Every notebook runs from top to bottom, and none carries outputs."""

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["composed_retrieval", "document_screenshots", "quickstart"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_are_committed(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert not [cell.source for cell in cells if cell.outputs or cell.execution_count]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_names_are_imported_from_where_they_are_defined(path: Path) -> None:
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    imported = [
        (import_module(node.module), alias.name)
        for node in ast.walk(ast.parse("\n".join(cells)))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmret.")
        for alias in node.names
    ]
    assert imported
    lent = [
        f"{module.__name__}.{name}"
        for module, name in imported
        if not hasattr(module, "__path__") and getattr(module, name).__module__ != module.__name__
    ]
    assert lent == []


def pages(outputs: list[Any]) -> list[str]:
    return [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]


def widget_outputs(notebook: nbformat.NotebookNode) -> list[Any]:
    """What stands in the widgets that show outputs, such as that of `interact`."""
    return [output for state in widget_states(notebook) for output in state.get("outputs", [])]


def widget_states(notebook: nbformat.NotebookNode) -> list[Any]:
    """The state of every widget of the notebook."""
    widgets = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    return [widget["state"] for widget in widgets]


@cache
def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


def shown(path: Path) -> list[Any]:
    """The outputs of the cells."""
    return [output for cell in executed(path).cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    assert any("data:image/" in page for page in pages(shown(path)))
    assert len(pages(shown(path))) >= 4


@pytest.mark.notebooks
def test_the_quickstart_turns_the_knobs() -> None:
    quickstart = FOLDER / "quickstart.ipynb"
    assert "beta 0.8: mAP@10 0." in "".join(output.get("text", "") for output in shown(quickstart))
    turned = widget_outputs(executed(quickstart))
    # What fails inside a widget is shown there, and raised nowhere.
    assert [output["output_type"] for output in turned] == ["stream", "display_data"]
    assert "data:image/" in pages(turned)[0]


@pytest.mark.notebooks
def test_the_sliders_of_composed_retrieval_stand_beside_map_and_ranking() -> None:
    states = widget_states(executed(FOLDER / "composed_retrieval.ipynb"))
    texts = [state["value"] for state in states if state.get("_model_name") == "HTMLModel"]
    assert sum("data:image/" in text and "query " in text for text in texts) == 1
    assert sum("<svg" in text and "here: " in text for text in texts) == 1
    assert sum(state.get("_model_name") == "FloatSliderModel" for state in states) == 3


@pytest.mark.notebooks
def test_documents_are_found_by_their_words_and_explained() -> None:
    outputs = shown(FOLDER / "document_screenshots.ipynb")
    words = pages(outputs)[0]
    assert words.index("sales.pdf  page 3 (#2)") < words.index("notes.pdf  page 2 (#1)")
    text = "".join(output.get("text", "") for output in outputs)
    assert "5 added" in text
    score, mean = re.search(r"score (\S+), exact\)\nmean of the map: (\S+)", text).groups()  # type: ignore[union-attr]
    assert score == mean
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert "changed=2" in str(outputs[-1]["data"])
