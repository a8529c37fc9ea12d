"""rl8 in a process and an environment of its own: told what to do by lines of JSON, it answers by lines of JSON.

This file runs where rl8 is installed, which is not where this library is; see `rl8_environment.py`. What it is told:

    {"do": "build", "recurrent": false, "settings": {...}, "threads": 2}    -> {"parameters": 133379, "device": "cpu"}
    {"do": "run", "iterations": 3}                                          -> {"seconds": 1.5, "transitions": 6144}
    {"do": "export", "path": "update.npz"}                                  -> {"transitions": 2048}
"""

from __future__ import annotations

import io
import json
import sys
import time
import traceback
from contextlib import redirect_stderr
from typing import Any

import numpy as np
import torch

with redirect_stderr(io.StringIO()):  # mlflow, which it imports, warns of rl8's type hints
    from rl8 import AlgorithmConfig, RecurrentAlgorithmConfig  # type: ignore[import-not-found]  # in its environment
    from rl8.env import DiscreteDummyEnv  # type: ignore[import-not-found]  # likewise


class Worker:
    """Holds one rl8 algorithm on its discrete dummy environment."""

    def __init__(self) -> None:
        self.algorithm: Any = None

    def build(self, settings: dict[str, Any], threads: int, *, recurrent: bool = False) -> dict[str, Any]:
        """Make an algorithm; it is used once, so that what happens only once is not timed."""
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.algorithm = None
        config = RecurrentAlgorithmConfig if recurrent else AlgorithmConfig
        self.algorithm = config(**settings).build(DiscreteDummyEnv)
        model = self.algorithm.policy.model
        n_parameters = sum(parameter.numel() for parameter in model.parameters())
        return {"parameters": n_parameters, "device": str(next(model.parameters()).device)}

    def run(self, iterations: int) -> dict[str, Any]:
        """Collect and learn so many times."""
        begin = _now()
        for _ in range(iterations):
            self.algorithm.collect()
            self.algorithm.step()
        hparams = self.algorithm.hparams
        return {"seconds": _now() - begin, "transitions": iterations * hparams.num_envs * hparams.horizon}

    def export(self, path: str) -> dict[str, Any]:
        """Collect, learn once, and write what was collected and the weights before and after."""
        self.algorithm.collect()
        collected = {name: self.algorithm.buffer[name].numpy().copy() for name in _COLUMNS}
        before = self._weights("before")
        self.algorithm.step()
        np.savez(path, **collected, **before, **self._weights("after"))
        return {"transitions": int(collected["rewards"][:, :-1].size)}

    def _weights(self, prefix: str) -> dict[str, Any]:
        model = self.algorithm.policy.model
        return {f"{prefix}_{name}": weight.detach().numpy().copy() for name, weight in model.named_parameters()}


_COLUMNS = ("obs", "actions", "logp", "values", "rewards")


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception:  # noqa: BLE001  (whatever it is, who asked shall read it)
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
