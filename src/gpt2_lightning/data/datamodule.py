"""The LightningDataModule: any source and tokenizer, as batches of packed rows."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus
from gpt2_lightning.data.loader import TrainLoader, batches_in_order, row_loader
from gpt2_lightning.data.packing import PackedRows
from gpt2_lightning.data.sampler import RowOrder
from gpt2_lightning.data.token_store import TokenStore, open_or_build
from gpt2_lightning.errors import InputError
from gpt2_lightning.ranges import NonNegativeInt, PositiveInt


class TextDataModule(LightningDataModule):
    """A corpus as batches `{"input_ids", "targets"}`, both int64 `(micro_batch_size, block_size)`.

    Args:
        corpus: the text, its tokenizer and its split; a file of `configs/data/` or single fields.
        block_size: context of a row in tokens, at most the model's `n_positions`.
        micro_batch_size: rows per device and forward pass. The global batch is this, times
            `trainer.accumulate_grad_batches`, times the number of devices.
        num_workers: processes that prepare batches; 0 prepares them in the training process.
        folder: where token stores are kept.
        seed: of the order of the training rows; follows `seed_everything` on the command line.
    """

    def __init__(
        self,
        corpus: Corpus,
        block_size: PositiveInt = 256,
        micro_batch_size: PositiveInt = 16,
        num_workers: NonNegativeInt = 0,
        folder: str = "data",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.corpus = corpus
        self.block_size = block_size
        self.micro_batch_size = micro_batch_size
        self.num_workers = num_workers
        self.folder = Path(folder)
        self.seed = seed
        self._store: TokenStore | None = None

    @property
    def store(self) -> TokenStore:
        """The corpus' token store, there after `setup`."""
        assert self._store is not None, "setup() comes first"
        return self._store

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that made the store's ids, there after `setup`."""
        return self._tokenizer

    def prepare_data(self) -> None:
        open_or_build(self.folder, self.corpus)

    def setup(self, stage: str | None = None) -> None:
        if self._store is None:
            self._store = open_or_build(self.folder, self.corpus)
            self._tokenizer = self._store.tokenizer()
            if self._store.splits["train"].tokens < self.block_size:
                raise InputError(
                    f"--data.block_size {self.block_size}: the training split has only "
                    f"{self._store.splits['train'].tokens} tokens; add text or take a smaller block"
                )

    def train_dataloader(self) -> TrainLoader:
        rows = PackedRows(self.store.tokens("train"), self.block_size)
        order = RowOrder(
            num_rows=len(rows),
            micro_batch_size=self.micro_batch_size,
            num_ranks=self.trainer.world_size if self.trainer else 1,
            batches_per_step=self.trainer.accumulate_grad_batches if self.trainer else 1,
            seed=self.seed,
        )
        rank = self.trainer.global_rank if self.trainer else 0
        return TrainLoader(rows, order, rank, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        rows = PackedRows(self.store.tokens("validation"), self.block_size)
        ranks = self.trainer.world_size if self.trainer else 1
        mine = range(self.trainer.global_rank if self.trainer else 0, len(rows), ranks)
        return row_loader(rows, batches_in_order(mine, self.micro_batch_size), self.num_workers)

    def state_dict(self) -> dict[str, Any]:
        return {"fingerprint": self.store.fingerprint, "seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to continue on another corpus or in another order.

        Raises:
            InputError: if the checkpoint was made on other text, tokenizer or options, or seed.
        """
        for name, now in self.state_dict().items():
            if state_dict[name] != now:
                raise InputError(
                    f"the checkpoint's data has the {name} {state_dict[name]}, this run's {now}: "
                    "continue with the corpus, tokenizer and seed that the run began with"
                )


def datamodule_of(trainer: Trainer) -> TextDataModule:
    """The trainer's data module, which Lightning leaves without a type."""
    return trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
