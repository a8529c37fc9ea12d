"""How far a run of behavioural cloning has come, as it is written down to be resumed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rl_framework.algorithms.behavioural_cloning_config import BehaviouralCloningConfig
from rl_framework.algorithms.early_stopping import EarlyStopping, Weights
from rl_framework.core.trees import Tree, map_tree


@dataclass(kw_only=True, slots=True)
class CloningCourse:
    """How far a run has come.

    Attributes:
        stopping: The best weights so far.
        batches: Where the batches have got to, once they are detached.
        recent: Outputs and targets of the batches since the last metrics.
        n_recent: Their number of rows.
        validated_at: The value of `timesteps` at the last validation.
        set_aside: The present weights, while the network has the best ones.
    """

    stopping: EarlyStopping
    batches: dict[str, int] | None = None
    recent: list[tuple[Tensor, Tree]] = field(default_factory=list)
    n_recent: int = 0
    validated_at: int | None = None
    set_aside: Weights | None = None

    @property
    def epochs_begun(self) -> int:
        """Number of the epoch with which another run begins, so that its order is a new one."""
        return 0 if self.batches is None else self.batches["epoch"] + 1

    def to_tree(self, batches: dict[str, int] | None) -> dict[str, Any]:
        """As a plain tree."""
        return {
            "stopping": self.stopping.state_dict(),
            "batches": batches,
            "recent": join_batches(self.recent) if self.recent else None,
            "n_recent": self.n_recent,
            "validated_at": self.validated_at,
            "set_aside": self.set_aside,
        }

    @classmethod
    def from_tree(cls, tree: dict[str, Any], config: BehaviouralCloningConfig, device: torch.device) -> CloningCourse:
        """Take back what `to_tree` gave."""
        stopping = EarlyStopping(config.patience, config.min_improvement)
        stopping.load_state_dict(tree["stopping"])
        rest = {name: tree[name] for name in ("batches", "n_recent", "validated_at", "set_aside")}
        recent = [] if tree["recent"] is None else [map_tree(lambda tensor: tensor.to(device), tree["recent"])]
        return cls(stopping=stopping, recent=recent, **rest)


def join_batches(parts: list[tuple[Tensor, Tree]]) -> tuple[Tensor, Tree]:
    """Outputs and targets of several batches in one, row after row."""
    joined: tuple[Tensor, Tree] = map_tree(lambda *tensors: torch.cat(tensors), *parts)
    return joined
