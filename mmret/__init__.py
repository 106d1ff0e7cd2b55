"""mmret: retrieval where the query or the document is an image.

The names below are resolved on first use (PEP 562), so that `import mmret` stays quick and imports neither
torch nor FAISS nor Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmret.errors import InputError

if TYPE_CHECKING:
    from mmret.backbones import load_backbone
    from mmret.composition import prompt_directional_vectors
    from mmret.data import load_benchmark
    from mmret.document_search import open_documents
    from mmret.folder_search import open_folder
    from mmret.retrieval.evaluate import evaluate
    from mmret.retrieval.search import search

__version__ = "0.1.0"

_HOMES = {
    "evaluate": "mmret.retrieval.evaluate",
    "load_backbone": "mmret.backbones",
    "load_benchmark": "mmret.data",
    "open_documents": "mmret.document_search",
    "open_folder": "mmret.folder_search",
    "prompt_directional_vectors": "mmret.composition",
    "search": "mmret.retrieval.search",
}

__all__ = [
    "InputError",
    "__version__",
    "evaluate",
    "load_backbone",
    "load_benchmark",
    "open_documents",
    "open_folder",
    "prompt_directional_vectors",
    "search",
]


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, resolved or not."""
    return sorted({*globals(), *__all__})
