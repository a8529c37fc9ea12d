"""The command line `rl-framework`: commands parse, call the library and print."""

from rl_framework.cli.application import main

__all__ = ["main"]
