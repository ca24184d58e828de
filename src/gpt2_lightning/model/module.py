"""The LightningModule: GPT-2, its training step and its validation."""

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from gpt2_lightning import metrics
from gpt2_lightning.data.corpus import Split
from gpt2_lightning.data.datamodule import TextDataModule, datamodule_of
from gpt2_lightning.errors import InputError
from gpt2_lightning.metrics import is_due, record
from gpt2_lightning.model.adaptation import Trainable, gpt2_of
from gpt2_lightning.model.architecture import Architecture
from gpt2_lightning.model.hidden_states import hidden_states
from gpt2_lightning.model.nll import linear_nll
from gpt2_lightning.model.optimizers import fuse, keep_own_settings, leave_scale_to_scaler, parameter_groups
from gpt2_lightning.model.recipe import AdapterState, Recipe, check_same_shapes
from gpt2_lightning.model.run_length import ends_step

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
            parameters: it gets the groups of `model.optimizers.parameter_groups`. AdamW if not given.
        pretrained: weights to start from: a hub id such as `openai-community/gpt2`, a folder, the
            folder of a run, or `<folder>/latest` for the newest run in it; random if not given.
        change_tokenizer: rebuild the embeddings of `pretrained` for the corpus' tokenizer: entries
            that both have keep their vectors, new ones start from the mean of their pieces.
        trainable: which of the model's own weights train.
        adapter: a PEFT configuration, or a file of `configs/adapter/`; the adapter alone trains then.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third
            more time.
        compile: compile the model's body with `torch.compile`; takes 20 seconds or more at the start.
    """

    def __init__(
        self,
        architecture: Architecture = Architecture(),  # noqa: B008  (frozen)
        optimizer: OptimizerCallable | None = None,
        pretrained: str | None = None,
        change_tokenizer: bool = False,
        trainable: Trainable = Trainable(),  # noqa: B008  (frozen)
        adapter: "PeftConfig | None" = None,
        gradient_checkpointing: bool = False,
        compile: bool = False,  # noqa: A002  (torch's own word, on the command line)
    ) -> None:
        super().__init__()
        self.recipe = Recipe(
            architecture, pretrained, change_tokenizer, trainable, adapter, gradient_checkpointing, compile
        )
        self.optimizer = optimizer or torch.optim.AdamW
        self.model: GPT2LMHeadModel | PeftModel | None = None
        self._adapter: AdapterState | None = None

    @property
    def gpt2(self) -> GPT2LMHeadModel:
        """The Hugging Face model, inside its adapter if it has one; exists after `configure_model`."""
        assert self.model is not None, "configure_model() comes first"
        return gpt2_of(self.model)

    def config(self, data: TextDataModule) -> GPT2Config:
        """The model's configuration, without its vocabulary; checks every option.

        Raises:
            InputError: if the options do not fit each other, the pretrained model, or the rows.
        """
        return self.recipe.config(data.block_size, data.rows in ("isolated", "documents"))

    def configure_model(self) -> None:
        if self.model is None:
            data = datamodule_of(self.trainer)
            self.model, self._adapter = self.recipe.build(self.config(data), data.tokenizer)
            # an adapter's names are checked in on_load_checkpoint
            self.strict_loading = self._adapter is None

    @property
    def base_sha256(self) -> str:
        """Of the weights that an adapter adapts; empty without one."""
        return self._adapter.base_sha256 if self._adapter else ""

    def _kept(self, state: dict[str, Any]) -> dict[str, Any]:
        """The part of a `state_dict` that a checkpoint keeps: only the adapter, if there is one."""
        if self._adapter is None:
            return state
        return {f"model.{name}": state[f"model.{name}"] for name in sorted(self._adapter.names)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = self._kept(checkpoint["state_dict"])
        if self._adapter is not None:
            checkpoint["base_sha256"] = self._adapter.base_sha256

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another model.

        Raises:
            InputError: if names or shapes differ, or an adapter was trained on another base.
        """
        check_same_shapes(checkpoint["state_dict"], self._kept(self.state_dict()))
        if self._adapter is not None and checkpoint["base_sha256"] != self._adapter.base_sha256:
            raise InputError(
                "--ckpt_path: its adapter was trained on other weights than --model.pretrained "
                f"{self.recipe.pretrained!r} has now"
            )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The injected optimizer; the learning rate belongs to the `WarmupSchedule` callback."""
        # Looked up once: walking over the modules takes longer than a small model's optimizer.
        self._trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        try:
            optimizer = self.optimizer(parameter_groups(self))
        except (ValueError, RuntimeError) as error:  # torch's own check of its options
            raise InputError(f"--model.optimizer: {error}") from None
        if isinstance(optimizer, torch.optim.SparseAdam):
            raise InputError("--model.optimizer SparseAdam: is for sparse gradients, and GPT-2 has none")
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:  # in fp16
            leave_scale_to_scaler(optimizer)
        else:
            fuse(optimizer)
        keep_own_settings(optimizer)
        return optimizer

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning's, by the norm that is there; it would refuse fused optimizers in bf16."""
        if not gradient_clip_val:
            return
        if gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(self._trained, gradient_clip_val)
        else:
            torch.nn.utils.clip_grads_with_norm_(self._trained, gradient_clip_val, self.grad_norm)

    def forward(
        self, input_ids: Tensor, targets: Tensor, position_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum of the targets' NLL in nats, and their number; the inputs are int64 `(B, T)`.

        See `hidden_states` for what `position_ids` say of documents.
        """
        hidden = hidden_states(self.model, input_ids, position_ids)  # (B, T, D)
        return linear_nll(hidden, self.gpt2.lm_head.weight, targets)

    def on_train_start(self) -> None:
        data = datamodule_of(self.trainer)
        self._nominal_targets = data.micro_batch_size * data.block_size  # the same on every rank
        self._start_step()

    def _start_step(self) -> None:
        self._nll = torch.zeros((), device=self.device)
        self._num_targets = torch.zeros((), device=self.device, dtype=torch.int64)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The NLL sum over a nominal number of targets, for the backward pass; made exact after it.

        The number of targets in the whole optimizer step is known only with its last micro-batch.
        Until then each sum is divided by the size of a whole micro-batch, which keeps fp16's scaled
        gradients in range and is the same on every rank, however long its rows are;
        `on_after_backward` puts the true number in its place.
        """
        nll, num_targets = self(**batch)
        self._nll += nll.detach()
        self._num_targets += num_targets
        self._step_ends = ends_step(self.trainer, batch_idx)
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
        self.step_nll = nll / num_targets
        nominal = self._nominal_targets * self.trainer.accumulate_grad_batches * self.trainer.world_size
        self._scale_gradients(nominal / num_targets)
        step = self.trainer.global_step + 1
        if is_due(self.trainer, step):
            record(self.trainer, {metrics.TRAIN_NLL: self.step_nll.item()}, step)
        self._start_step()

    def _scale_gradients(self, factor: Tensor) -> None:
        if factor.device.type == "cpu" and factor == 1:  # elsewhere, looking at it would wait for the device
            return
        for gradient in self._gradients():
            gradient.mul_(factor)

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._trained if p.grad is not None]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Computes the norm for clipping; records `train/grad_norm` where it is due, unscaled."""
        step = self.trainer.global_step + 1
        gradients = self._gradients()  # none in a step that is left out
        self.grad_norm = torch.nn.utils.get_total_norm(gradients)
        if gradients and is_due(self.trainer, step):
            record(self.trainer, {metrics.TRAIN_GRAD_NORM: self.grad_norm.item()}, step)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Frees a step's gradients after the callbacks; Lightning does so after the next forward pass."""
        if self._step_ends:
            for parameter in self._trained:
                parameter.grad = None

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

        Where not every token of the split was read (`limit_val_batches`, documents that are cut),
        bits per byte assumes the mean NLL for the rest.
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
        if not num_targets:
            block = datamodule_of(self.trainer).block_size
            raise InputError(
                f"--data.block_size {block}: the rows of the {split} split hold nothing that is learned, "
                "only prompts; take a longer block"
            )
        mean = (nll / num_targets).item()
        counts = datamodule_of(self.trainer).store.splits[split]
        values = {
            "nll": mean,
            "perplexity": metrics.perplexity(mean),
            "bits_per_byte": counts.bits_per_byte(mean),
            "bits_per_character": counts.bits_per_character(mean),
        }
        named = {prefix + name: value for name, value in values.items() if value is not None}
        self.log_dict(named, logger=False, sync_dist=True)  # for callbacks that monitor one of them
        if not self.trainer.sanity_checking:
            record(self.trainer, named)
