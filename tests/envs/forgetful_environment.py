"""An environment of parts that cannot be captured in the middle of an episode, only at its start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from typing_extensions import override

from rl_framework.core.trees import Tree
from rl_framework.testing.environments import AnySpaceEnv


class ForgetfulEnv(AnySpaceEnv):
    """Keeps part of its state in a generator function, which nobody can look into."""

    def __init__(self) -> None:
        box = spaces.Box(-1, 1, (2,), np.float32)
        observed = spaces.Dict({"a": box, "b": spaces.Discrete(3)})
        super().__init__(observed, spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Discrete(2))), length=5)
        self.hidden: Iterator[int] = iter(())

    @override
    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Tree, dict[str, Any]]:
        self.hidden = (number for number in range(1000))
        return super().reset(seed=seed, options=options)
