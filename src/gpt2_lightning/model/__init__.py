"""GPT-2 and its training step: architecture → NLL → optimizers → module."""
