"""Many executions over time: money of a program, step times, predictions of published rows."""

from tenzing.fleet.economics import Bill, bill_for, unpriced
from tenzing.fleet.prediction import predict_file, predict_row, predict_table
from tenzing.fleet.rows import Row, Table, read_table
from tenzing.fleet.scoring import Report, Score, score_files
from tenzing.fleet.workload import Shape, shape_of

__all__ = [
    "Bill", "Report", "Row", "Score", "Shape", "Table", "bill_for", "predict_file", "predict_row",
    "predict_table", "read_table", "score_files", "shape_of", "unpriced",
]  # fmt: skip
