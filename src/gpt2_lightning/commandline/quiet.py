"""What the libraries would say, left out where a user can do nothing about it."""

import logging
import warnings


def quiet() -> None:
    """Silence progress bars, start-up lines and warnings that are of the libraries' own making."""
    from transformers.utils.logging import disable_progress_bar

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    disable_progress_bar()  # for writing a file
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each of its tries, before our one message
    warnings.filterwarnings("ignore", ".*does not have many workers.*")  # tokens are read as they are
    warnings.filterwarnings("ignore", ".*is smaller than the logging interval.*")
    warnings.filterwarnings("ignore", module=r"peft\..*")  # of its own defaults and its way with transformers
    # PEFT 0.21 asks transformers for what it is about to take away
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*")
    # Lightning 2.6.6 with torch 2.13: remove with the Lightning release that mends it
    warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\).*")
