"""The loggers of a run's folder: TensorBoard, Weights & Biases, and `metrics.csv`."""

from gpt2_lightning.runs.loggers.description import Description, RunLogger
from gpt2_lightning.runs.loggers.metrics_csv import MetricsCSV
from gpt2_lightning.runs.loggers.tensorboard import TensorBoard
from gpt2_lightning.runs.loggers.weights_and_biases import WeightsAndBiases

__all__ = ["Description", "MetricsCSV", "RunLogger", "TensorBoard", "WeightsAndBiases"]
