"""Launch scripts: a function and a frozen configuration become a command line that trains, tunes and resumes."""

from rl_framework.launch.current_run import Run
from rl_framework.launch.script import run
from rl_framework.launch.search_space import tunable

__all__ = ["Run", "run", "tunable"]
