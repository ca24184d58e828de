"""The LightningDataModule: any source and tokenizer, as batches of rows."""

from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader, Subset
from transformers import PreTrainedTokenizerFast

from gpt2_lightning.data.corpus import Corpus, Split
from gpt2_lightning.data.loader import Rows, TrainLoader, batches_in_order, row_loader
from gpt2_lightning.data.packing import DocumentRows, PackedRows
from gpt2_lightning.data.sampler import RowOrder
from gpt2_lightning.data.store_builder import open_or_build
from gpt2_lightning.data.templates import CHAT_TEMPLATES
from gpt2_lightning.data.token_store import TokenStore
from gpt2_lightning.errors import InputError
from gpt2_lightning.ranges import NonNegativeInt, PositiveInt

_DECIDE_THE_ORDER = {
    "--seed_everything": "seed",
    "--data.rows": "rows",
    "--data.block_size": "block_size",
}


class TextDataModule(LightningDataModule):
    """A corpus as batches of `input_ids` and `targets`, int64 `(micro_batch_size, T)`, T ≤ `block_size`.

    Args:
        corpus: the text, its tokenizer and its split; a file of `configs/data/` or single fields.
        block_size: context of a row in tokens, at most the model's `n_positions`.
        micro_batch_size: rows per device and forward pass. The global batch is this, times
            `trainer.accumulate_grad_batches`, times the number of devices.
        num_workers: processes that prepare batches; 0 prepares them in the training process.
        folder: where token stores are kept.
        seed: of the order of the training rows; follows `seed_everything` on the command line.
        rows: how documents become rows. `stream`: one after the other, cut every `block_size`
            tokens. `isolated`: the same, but documents do not see each other. `documents`: whole
            documents, isolated, as many as fit. `padded`: one document a row, rows of similar
            length together. The last two cut a document after `block_size` tokens. `None` takes
            `documents` for instruction records, and `stream` for text.
        allow_changed_corpus: continue a checkpoint on another text, tokenizer or split than it was
            made on.
    """

    store: TokenStore
    """The corpus' token store, there after `setup`."""

    tokenizer: PreTrainedTokenizerFast
    """The tokenizer that made the store's ids, there after `setup`."""

    def __init__(
        self,
        corpus: Corpus,
        block_size: PositiveInt = 256,
        micro_batch_size: PositiveInt = 16,
        num_workers: NonNegativeInt = 0,
        folder: str = "data",
        seed: int = 0,
        rows: Literal["stream", "isolated", "documents", "padded"] | None = None,
        allow_changed_corpus: bool = False,
    ) -> None:
        super().__init__()
        self.corpus = corpus
        self.block_size = block_size
        self.micro_batch_size = micro_batch_size
        self.num_workers = num_workers
        self.folder = Path(folder)
        self.seed = seed
        self.rows = rows or ("documents" if corpus.source.is_instructions else "stream")
        self.allow_changed_corpus = allow_changed_corpus
        self._train_loader: TrainLoader | None = None

    def prepare_data(self) -> None:
        open_or_build(self.folder, self.corpus)

    def setup(self, stage: str | None = None) -> None:
        if hasattr(self, "store"):
            return
        self.store = open_or_build(self.folder, self.corpus)
        self.tokenizer = self.store.tokenizer()
        if template := self.corpus.source.template:
            self.tokenizer.chat_template = CHAT_TEMPLATES[template]
        if (tokens := self.store.splits["train"].tokens) < self.block_size:
            raise InputError(
                f"--data.block_size {self.block_size}: the training split has only {tokens} tokens; "
                "add text or take a smaller block"
            )

    def rows_of(self, split: Split) -> Rows:
        """The rows of a split, in the order of the corpus."""
        store = self.store
        tokens, learned, ends = store.tokens(split), store.learned(split), store.document_ends(split)
        if self.rows in ("documents", "padded"):
            return DocumentRows(tokens, ends, self.block_size, learned, packed=self.rows == "documents")
        return PackedRows(tokens, self.block_size, learned, ends if self.rows == "isolated" else None)

    def train_dataloader(self) -> TrainLoader:
        rows: Rows | Subset = self.rows_of("train")
        if self.trainer and (batches := self.trainer.overfit_batches):  # pyright: ignore[reportAttributeAccessIssue]
            rows = Subset(rows, range(min(len(rows), batches * self.order_of(rows).samples_per_batch)))
        if (needed := self.order_of(rows).samples_per_step) > len(rows):
            raise InputError(
                f"--data.micro_batch_size {self.micro_batch_size}: an optimizer step, with accumulation and "
                f"devices, has {needed:,} rows; the training split has {len(rows):,}"
            )
        rank = self.trainer.global_rank if self.trainer else 0
        self._train_loader = TrainLoader(rows, self.order_of(rows), rank, self.num_workers)
        return self._train_loader

    def order_of(self, rows: Rows | Subset) -> RowOrder:
        """The order in which training takes these rows."""
        return RowOrder(
            num_rows=len(rows),
            micro_batch_size=self.micro_batch_size,
            num_ranks=self.trainer.world_size if self.trainer else 1,
            batches_per_step=self.trainer.accumulate_grad_batches if self.trainer else 1,
            seed=self.seed,
            lengths=rows.lengths if isinstance(rows, DocumentRows) and self.rows == "padded" else None,
        )

    @property
    def steps_ahead(self) -> int:
        """Optimizer steps that the data's position is ahead of those taken, after steps of another size."""
        return self._train_loader.steps_ahead if self._train_loader else 0

    @property
    def wait_seconds(self) -> float:
        """Time in which training waited for its next batch, so far."""
        return self._train_loader.wait_seconds if self._train_loader else 0.0

    def rows_of_step(self, step: int) -> list[tuple[int, str]]:
        """What an optimizer step of this training is computed from: the rows' numbers and text."""
        assert self._train_loader is not None, "train_dataloader() comes first"
        rows = self._train_loader.rows
        return [
            (row, str(self.tokenizer.decode(rows[row]["input_ids"])))  # pyright: ignore[reportIndexIssue]
            for row in self._train_loader.order.step_rows(step + self.steps_ahead)
        ]

    def val_dataloader(self) -> DataLoader:
        return self._in_order("validation")

    def test_dataloader(self) -> DataLoader:
        if "test" not in self.store.splits:
            raise InputError(
                "--data.corpus: there is no test split; name one with --data.corpus.test, or draw one with "
                "--data.corpus.test_fraction"
            )
        return self._in_order("test")

    def _in_order(self, split: Split) -> DataLoader:
        rows = self.rows_of(split)
        ranks = self.trainer.world_size if self.trainer else 1
        if len(rows) < ranks:
            raise InputError(
                f"--data.block_size {self.block_size}: the {split} split has {len(rows)} rows of that size, "
                f"fewer than the {ranks} devices; hold out more text, or take a smaller block"
            )
        mine = range(self.trainer.global_rank if self.trainer else 0, len(rows), ranks)
        return row_loader(rows, batches_in_order(mine, self.micro_batch_size), self.num_workers)

    def state_dict(self) -> dict[str, Any]:
        consumed = self._train_loader.samples_consumed if self._train_loader else 0
        return {
            "fingerprint": self.store.fingerprint,
            "samples_consumed": consumed,
            **self._order_of_data(),
        }

    def _order_of_data(self) -> dict[str, Any]:
        """What decides which rows an optimizer step sees, in types that safe loading takes."""
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        ranks = self.trainer.world_size if self.trainer else 1
        return {
            "seed": self.seed,
            "rows": self.rows,
            "block_size": int(self.block_size),
            "batches_per_step": accumulate,
            "rows_per_step": int(self.micro_batch_size) * ranks * accumulate,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to continue on another corpus or in another order.

        The position itself is the training loader's to restore.

        Raises:
            InputError: if the checkpoint was made on other text, tokenizer or split, or with another
                seed, `rows`, or `block_size`.
        """
        if self.trainer and self.trainer.state.fn != TrainerFn.FITTING:
            return  # a position means nothing there
        for option, name in _DECIDE_THE_ORDER.items():
            if state_dict[name] != (now := self._order_of_data()[name]):
                raise InputError(
                    f"{option}: {now} now, and {state_dict[name]} when the checkpoint was made; that decides "
                    "what its position in the data means: continue with the same"
                )
        if state_dict["fingerprint"] != self.store.fingerprint and not self.allow_changed_corpus:
            raise InputError(
                f"--data.corpus: the checkpoint was made on corpus {state_dict['fingerprint'][:16]}, this is "
                f"{self.store.fingerprint[:16]}: text, tokenizer or split changed. Continue as the run "
                "began with, or say --data.allow_changed_corpus true"
            )


def datamodule_of(trainer: Trainer) -> TextDataModule:
    """The trainer's data module, which Lightning leaves without a type."""
    return trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
