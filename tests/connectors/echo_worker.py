"""A worker for the tests of `WorkerProcess`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from rl_framework.connectors.worker_loop import Answers, Kind, Refused, Unreachable, serve


class EchoWorker:
    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def do_echo(self, value: Any) -> Any:
        return value

    def do_note(self, value: Any) -> None:
        self.answers.note(value=value)

    def do_sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def do_die(self) -> None:
        sys.stdout.write("my last words\n")
        sys.stdout.flush()
        os._exit(3)

    def do_fail(self, kind: str) -> None:
        if kind == "unreachable":
            raise Unreachable("nobody there")
        raise Refused("never")

    def do_close(self) -> None:
        Path(os.environ["ECHO_CLOSED"]).write_text("closed")


def explain(error: BaseException) -> tuple[Kind, str]:
    return "unreachable" if isinstance(error, Unreachable) else "refused", str(error)


if __name__ == "__main__":
    answers = Answers()
    serve(EchoWorker(answers), answers, explain)
