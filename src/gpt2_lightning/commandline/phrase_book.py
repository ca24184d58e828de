"""Words of other trainers for our options."""

from collections.abc import Iterable

_LENGTH_IN_STEPS = ("trainer.max_steps",)
_BLOCK = ("data.block_size", "block_size")
_NEW_TOKENS = ("max_new_tokens",)
_ROWS = ("data.micro_batch_size",)
_PATHS = ("data.corpus.source.paths", "data.source.paths")

WORDS: dict[str, tuple[str, ...]] = {
    # TrainingArguments and run_clm of transformers, and its course
    "learning_rate": ("model.optimizer.lr",),
    "weight_decay": ("model.optimizer.weight_decay",),
    "adam_beta1": ("model.optimizer.betas",),
    "adam_beta2": ("model.optimizer.betas",),
    "adam_epsilon": ("model.optimizer.eps",),
    "optim": ("model.optimizer",),
    "num_train_epochs": ("trainer.max_epochs",),
    "lr_scheduler_type": ("warmup.schedule",),
    "warmup_ratio": ("warmup.warmup_fraction",),
    "per_device_train_batch_size": _ROWS,
    "per_device_eval_batch_size": _ROWS,
    "gradient_accumulation_steps": ("trainer.accumulate_grad_batches",),
    "max_grad_norm": ("trainer.gradient_clip_val",),
    "fp16": ("trainer.precision 16-mixed",),
    "bf16": ("trainer.precision bf16-mixed", "precision bf16-mixed"),
    "output_dir": ("logs", "output"),
    "run_name": ("run",),
    "logging_steps": ("trainer.log_every_n_steps",),
    "save_steps": ("checkpoints.every_n_steps",),
    "eval_steps": ("validate_every_n_steps",),
    "evaluation_strategy": ("validate_every_n_steps",),
    "eval_strategy": ("validate_every_n_steps",),
    "max_eval_samples": ("trainer.limit_val_batches",),
    "early_stopping_patience": ("patience",),
    "resume_from_checkpoint": ("ckpt_path",),
    "report_to": ("trainer.logger",),
    "model_name_or_path": ("model.pretrained", "run"),
    "config_name": ("model.architecture",),
    "tokenizer_name": ("data.corpus.tokenizer.path", "data.tokenizer.path"),
    "train_file": _PATHS,
    "validation_file": ("data.corpus.validation.paths", "data.validation.paths"),
    "dataset_name": ("data.corpus.source.name", "data.source.name"),
    "dataset_config_name": ("data.corpus.source.config", "data.source.config"),
    "validation_split_percentage": ("data.corpus.validation_fraction", "data.validation_fraction"),
    "dataloader_num_workers": ("data.num_workers",),
    "torch_compile": ("model.compile",),
    "max_seq_length": _BLOCK,
    "max_length": (*_BLOCK[:1], *_NEW_TOKENS, *_BLOCK[1:]),
    "num_return_sequences": ("num_samples",),
    # nanoGPT
    "max_iters": _LENGTH_IN_STEPS,
    "lr_decay_iters": _LENGTH_IN_STEPS,
    "warmup_iters": ("warmup.warmup_steps",),
    "min_lr": ("warmup.min_lr_ratio",),
    "decay_lr": ("warmup.schedule",),
    "beta1": ("model.optimizer.betas",),
    "beta2": ("model.optimizer.betas",),
    "grad_clip": ("trainer.gradient_clip_val",),
    "batch_size": (*_ROWS, "batch_tokens"),
    "dropout": ("model.architecture.resid_pdrop",),
    "eval_interval": ("validate_every_n_steps",),
    "eval_iters": ("trainer.limit_val_batches",),
    "log_interval": ("trainer.log_every_n_steps",),
    "out_dir": ("logs", "output"),
    "init_from": ("model.pretrained", "run"),
    "dataset": _PATHS,
    "device": ("trainer.accelerator",),
    "dtype": ("trainer.precision", "precision"),
    "wandb_log": ("trainer.logger",),
    "wandb_run_name": ("run",),
    # litgpt
    "global_batch_size": ("trainer.accumulate_grad_batches",),
    "lr_warmup_steps": ("warmup.warmup_steps",),
    "lr_warmup_fraction": ("warmup.warmup_fraction",),
    "max_norm": ("trainer.gradient_clip_val",),
    "max_tokens": (*_LENGTH_IN_STEPS, *_NEW_TOKENS),
    "save_interval": ("checkpoints.every_n_steps",),
    "checkpoint_dir": ("model.pretrained", "run"),
    "data_dir": _PATHS,
    "lora_r": ("model.adapter.r",),
    "lora_alpha": ("model.adapter.lora_alpha",),
    "lora_dropout": ("model.adapter.lora_dropout",),
    # words of everybody
    "lr": ("model.optimizer.lr",),
    "epochs": ("trainer.max_epochs",),
    "num_epochs": ("trainer.max_epochs",),
    "steps": _LENGTH_IN_STEPS,
    "num_steps": _LENGTH_IN_STEPS,
    "betas": ("model.optimizer.betas",),
    "scheduler": ("warmup.schedule",),
    "schedule": ("warmup.schedule",),
    "max_seq_len": _BLOCK,
    "seq_len": _BLOCK,
    "sequence_length": _BLOCK,
    "context_length": _BLOCK,
    "context_size": _BLOCK,
    "gpus": ("trainer.devices",),
    "num_gpus": ("trainer.devices",),
    "amp": ("trainer.precision 16-mixed",),
    "mixed_precision": ("trainer.precision", "precision"),
    "seed": ("seed_everything",),
    "resume": ("ckpt_path",),
    "checkpoint": ("ckpt_path",),
    "model": ("model.pretrained", "run"),
    "model_name": ("model.pretrained", "run"),
    "pretrained_model": ("model.pretrained", "run"),
    "tokenizer": ("data.corpus.tokenizer", "data.tokenizer"),
    "vocab_size": ("data.corpus.tokenizer.vocab_size",),
    "train_data": _PATHS,
    "text": _PATHS,
    "file": _PATHS,
    "num_layers": ("model.architecture.n_layer",),
    "num_heads": ("model.architecture.n_head",),
    "hidden_size": ("model.architecture.n_embd",),
    "lora": ("model.adapter",),
    "logger": ("trainer.logger",),
    "log_dir": ("logs",),
    "name": ("run",),
    "num_tokens": _NEW_TOKENS,
    "length": _NEW_TOKENS,
    "temp": ("temperature",),
    "topk": ("top_k",),
    "topp": ("top_p",),
}
"""Options by the words of other trainers, the likeliest first; a value that belongs to it follows a space."""

VALUES: dict[str, dict[str, str]] = {
    "trainer.precision": {
        "fp16": "16-mixed",
        "float16": "16-mixed",
        "half": "16-mixed",
        "bfloat16": "bf16-mixed",
        "fp32": "32-true",
        "float32": "32-true",
        "float": "32-true",
    },
    "trainer.accelerator": {"tpu": "cpu, cuda or mps"},
}
"""What values of other trainers are here."""


def option_for(word: str, known: Iterable[str]) -> str | None:
    """The option, of those that a parser knows, for a word of another trainer; `None` if there is none.

    Args:
        word: as it was typed, perhaps below a section of ours.
        known: names of options; what lies below one of them is known too.
    """
    names = set(known)
    for option in WORDS.get(word.rpartition(".")[2].replace("-", "_").lower(), ()):
        parts = option.split(" ")[0].split(".")
        if any(".".join(parts[:number]) in names for number in range(1, len(parts) + 1)):
            return option
    return None


def table() -> str:
    """The words of `train.py`'s options, as Markdown."""
    lines = [f"| `{word}` | `--{options[0]}` |" for word, options in WORDS.items()]
    return "\n".join(["| There | Here |", "|---|---|", *lines])
