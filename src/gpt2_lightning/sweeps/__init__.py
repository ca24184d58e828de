"""Hyperparameter sweeps: one file in W&B's format, run by Optuna."""
