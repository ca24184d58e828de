"""The LightningModule: GPT-2, its training step and its validation."""

import math

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from transformers import GPT2LMHeadModel

from gpt2_lightning import metrics
from gpt2_lightning.data.corpus import Split
from gpt2_lightning.data.datamodule import datamodule_of
from gpt2_lightning.data.tokenizer import end_of_text_id
from gpt2_lightning.errors import InputError
from gpt2_lightning.metrics import is_due, record
from gpt2_lightning.model import architecture as gpt2
from gpt2_lightning.model.architecture import Architecture
from gpt2_lightning.model.nll import linear_nll
from gpt2_lightning.model.optimizers import parameter_groups


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
    """

    def __init__(
        self,
        architecture: Architecture = Architecture(),  # noqa: B008  (a dataclass; never changed)
        optimizer: OptimizerCallable = torch.optim.AdamW,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.optimizer = optimizer
        self.model: GPT2LMHeadModel | None = None

    @property
    def gpt2(self) -> GPT2LMHeadModel:
        """The Hugging Face model, there after `configure_model`."""
        assert self.model is not None, "configure_model() comes first"
        return self.model

    def configure_model(self) -> None:
        if self.model is None:
            tokenizer = datamodule_of(self.trainer).tokenizer
            self.model = gpt2.build(self.architecture, len(tokenizer), end_of_text_id(tokenizer))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The injected optimizer; the learning rate belongs to the `WarmupSchedule` callback."""
        try:
            return self.optimizer(parameter_groups(self.gpt2))
        except ValueError as error:  # torch's own check of its options
            raise InputError(f"--model.optimizer: {error}") from None

    def forward(
        self, input_ids: Tensor, targets: Tensor, position_ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sum of the targets' NLL in nats, and their number; the inputs are int64 `(B, T)`.

        Where `position_ids` start again from zero, another document starts, which sees nothing of
        the one before: `transformers` does so only without an attention mask and without a cache.
        """
        body = self.gpt2.transformer
        hidden = body(input_ids, position_ids=position_ids, use_cache=False).last_hidden_state  # (B, T, D)
        return linear_nll(hidden, self.gpt2.lm_head.weight, targets)

    def on_train_start(self) -> None:
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
