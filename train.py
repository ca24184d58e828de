"""Train and evaluate GPT-2: `python train.py fit --config configs/experiment/pretrain_tiny.yaml`."""

import sys
from pathlib import Path

from gpt2_lightning.commandline.cli import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent / "configs" / "default.yaml"))
