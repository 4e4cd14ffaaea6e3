"""Worker processes that are killed at random: `python -m tests.chaos` prints what became of their runs."""
