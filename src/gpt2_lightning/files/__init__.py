"""Reading and writing files: whole or not there."""
