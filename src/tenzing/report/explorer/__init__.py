"""A profile as the tables of Neuron Explorer, with nothing in the columns that we do not know."""

from tenzing.report.explorer.parquet import Column
from tenzing.report.explorer.profile import explorer_tables, write_explorer

__all__ = ["Column", "explorer_tables", "write_explorer"]
