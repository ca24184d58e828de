"""The LightningModule: GPT-2, its training step and its validation."""

import math
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2_lightning import metrics
from gpt2_lightning.data.corpus import Split
from gpt2_lightning.data.datamodule import TextDataModule, datamodule_of
from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.errors import InputError
from gpt2_lightning.locations import locate
from gpt2_lightning.metrics import is_due, record
from gpt2_lightning.model import adalora, adaptation
from gpt2_lightning.model.adaptation import Trainable, freeze, headless, inject
from gpt2_lightning.model.architecture import Architecture, build
from gpt2_lightning.model.nll import linear_nll
from gpt2_lightning.model.optimizers import parameter_groups
from gpt2_lightning.model.pretrained import digest, fit_vocabulary, load, read_config, reconciled
from gpt2_lightning.run_length import total_steps

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel


class GPT2Module(LightningModule):
    """GPT-2 trained on the mean negative log-likelihood per target token of each optimizer step.

    The mean is exact: summed over all micro-batches and ranks of the step and divided by the number
    of target tokens in them, however these are spread.

    Records every `trainer.log_every_n_steps` optimizer steps `train/nll` (of that whole step) and
    `train/grad_norm` (global L2 norm before clipping); after each validation `val/nll`,
    `val/perplexity`, `val/bits_per_byte` and `val/bits_per_character`, over the whole split.

    Args:
        architecture: shape of the model; a file of `configs/model/` or single fields.
        optimizer: any optimizer class of `torch.optim` or an importable one, without its
            parameters: it gets the groups of `model.optimizers.parameter_groups`.
        pretrained: weights to start from: a hub id such as `openai-community/gpt2`, a folder, the
            folder of a run, or `<folder>/latest` for the newest run in it; random if not given.
        change_tokenizer: rebuild the embeddings of `pretrained` for the corpus' tokenizer: entries
            that both have keep their vectors, new ones start from the mean of their pieces.
        trainable: which of the model's own weights train.
        adapter: a configuration of PEFT's, a file of `configs/adapter/`: it alone trains then.
        gradient_checkpointing: compute activations anew in the backward pass: less memory, about a
            third more time.
        compile: the model's body through `torch.compile`; costs 20 seconds and more at the start.
    """

    def __init__(
        self,
        architecture: Architecture = Architecture(),  # noqa: B008  (frozen)
        optimizer: OptimizerCallable = torch.optim.AdamW,
        pretrained: str | None = None,
        change_tokenizer: bool = False,
        trainable: Trainable = Trainable(),  # noqa: B008  (frozen)
        adapter: "PeftConfig | None" = None,
        gradient_checkpointing: bool = False,
        compile: bool = False,  # noqa: A002  (torch's own word, on the command line)
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.optimizer = optimizer
        self.pretrained = pretrained
        self.change_tokenizer = change_tokenizer
        self.trainable = trainable
        self.adapter = adapter
        self.gradient_checkpointing = gradient_checkpointing
        self.compiled = compile
        self.model: GPT2LMHeadModel | PeftModel | None = None

    @property
    def gpt2(self) -> GPT2LMHeadModel:
        """The Hugging Face model, inside its adapter if it has one; there after `configure_model`."""
        assert self.model is not None, "configure_model() comes first"
        return self.model if isinstance(self.model, GPT2LMHeadModel) else self.model.get_base_model()  # pyright: ignore[reportReturnType]

    def config(self, data: TextDataModule) -> GPT2Config:
        """The model's configuration, but for its vocabulary; every option is looked at.

        Raises:
            InputError: if the options do not fit each other, the pretrained model, or the rows.
        """
        if self.pretrained is None:
            config, path = self.architecture.config(), None
            if self.adapter is not None or self.change_tokenizer:
                option = "adapter" if self.adapter is not None else "change_tokenizer"
                raise InputError(
                    f"--model.{option}: is for a model that has learned something; name one with "
                    "--model.pretrained: a hub id, a folder, or a run"
                )
        else:
            path = locate(self.pretrained, "--model.pretrained")
            config = reconciled(read_config(path), self.architecture, path)
        if config.n_embd % config.n_head:
            raise InputError(
                f"--model.architecture.n_head {config.n_head} does not divide --model.architecture.n_embd "
                f"{config.n_embd}: each head has n_embd / n_head dimensions"
            )
        if data.block_size > config.n_positions:
            raise InputError(
                f"--data.block_size {data.block_size} is longer than --model.architecture.n_positions "
                f"{config.n_positions}: take a shorter block, or a model with more positions"
            )
        adaptation.check(self.trainable, self.adapter, config)
        if self.adapter is not None:
            if self.change_tokenizer:
                raise InputError(
                    "--model.change_tokenizer true: the new entries would never train beside "
                    "--model.adapter; fine-tune without one first, then adapt its export"
                )
            isolated = data.rows in ("isolated", "documents")
            adaptation.check_adapter(
                self.adapter, config, data.block_size, isolated, self.gradient_checkpointing
            )
        return config

    def configure_model(self) -> None:
        if self.model is not None:
            return
        data = datamodule_of(self.trainer)
        config, tokenizer = self.config(data), data.tokenizer
        path = self.pretrained and locate(self.pretrained, "--model.pretrained")
        if path is None:
            model = build(self.architecture, len(tokenizer), end_of_text_id(tokenizer))
        else:
            model = load(path, config)
            fit_vocabulary(model, path, tokenizer, self.change_tokenizer)
        freeze(model, self.trainable)
        if self.gradient_checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable({"use_reentrant": False})  # the newer of transformers' two names for it
        if self.compiled:
            model.transformer.compile()  # in place: no other name in any checkpoint
        self.model = model
        if self.adapter is not None:
            self._base_sha256 = digest(model)
            self.model, self._adapter_names = inject(model, self.adapter, str(path))
            self.strict_loading = False  # a checkpoint has the adapter alone; its names are checked here

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Of an adapted model the adapter alone is kept, and what tells its base from another."""
        if self.adapter is not None:
            prefix = len("model.")
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {n: v for n, v in state.items() if n[prefix:] in self._adapter_names}
            checkpoint["base_sha256"] = self._base_sha256
        if adalora.is_adalora(self.model):
            checkpoint["adalora"] = adalora.state(self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another model.

        Raises:
            InputError: if names or shapes differ, or an adapter was trained on another base.
        """
        own = self.state_dict()
        if self.adapter is not None:
            own = {f"model.{name}": own[f"model.{name}"] for name in self._adapter_names}
            if checkpoint.get("base_sha256", self._base_sha256) != self._base_sha256:
                raise InputError(
                    f"--ckpt_path: its adapter was trained on other weights than --model.pretrained "
                    f"{self.pretrained!r} has now"
                )
        if adalora.is_adalora(self.model):
            adalora.set_state(self.model, checkpoint["adalora"])
        found = checkpoint["state_dict"]
        for name in sorted(own.keys() | found.keys()):
            has, wants = (tuple(s[name].shape) if name in s else "nothing" for s in (found, own))
            if has != wants:
                raise InputError(
                    f"--ckpt_path: its model has another shape or vocabulary: {name.removeprefix('model.')} "
                    f"is {has} in the checkpoint and {wants} in the model of these options"
                )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The injected optimizer; the learning rate belongs to the `WarmupSchedule` callback."""
        try:
            return self.optimizer(parameter_groups(self))
        except ValueError as error:  # torch's own check of its options
            raise InputError(f"--model.optimizer: {error}") from None

    def forward(
        self, input_ids: Tensor, targets: Tensor, position_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum of the targets' NLL in nats, and their number; the inputs are int64 `(B, T)`.

        Where `position_ids` start again from zero, another document starts, which sees nothing of
        the one before: `transformers` does so only without an attention mask and without a cache.
        """
        model: Any = self.model
        positions = {} if position_ids is None else {"position_ids": position_ids}
        with headless(self.gpt2):
            hidden = model(input_ids=input_ids, use_cache=False, **positions).logits  # (B, V + T, D)
        hidden = hidden[:, -input_ids.shape[1] :]  # (B, T, D): without the virtual tokens of an adapter
        return linear_nll(hidden, self.gpt2.lm_head.weight, targets)

    def on_train_start(self) -> None:
        if adalora.is_adalora(self.model):
            adalora.set_total_steps(self.model, total_steps(self.trainer))
        self._start_step()

    def _start_step(self) -> None:
        self._nll = torch.zeros((), device=self.device)
        self._num_targets = torch.zeros((), device=self.device, dtype=torch.int64)
        self._nominal_targets: int | None = None

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The NLL sum over a nominal number of targets, for the backward pass; made exact after it.

        The number of targets in the whole optimizer step is known only with its last micro-batch.
        Until then each sum is divided by the size of the step's first micro-batch, which keeps
        fp16's scaled gradients in range, and `on_after_backward` puts the true number in its place.
        """
        nll, num_targets = self(**batch)
        self._nominal_targets = self._nominal_targets or batch["targets"].numel()
        self._nll += nll.detach()
        self._num_targets += num_targets
        self._step_ends = (
            batch_idx + 1
        ) % self.trainer.accumulate_grad_batches == 0 or self.trainer.is_last_batch
        return {"loss": nll / self._nominal_targets, "nll": nll.detach(), "num_targets": num_targets}

    def on_after_backward(self) -> None:
        """At the end of a step: gradients of the exact mean; records `train/nll` where it is due.

        Lightning has divided each micro-loss by `accumulate_grad_batches`, also in a short last
        window, and DDP has averaged over the ranks; both are undone here.
        """
        if not self._step_ends:
            return
        nll, num_targets = self._nll, self._num_targets
        if self.trainer.world_size > 1:
            nll = self.trainer.strategy.reduce(nll, reduce_op="sum")
            num_targets = self.trainer.strategy.reduce(num_targets, reduce_op="sum")
        num_targets = num_targets.clamp(min=1)
        assert self._nominal_targets is not None
        nominal = self._nominal_targets * self.trainer.accumulate_grad_batches * self.trainer.world_size
        self._scale_gradients(nominal / num_targets)
        if adalora.is_adalora(self.model):
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)  # fp16's
            adalora.add_penalty_gradients(self.model, scaler.get_scale() if scaler else 1.0)
        step = self.trainer.global_step + 1
        if is_due(self.trainer, step):
            record(self.trainer, {metrics.TRAIN_NLL: (nll / num_targets).item()}, step)
        self._start_step()

    def _scale_gradients(self, factor: Tensor) -> None:
        if factor.device.type == "cpu" and factor == 1:  # elsewhere, looking at it would wait for the device
            return
        for gradient in self._gradients():
            gradient.mul_(factor)

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.parameters() if p.grad is not None]

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """As Lightning's; then AdaLoRA gives out ranks, while the gradients are still there."""
        step = self.trainer.global_step + 1
        super().optimizer_step(*arguments, **options)
        if adalora.is_adalora(self.model):
            adalora.allocate(self.model, step)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Records `train/grad_norm` where it is due: after unscaling, before clipping."""
        step = self.trainer.global_step + 1
        if is_due(self.trainer, step):
            norm = torch.nn.utils.get_total_norm(self._gradients())
            record(self.trainer, {metrics.TRAIN_GRAD_NORM: norm.item()}, step)

    def on_validation_epoch_start(self) -> None:
        dtype = torch.float32 if self.device.type == "mps" else torch.float64  # MPS has no float64
        self._val_nll = torch.zeros((), device=self.device, dtype=dtype)
        self._val_targets = torch.zeros((), device=self.device, dtype=torch.int64)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        nll, num_targets = self(**batch)
        self._val_nll += nll
        self._val_targets += num_targets

    def on_validation_epoch_end(self) -> None:
        """Records the token-weighted validation metrics.

        Where not every token of the split was looked at (`limit_val_batches`, documents that are cut),
        bits per byte takes the mean NLL for that of the rest.
        """
        self._record_split("validation", metrics.VAL_PREFIX)

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        """Records the same metrics of the test split, as `test/nll` and so on."""
        self._record_split("test", metrics.TEST_PREFIX)

    def _record_split(self, split: Split, prefix: str) -> None:
        nll = self.trainer.strategy.reduce(self._val_nll, reduce_op="sum")
        num_targets = self.trainer.strategy.reduce(self._val_targets, reduce_op="sum")
        mean = (nll / num_targets).item()
        counts = datamodule_of(self.trainer).store.splits[split]
        values = {
            "nll": mean,
            "perplexity": perplexity(mean),
            "bits_per_byte": counts.bits_per_byte(mean),
            "bits_per_character": counts.bits_per_character(mean),
        }
        named = {prefix + name: value for name, value in values.items() if value is not None}
        self.log_dict(named, logger=False, sync_dist=True)  # for callbacks that monitor one of them
        if not self.trainer.sanity_checking:
            record(self.trainer, named)


def perplexity(nll: float) -> float:
    """`exp(nll)`; infinity where that overflows."""
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf
