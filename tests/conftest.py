"""What all tests share: one thread per process, no windows, Ctrl-C that works, the same examples on every run."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# Before anything imports torch: its networks are small here, and the test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

# A shell that runs the tests in the background has them ignore Ctrl-C, and every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("same on every run", deadline=None, derandomize=True)
settings.load_profile("same on every run")
