"""Every notebook runs from top to bottom, and none carries outputs."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["quickstart"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_outputs_are_committed(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert not [cell.source for cell in cells if cell.outputs or cell.execution_count]


def pages(outputs: list[Any]) -> list[str]:
    return [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]


def widget_outputs(notebook: nbformat.NotebookNode) -> list[Any]:
    """What stands in the widgets that show outputs, such as that of `interact`."""
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    return [output for widget in states for output in widget["state"].get("outputs", [])]


@pytest.mark.notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("data:image/" in page for page in pages(shown))
    assert len(pages(shown)) >= 5
    assert "beta 0.8: mAP@10 0." in "".join(output.get("text", "") for output in shown)
    turned = widget_outputs(notebook)
    # What fails inside a widget is shown there, and raised nowhere.
    assert [output["output_type"] for output in turned] == ["stream", "display_data"]
    assert "data:image/" in pages(turned)[0]
