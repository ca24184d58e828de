"""Train and evaluate GPT-2: `python train.py fit --config configs/experiment/pretrain_tiny.yaml`."""

import gc
import sys
from pathlib import Path

if __name__ == "__main__":
    gc.disable()  # what is imported stays: looking for garbage in it takes a third of the start
    from gpt2_lightning.commandline.cli import main

    gc.freeze()
    gc.enable()
    sys.exit(main(Path(__file__).parent / "configs" / "default.yaml"))
