from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from rl_framework.connectors.process_lock import ProcessLock

HOLDER = """
import sys
from pathlib import Path
from rl_framework.connectors.process_lock import ProcessLock
with ProcessLock(Path(sys.argv[1])).held() as held:
    print(held, flush=True)
    sys.stdin.read()
"""


def test_one_holds_it_at_a_time(tmp_path: Path) -> None:
    first, second = ProcessLock(tmp_path / "deep" / "lock"), ProcessLock(tmp_path / "deep" / "lock")
    with first.held() as one, second.held() as two:
        assert (one, two) == (True, False)
    with second.held() as two:
        assert two


def test_it_excludes_other_processes_and_dies_with_its_holder(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with ProcessLock(tmp_path / "lock").held() as held:
            assert not held
        process.kill()
        with ProcessLock(tmp_path / "lock").held(patience=5.0) as held:
            assert held


def test_it_waits_as_long_as_told(tmp_path: Path) -> None:
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        with ProcessLock(tmp_path / "lock").held():
            holding.set()
            release.wait(5.0)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(5.0)
    with ProcessLock(tmp_path / "lock").held(patience=0.05) as held:
        assert not held
    threading.Timer(0.05, release.set).start()
    with ProcessLock(tmp_path / "lock").held(patience=5.0) as held:
        assert held
    thread.join()
