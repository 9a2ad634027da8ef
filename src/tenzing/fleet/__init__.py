"""Many executions over time: money of a program, step times, predictions of published rows."""

from tenzing.fleet.comparison import (
    DEFAULT_TARGETS,
    Choice,
    Comparison,
    compare,
    fleet_for,
    sensitivity,
    simulated,
)
from tenzing.fleet.economics import Bill, bill_for, unpriced
from tenzing.fleet.measured import (
    Measurement,
    measurements_json,
    read_measurements,
    write_measurements,
)
from tenzing.fleet.prediction import predict_file, predict_row, predict_table
from tenzing.fleet.rows import Row, Table, read_table
from tenzing.fleet.scoring import Report, Score, score_files
from tenzing.fleet.steptime import (
    Fit,
    Layout,
    StepTime,
    decode_step,
    diffusion_batch,
    encoder_batch,
    prefill,
    training_step,
)
from tenzing.fleet.sweep import sweep
from tenzing.fleet.workload import Shape, shape_of

__all__ = [
    "Bill", "Choice", "Comparison", "DEFAULT_TARGETS", "Fit", "Layout", "Measurement", "Report",
    "Row", "Score", "Shape", "StepTime", "Table", "bill_for", "compare", "decode_step",
    "diffusion_batch", "encoder_batch", "fleet_for", "measurements_json", "predict_file",
    "predict_row", "predict_table", "prefill", "read_measurements", "read_table", "score_files",
    "sensitivity", "shape_of", "simulated", "sweep", "training_step", "unpriced",
    "write_measurements",
]  # fmt: skip
