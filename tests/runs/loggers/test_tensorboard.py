import time
from pathlib import Path

from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray

from gpt2_lightning import metrics
from gpt2_lightning.runs.loggers import Description, TensorBoard

DESCRIPTION = Description({"model": {"optimizer": {"lr": 0.01}, "adapter": None}}, ("a", "b"), "a try")


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()


def test_it_writes_into_the_folder_itself_and_nothing_but_events(tmp_path: Path):
    logger = TensorBoard(str(tmp_path))
    logger.log_metrics({metrics.TRAIN_NLL: 3.0}, step=10)
    logger.finalize("success")
    assert [path.name.split(".")[0] for path in tmp_path.iterdir()] == ["events"]
    event = events(tmp_path).Scalars(metrics.TRAIN_NLL)[0]
    assert (event.step, event.value) == (10, 3.0)


def test_no_file_before_something_is_written(tmp_path: Path):
    logger = TensorBoard(str(tmp_path))
    _ = logger.experiment  # as Lightning does before it looks at the checkpoint
    logger.save()
    logger.finalize("failed")
    assert list(tmp_path.iterdir()) == []


def test_hyperparameters_layout_and_notes_are_there_from_the_start(tmp_path: Path):
    logger = TensorBoard(str(tmp_path))
    logger.begin(0, DESCRIPTION)
    logger.finalize("success")
    found = events(tmp_path)
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    session = HParamsPluginData.FromString(content).session_start_info
    assert session.hparams["model.optimizer.lr"].number_value == 0.01
    assert session.hparams["tags"].string_value == "a, b"
    assert "model.adapter" not in session.hparams
    layout = layout_pb2.Layout.FromString(
        found.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    )
    assert [category.title for category in layout.category] == ["Loss", "Optimization", "Speed"]
    assert list(layout.category[0].chart[0].multiline.tag) == ["train/nll", "val/nll"]
    assert found.Tensors("notes/text_summary")[0].tensor_proto.string_val[0] == b"a try"


def test_a_resumed_run_goes_on_without_loss_or_doubles(tmp_path: Path):
    for start, steps in ((0, (10, 20, 30)), (10, (20, 40))):  # the first was killed after step 10 was saved
        logger = TensorBoard(str(tmp_path))
        logger.begin(start, DESCRIPTION)
        for step in steps:
            logger.log_metrics({metrics.TRAIN_NLL: step + start / 100}, step=step)
            if start == 0 and step == 30:
                logger.log_metrics({"events/skipped_steps": 7.0}, step=step)
        logger.finalize("failed")
        time.sleep(1.1)  # a file's name begins with the second it was made in, and files are read by name
    assert len(list(tmp_path.iterdir())) == 2
    expected = [(10, 10.0), (20, 20.1), (40, 40.1)]
    for reader in (event_accumulator, plugin_event_accumulator):  # by hand, and of TensorBoard's pages
        found = reader.EventAccumulator(str(tmp_path)).Reload()
        if reader is event_accumulator:
            points = [(event.step, event.value) for event in found.Scalars(metrics.TRAIN_NLL)]
            names = found.Tags()["scalars"]
        else:
            points = [(e.step, make_ndarray(e.tensor_proto).item()) for e in found.Tensors(metrics.TRAIN_NLL)]
            names = found.Tags()["tensors"]
        assert [(step, round(value, 1)) for step, value in points] == expected
        assert "events/skipped_steps" not in names
    assert len(events(tmp_path).Tensors("notes/text_summary")) == 1


def test_a_run_that_begins_again_leaves_nothing_of_an_earlier_try(tmp_path: Path):
    for value in (1.0, 2.0):
        logger = TensorBoard(str(tmp_path))
        logger.begin(0, DESCRIPTION)
        logger.log_metrics({metrics.TRAIN_NLL: value}, step=1)
        logger.finalize("failed")
    assert [event.value for event in events(tmp_path).Scalars(metrics.TRAIN_NLL)] == [2.0]
