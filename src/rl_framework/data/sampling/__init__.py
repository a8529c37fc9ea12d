"""Index work on a replay: which rows, under which goals, over how many steps."""
