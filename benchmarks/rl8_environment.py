"""Where rl8 1.0.0 is measured: a virtual environment of its own, and a process in it that is held open.

The environment is made at the first use, by this interpreter's `venv` and its `pip`, and kept in `.rl8-venv` beside
this file.

    python -m benchmarks.rl8_environment
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent
FOLDER = HERE / ".rl8-venv"
REQUIREMENTS = ("rl8==1.0.0", "torch==2.13.0")
WORKER = HERE / "rl8_worker.py"


def interpreter() -> Path:
    """The Python that has rl8; made if it is not there yet.

    Raises:
        subprocess.CalledProcessError: It could not be installed.
    """
    python, made = FOLDER / "bin" / "python", FOLDER / ".made-of"
    wanted = "\n".join(REQUIREMENTS)
    if python.exists() and made.exists() and made.read_text() == wanted:
        return python
    print(f"Installing {' and '.join(REQUIREMENTS)} into {FOLDER} ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *REQUIREMENTS], check=True)
    made.write_text(wanted)
    return python


class Rl8:
    """rl8 in its own process; a context manager.

    Args:
        use_cuda: Whether it may see a GPU. rl8 1.0.0 takes one wherever it sees one, whatever device it is told.
    """

    def __init__(self, *, use_cuda: bool = False) -> None:
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        if not use_cuda:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        self._process = subprocess.Popen(
            [str(interpreter()), str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Rl8:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def build(self, settings: Mapping[str, Any], *, threads: int, recurrent: bool = False) -> dict[str, Any]:
        """Make an algorithm on rl8's discrete dummy environment.

        Args:
            settings: Fields of rl8's configuration.
            threads: Of torch.
            recurrent: Whether it is rl8's recurrent algorithm.
        """
        return self._ask("build", settings=dict(settings), threads=threads, recurrent=recurrent)

    def rate(self, iterations: int) -> float:
        """Transitions per second, collection and update together."""
        answer = self._ask("run", iterations=iterations)
        return float(answer["transitions"] / answer["seconds"])

    def export_update(self, path: Path) -> None:
        """Collect, update, and write what was collected and the weights before and after as .npz."""
        self._ask("export", path=str(path))

    def _ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": verb, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"rl8's process ended with {self._process.wait()} when it was asked to {verb}.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"rl8 failed to {verb}:\n{answer['error']}")
        return answer


if __name__ == "__main__":
    print(interpreter())
