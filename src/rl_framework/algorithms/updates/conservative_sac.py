"""Conservative SAC, for recordings: critics do not believe in actions that were never tried."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_framework.algorithms.updates.repeating import repeated
from rl_framework.algorithms.updates.sac import SAC, SACConfig
from rl_framework.algorithms.updates.setting_checks import check_choice, check_counts, check_numbers
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.errors import InvalidInputError
from rl_framework.functional.off_policy_losses import range_gaps, soft_maximum_gaps


@dataclass(frozen=True, kw_only=True, slots=True)
class ConservativeSACConfig(SACConfig):
    """Settings of conservative SAC, besides those of SAC.

    Attributes:
        conservative_weight: Weight of the conservative term in the critics' loss.
        conservatism: What that term is: the `soft_maximum` of values over all actions less the value of the recorded
            one, as in conservative Q-learning; or how far random actions are from the lower end of
            `clip_target_range`, and recorded ones from its upper end: the `range`, as in mrl.
        n_candidates: For the soft maximum, the number of random actions, of actions of the policy, and of those that
            it would take in the next state; the range takes as many random ones.
    """

    kind: Any = "conservative_sac"
    actor_learning_rate: float = 1e-4
    backup_entropy: bool = False
    conservative_weight: float = 5.0
    conservatism: str = "soft_maximum"
    n_candidates: int = 10

    def __post_init__(self) -> None:
        SACConfig.__post_init__(self)
        check_numbers(self, from_zero=("conservative_weight",))
        check_counts(self, "n_candidates")
        check_choice(self, "conservatism", ("soft_maximum", "range"))
        if self.conservatism == "range" and self.clip_target_range is None:
            raise InvalidInputError(
                "conservatism='range' pulls values to the ends of clip_target_range, which is None; give it, such as "
                "(-50, 0), or take conservatism='soft_maximum'."
            )

    @property
    def value_range(self) -> tuple[float, float]:
        """The least and the greatest value there is."""
        low, high = self.clip_target_range or (-math.inf, math.inf)
        return low, high

    def make(self) -> ConservativeSAC:
        """The rule with these settings."""
        return ConservativeSAC(self)


class ConservativeSAC(SAC):
    """SAC with conservative critics.

    Source: Kumar et al., Conservative Q-Learning for Offline Reinforcement Learning, 2020
    (https://arxiv.org/abs/2006.04779); the other term: mrl.
    """

    config: ConservativeSACConfig

    def __init__(self, config: ConservativeSACConfig | None = None) -> None:
        super().__init__(config or ConservativeSACConfig())

    def critic_penalty(self, batch: ReplayBatch, outputs: Tensor) -> Tensor:
        """What it costs critics to value unseen actions highly. `[]`"""
        values = self.head.means(outputs)
        if self.config.conservatism == "range":
            gap = self._range_gap(batch, values)
        else:
            gap = self._soft_maximum_gap(batch, values)
        return self.config.conservative_weight * gap

    def _range_gap(self, batch: ReplayBatch, values: Tensor) -> Tensor:
        unseen = self._random_actions(batch)
        found = self.critics(repeated(batch.observations, self.config.n_candidates), unseen.flatten(0, 1))
        return range_gaps(self.head.means(found), values, limits=self.config.value_range)

    def _soft_maximum_gap(self, batch: ReplayBatch, values: Tensor) -> Tensor:
        candidates, log_densities = self._candidates(batch)
        n_rows, n_each, _ = candidates.shape
        found = self.head.means(self.critics(repeated(batch.observations, n_each), candidates.flatten(0, 1)))
        return soft_maximum_gaps(found.view(len(found), n_rows, n_each, -1), log_densities, values).mean()

    @torch.no_grad()
    def _candidates(self, batch: ReplayBatch) -> tuple[Tensor, Tensor]:
        """Actions `[N, 3 C, A]` and the logarithms of the densities they were drawn from `[N, 3 C]`."""
        uniform = self._random_actions(batch)
        log_density = torch.full_like(uniform[..., 0], -uniform.shape[-1] * math.log(2.0))
        actions, log_densities = [uniform], [log_density]
        for observations in (batch.observations, batch.next_observations):
            drawn, log_prob = self.actor.sample(repeated(observations, self.config.n_candidates), self.generator)
            actions.append(drawn.view_as(uniform))
            log_densities.append(log_prob.view_as(log_density))
        return torch.cat(actions, 1), torch.cat(log_densities, 1)

    def _random_actions(self, batch: ReplayBatch) -> Tensor:
        """Any actions, evenly. `[N, C, A]`"""
        n_rows, width = batch.actions.shape
        empty = batch.actions.new_empty(n_rows, self.config.n_candidates, width)
        return empty.uniform_(-1.0, 1.0, generator=self.generator)
