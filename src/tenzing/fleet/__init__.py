"""Many executions over time: money of a program, step times, predictions of published rows."""

from tenzing.fleet.economics import Bill, bill_for, unpriced
from tenzing.fleet.prediction import predict_file, predict_row, predict_table
from tenzing.fleet.rows import Row, Table, read_table
from tenzing.fleet.scoring import Report, Score, score_files
from tenzing.fleet.steptime import (
    Fit,
    Layout,
    StepTime,
    decode_step,
    encoder_batch,
    prefill,
    training_step,
)
from tenzing.fleet.sweep import sweep
from tenzing.fleet.workload import Shape, shape_of

__all__ = [
    "Bill", "Fit", "Layout", "Report", "Row", "Score", "Shape", "StepTime", "Table", "bill_for",
    "decode_step", "encoder_batch", "predict_file", "predict_row", "predict_table", "prefill",
    "read_table", "score_files", "shape_of", "sweep", "training_step",
    "unpriced",
]  # fmt: skip
