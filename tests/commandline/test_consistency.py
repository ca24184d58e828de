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
        (
            ["--seed_everything=99999999999999"],
            "--seed_everything 99999999999999: give a whole number from 0",
        ),
        (["--trainer.devices=99999", "--trainer.accelerator=cpu"], "--trainer.devices 99999: the "),
        (["--trainer.accelerator=tpu"], "--trainer.accelerator tpu: is unknown; use auto or cpu or"),
        (["--trainer.log_every_n_steps=0"], "--trainer.log_every_n_steps 0: give at least 1"),
        (["--trainer.limit_train_batches=0"], "--trainer.limit_train_batches 0: trains nothing"),
        (["--trainer.overfit_batches=0.5"], "overfit_batches 0.5: give a whole number of micro-batches"),
        (["--trainer.max_epochs=0"], "--trainer.max_steps 0 or .max_epochs 0: trains nothing"),
        (["--trainer.check_val_every_n_epoch=0"], "give --trainer.limit_val_batches 0 for none"),
        (["--trainer.min_steps=3"], "--trainer.min_steps 3: is not supported; give --trainer.max_steps"),
        (["--trainer.use_distributed_sampler=true"], "use_distributed_sampler True: is not supported"),
        (["--trainer.barebones=true"], "--trainer.barebones True: is not supported; use"),
        (["--trainer.num_nodes=0"], "--trainer: `num_nodes` must be a positive integer"),
        (["--trainer.num_nodes=1000000000000"], "--trainer.num_nodes 1000000000000: give at most 10,000"),
        (["--trainer.devices=x"], "--trainer: `devices` selected with `CPUAccelerator` should be an int > 0"),
        (["--ckpt_path="], "--ckpt_path '': no such file"),
        (["--data.corpus.tokenizer.vocab_size=1000000000000"], "vocab_size: 1000000000000 is out of range"),
        (
            ["--trainer.strategy=ddp_spawn"],
            "--trainer.strategy ddp_spawn: trains to other numbers",
        ),
        (["--trainer.strategy=ddp_notebook_find_unused_parameters_true"], "trains to other numbers here"),
        (["--trainer.strategy=foo"], "--trainer: You selected an invalid strategy name"),
        (["--data.num_workers=100000"], "--data.num_workers 100000: the "),
        (["--data.micro_batch_size=1000000000"], "an optimizer step, with accumulation and devices, has"),
        (["--trainer.accumulate_grad_batches=1000000000"], "has 2,000,000,000 rows; the training split has"),
        (["--model.architecture.n_layer=1000000"], "n_layer 1000000: give at most 1,000"),
        (["--model.architecture.n_embd=5000000"], "weights take"),
        (["--model.optimizer=torch.optim.SparseAdam"], "SparseAdam: is for sparse gradients"),
        (
            [
                "--model.optimizer=torch.optim.AdamW",
                "--model.optimizer.fused=true",
                "--model.optimizer.foreach=true",
            ],
            "--model.optimizer: `fused` and `foreach` cannot be `True` together",
        ),
        (["--ckpt_path=/etc/passwd"], "/etc/passwd: is damaged, or no checkpoint"),
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
