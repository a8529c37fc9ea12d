"""TD3+BC: TD3 for recordings, whose actor stays near the recorded actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own convention

from rl_framework.algorithms.updates.setting_checks import check_numbers
from rl_framework.algorithms.updates.td3 import TD3, TD3Config
from rl_framework.data.replay_batch import ReplayBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class TD3BCConfig(TD3Config):
    """Settings of TD3+BC, besides those of TD3.

    Attributes:
        value_weight: Weight of the value against the distance to recorded actions, once values are brought to
            magnitude 1: alpha in the paper.
    """

    kind: Any = "td3_bc"
    learning_rate: float = 3e-4
    actor_learning_rate: float = 3e-4
    value_weight: float = 2.5

    def __post_init__(self) -> None:
        TD3Config.__post_init__(self)
        check_numbers(self, from_zero=("value_weight",))

    def make(self) -> TD3BC:
        """The rule with these settings."""
        return TD3BC(self)


class TD3BC(TD3):
    """TD3 whose actor minimises its squared distance to the data less its value.

    Source: Fujimoto & Gu, A Minimalist Approach to Offline Reinforcement Learning, 2021
    (https://arxiv.org/abs/2106.06860), equations 3 to 5.
    """

    config: TD3BCConfig

    def __init__(self, config: TD3BCConfig | None = None) -> None:
        super().__init__(config or TD3BCConfig())

    def actor_loss(self, batch: ReplayBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Minus the value, in units of its magnitude, and the distance to recorded actions."""
        actions = self.actor(batch.observations)
        values = self.actor_values(batch.observations, self.smoothed(actions, self.config.policy_noise))
        scale = self.config.value_weight / values.detach().abs().mean().clamp(min=1e-8)
        cloning = F.mse_loss(actions, batch.actions)
        loss = self.weighed(cloning - scale * values.mean(), actions, batch)
        return loss, {"train/cloning_loss": cloning.detach()}
