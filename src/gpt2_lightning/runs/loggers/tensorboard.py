"""TensorBoard's event files."""

from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from gpt2_lightning import metrics
from gpt2_lightning.files.whole import replacing
from gpt2_lightning.runs.loggers.description import Description, WhenUsed

_LAYOUT = {
    "Loss": {
        "NLL, training and validation": ["Multiline", [metrics.TRAIN_NLL, metrics.VAL_NLL]],
        "bits per byte, validation": ["Multiline", [metrics.VAL_BITS_PER_BYTE]],
    },
    "Optimization": {
        "learning rate": ["Multiline", [metrics.TRAIN_LEARNING_RATE, f"{metrics.LEARNING_RATE_PREFIX}.*"]],
        "gradient norm": ["Multiline", [metrics.TRAIN_GRAD_NORM]],
        "update to weight": ["Multiline", [metrics.UPDATE_TO_WEIGHT_PREFIX + ".*"]],
    },
    "Speed": {
        "tokens per second": [
            "Multiline",
            [metrics.TRAIN_TOKENS_PER_SECOND, metrics.TRAIN_MEAN_TOKENS_PER_SECOND],
        ],
        "model FLOPs utilisation": ["Multiline", [metrics.TRAIN_MFU]],
        "share of the time waiting for data": ["Multiline", [metrics.TRAIN_DATA_WAIT_SHARE]],
    },
}
"""The charts of the tab Custom Scalars."""


class TensorBoard(TensorBoardLogger):
    """TensorBoard's event files, in the run's folder, with its Custom Scalars and HParams tabs filled.

    A resumed run continues in a new file of the same folder; what an earlier try wrote past the step that
    it resumes from is removed from the earlier files.

    Args:
        save_dir: the run's folder, set by the command line.
    """

    def __init__(self, save_dir: str = "") -> None:
        super().__init__(save_dir, name="", version="", default_hp_metric=False)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `SummaryWriter` of torch; its file is made when something is written."""
        if self._experiment is not None:
            return self._experiment
        return WhenUsed(lambda: super(TensorBoard, self).experiment)

    @rank_zero_only
    def begin(self, step: int, description: Description) -> None:
        from torch.utils.tensorboard.summary import hparams

        for path in Path(self.save_dir or ".").glob("events.out.tfevents.*"):
            _keep_until(path, step)
        # The session alone: TensorBoard then finds the columns of all runs by itself, where one run's
        # list of columns would count for every other.
        settings = description.flat() | {"tags": ", ".join(description.tags)}
        _, session, _ = hparams(settings, {})
        self.experiment._get_file_writer().add_summary(session)
        self.experiment.add_custom_scalars(_LAYOUT)
        if description.notes and step == 0:
            self.experiment.add_text("notes", description.notes)

    @rank_zero_only
    def save(self) -> None:
        """Write out what was recorded; the hyperparameters are there since `begin`."""
        if self._experiment is not None:
            self._experiment.flush()


def _keep_until(path: Path, step: int) -> None:
    """Remove from an event file what is past a step; remove the file if the run starts again from 0.

    Not all of TensorBoard's readers respect its own mark of a restart.
    """
    if step == 0:
        path.unlink()
        return
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto import event_pb2
    from tensorboard.summary.writer.record_writer import RecordWriter

    with replacing(path, "wb") as file:
        writer = RecordWriter(file)
        for record in RawEventFileLoader(str(path)).Load():
            if event_pb2.Event.FromString(record).step <= step:  # pyright: ignore[reportAttributeAccessIssue]
                writer.write(record)
