"""Ending a run that no longer improves."""

from typing import Any

from lightning.pytorch.callbacks import EarlyStopping

from gpt2_lightning import metrics


class Patience(EarlyStopping):
    """Ends the run after so many validations in a row without a lower `val/nll`.

    Lightning's `EarlyStopping`, but a resumed run's own patience counts, not the checkpoint's.

    Args:
        validations: how many.
    """

    def __init__(self, validations: int) -> None:
        super().__init__(metrics.VAL_NLL, patience=validations)
        self._validations = validations

    @property
    def is_over(self) -> bool:
        """Whether it has ended the run."""
        return self.wait_count >= self.patience

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.patience = self._validations
