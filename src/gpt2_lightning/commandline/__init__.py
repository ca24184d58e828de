"""The command line: options, checks across them, messages, and what a run needs around its trainer."""
