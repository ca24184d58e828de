"""The folder that a run leaves, and what is made from it."""
