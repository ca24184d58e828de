from pathlib import Path

from gpt2_lightning import metrics
from gpt2_lightning.runs.loggers import Description, MetricsCSV
from tests.conftest import read_metrics


def test_what_belongs_to_one_step_is_one_row(tmp_path: Path):
    logger = MetricsCSV(str(tmp_path))
    logger.log_metrics({metrics.TRAIN_NLL: 3.0}, step=10)
    logger.log_metrics({metrics.VAL_NLL: 4.0}, step=10)
    logger.log_metrics({metrics.TRAIN_NLL: 2.0}, step=20)
    logger.finalize("success")
    rows = read_metrics(tmp_path)
    assert [(row["step"], row["train/nll"], row["val/nll"]) for row in rows] == [
        ("10", "3.0", "4.0"),
        ("20", "2.0", ""),
    ]


def test_a_saved_row_takes_what_comes_later(tmp_path: Path):
    logger = MetricsCSV(str(tmp_path))
    logger.log_metrics({metrics.TRAIN_NLL: 3.0}, step=10)
    logger.save()
    assert [row["train/nll"] for row in read_metrics(tmp_path)] == ["3.0"]
    logger.log_metrics({metrics.VAL_NLL: 4.0}, step=10)
    logger.save()
    logger.log_metrics({"mine": 5.0}, step=10)
    logger.finalize("success")
    rows = read_metrics(tmp_path)
    assert [(row["train/nll"], row["val/nll"], row["mine"]) for row in rows] == [("3.0", "4.0", "5.0")]


def test_a_new_metric_becomes_a_column(tmp_path: Path):
    logger = MetricsCSV(str(tmp_path))
    logger.log_metrics({metrics.TRAIN_NLL: 3.0}, step=1)
    logger.log_metrics({"mine": 1.0}, step=2)
    logger.finalize("success")
    assert [row["mine"] for row in read_metrics(tmp_path)] == ["", "1.0"]


def test_a_resumed_run_goes_on_without_loss_or_doubles(tmp_path: Path):
    first = MetricsCSV(str(tmp_path))
    for step in (10, 20, 30):
        first.log_metrics({metrics.TRAIN_NLL: float(step), "mine": 0.0}, step=step)
    first.finalize("failed")
    second = MetricsCSV(str(tmp_path))
    second.begin(10, Description())
    for step in (20, 30, 40):
        second.log_metrics({metrics.TRAIN_NLL: step + 0.5}, step=step)
    second.finalize("success")
    assert [(r["step"], r["train/nll"], r["mine"]) for r in read_metrics(tmp_path)] == [
        ("10", "10.0", "0.0"),
        ("20", "20.5", ""),
        ("30", "30.5", ""),
        ("40", "40.5", ""),
    ]


def test_a_validation_that_was_due_completes_the_newest_row(tmp_path: Path):
    first = MetricsCSV(str(tmp_path))
    for step in (10, 20):
        first.log_metrics({metrics.TRAIN_NLL: float(step)}, step=step)
    first.finalize("failed")
    second = MetricsCSV(str(tmp_path))
    second.begin(20, Description())
    second.log_metrics({metrics.VAL_NLL: 4.0}, step=20)
    second.finalize("success")
    rows = [(row["step"], row["train/nll"], row["val/nll"]) for row in read_metrics(tmp_path)]
    assert rows == [("10", "10.0", ""), ("20", "20.0", "4.0")]
