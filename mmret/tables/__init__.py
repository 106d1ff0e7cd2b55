"""A paper's table as data: specs, cells that run once, and the table in every format."""

from mmret.tables.load import load_spec
from mmret.tables.run import run_table
from mmret.tables.spec import ClaimSpec, RowSpec, TableSpec
from mmret.tables.table import Table

__all__ = ["ClaimSpec", "RowSpec", "Table", "TableSpec", "load_spec", "run_table"]
