"""Settings that are each allowed but do not fit together are refused before anything is read."""

from pathlib import Path

import pytest

from tests.commandline.conftest import refusal


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--warmup.warmup_steps=9"], "--warmup.warmup_steps 9 is not shorter than the run"),
        (["--trainer.max_steps=-1"], "give --trainer.max_steps or --trainer.max_epochs, at least 1"),
        (["--seed_everything=true"], "--seed_everything True: give a whole number"),
        (["--seed_everything=-1"], "--seed_everything -1: give a whole number"),
        (
            ["--model.architecture.activation_function=gelu_nw"],
            "'gelu_nw' is unknown; did you mean 'gelu_new'?",
        ),
        (["--trainer.accumulate_grad_batches=0"], "--trainer.accumulate_grad_batches 0: must be at least 1"),
        (["--trainer.accumulate_grad_batches=3"], "no multiple of --trainer.accumulate_grad_batches 3"),
        (
            ["--trainer.val_check_interval=0.5"],
            "--trainer.val_check_interval 0.5: counted over the whole run",
        ),
        (["--trainer.gradient_clip_val=-1"], "--trainer.gradient_clip_val -1: must be at least 0"),
        (["--ckpt_path=nowhere.ckpt"], "--ckpt_path 'nowhere.ckpt': no such file"),
        (["--trainer.limit_train_batches=3", "--trainer.accumulate_grad_batches=2"], "end inside a step"),
        (["--patience=2", "--trainer.limit_val_batches=0"], "--patience 2: never ends a run without"),
        (["--trainer.callbacks=LearningRateFinder"], "LearningRateFinder: is not supported"),
        (["--trainer.callbacks=BatchSizeFinder"], "BatchSizeFinder: is not supported"),
        (["--data.folder=/proc/nowhere"], "--data.folder '/proc/nowhere': cannot be written"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
):
    assert message in refusal(capsys, tmp_path, *extra)
    assert not list(tmp_path.glob("logs/*/*"))
