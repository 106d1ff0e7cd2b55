"""What a table's columns measure: metrics, and means of metrics such as CIRR's "mean(success@5, success_subset@1)".

Every query counts alike in both metrics, so the mean of two metrics is one value a query, like any metric.
"""

import re
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mmret.retrieval.metrics import metric

_MEAN: Final = re.compile(r"mean\((.*)\)", re.DOTALL)


def components(name: str) -> tuple[str, ...]:
    """The metrics that a column needs: itself, or those whose mean it is; InputError where one is unknown."""
    mean = _MEAN.fullmatch(str(name).strip())
    return tuple(str(metric(part.strip())) for part in mean[1].split(",")) if mean else (str(metric(name)),)


def canonical(name: str) -> str:
    """The one spelling of a column: "mean(success@5, success_subset@1)"; InputError as `components`."""
    return f"mean({', '.join(components(name))})" if _MEAN.fullmatch(str(name).strip()) else str(metric(name))


def values(per_query: Mapping[str, NDArray[np.floating]], name: str) -> NDArray[np.floating]:
    """A column's value for every query, [Q], from those of its metrics; KeyError where one is missing."""
    mean: NDArray[np.floating] = np.mean([per_query[part] for part in components(name)], axis=0)
    return mean
