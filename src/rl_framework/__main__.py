"""`python -m rl_framework`: the command line."""

from __future__ import annotations

from rl_framework.cli import main

if __name__ == "__main__":
    main()
