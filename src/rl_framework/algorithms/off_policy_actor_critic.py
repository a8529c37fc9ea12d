"""Off-PAC: an actor and a critic that learn from what another policy, an older self, has done."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from rl_framework.algorithms.on_policy import Metrics
from rl_framework.algorithms.policy_gradient import PolicyGradient, known_values
from rl_framework.algorithms.policy_gradient_config import OffPACConfig
from rl_framework.algorithms.rollout_replay import RolloutReplay
from rl_framework.data.rollout import Rollout
from rl_framework.envs.tensor_env import TensorEnv
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import InvalidInputError
from rl_framework.functional.returns import vtrace
from rl_framework.nn.model import reset_rows
from rl_framework.rollouts.sampling import sample
from rl_framework.rollouts.scoring import Scores, score


class OffPAC(PolicyGradient):
    """A behaviour policy acts, what it does is kept with its log-probabilities, and a target policy learns from that.

    The box of the paper sums up temporal difference errors with eligibility traces, into which each step enters with
    its ratio of target to behaviour probability. Seen forwards, that is the lambda-return with ratios, and its
    difference to the value weighs the actor's gradient and moves the critic. `vtrace` without bounds computes it.
    The critic is a network and learns by squared errors; the paper's second set of weights, which corrects the
    gradient of linear critics, is left out.

    With memory, it is rebuilt by the policy that learns from what it was before the first step of the rollout.

    Attributes:
        behaviour: The policy that acts.
        replay: What it did.

    Source: Degris, White & Sutton, Off-Policy Actor-Critic, 2012 (https://arxiv.org/abs/1205.4839), algorithm 1 and
    section 2.3; keeping rollouts, and behaviour as an older self: rlx.
    """

    Config: ClassVar[type[OffPACConfig]] = OffPACConfig
    config: OffPACConfig

    def __init__(self, env: VectorEnv | TensorEnv, config: OffPACConfig | None = None) -> None:
        super().__init__(env, config)
        self.behaviour = deepcopy(self.model).requires_grad_(False)
        self.replay = RolloutReplay(self.config.replay_size)

    def learn(self, rollout: Rollout) -> Metrics:
        """Keep the rollout, and learn from some of those that are kept."""
        self.replay.add(replace(rollout, rewards=self.scaled_rewards(rollout)))
        recorded = self.replay.draw(self.config.rollouts_per_update, self.generator)
        return self.descend(*(self.off_policy_terms(one) for one in recorded))

    def off_policy_terms(self, recorded: Rollout) -> Tensor:
        """The terms of the loss of a rollout that another policy made. `[4]`"""
        now = score(self.model, recorded)
        values = known_values(now.values).detach()
        targets = self.targets(recorded, now)
        return self.terms(recorded, now, targets - values, targets)

    @torch.no_grad()
    def targets(self, recorded: Rollout, now: Scores) -> Tensor:
        """Lambda-returns with the ratio of the two policies in every step. `[T, B]`"""
        config, values = self.config, known_values(now.values)
        highest = inf if config.ratio_clip is None else config.ratio_clip
        return vtrace(
            recorded.rewards,
            values,
            self._next_values(recorded, values),
            recorded.terminated,
            recorded.truncated,
            log_prob=now.log_prob,
            behaviour_log_prob=_known_log_prob(recorded),
            gamma=config.gamma,
            rho_bar=highest,
            c_bar=highest,
            trace_lambda=config.gae_lambda,
        ).values

    def _next_values(self, recorded: Rollout, values: Tensor) -> Tensor:
        """What the critic says now of what followed each step.

        Of the true last observations of cut episodes, which are not kept, it is what was said when they were seen.
        """
        after = recorded.next
        if after is None or recorded.next_values is None:
            raise InvalidInputError("Off-PAC learns from whole rollouts as `sample` gives them, not from pieces.")
        last = self.model.values(after.observations, reset_rows(self.model, after.state, after.starts))
        following = torch.cat([values[1:], last.unsqueeze(0)])
        return torch.where(recorded.truncated, recorded.next_values, following)

    def _sample(self) -> Rollout:
        """Act as the behaviour policy, after it has caught up if that is due; into fresh memory, as it will be kept."""
        if self.updates % self.config.behaviour_update_interval == 0:
            self.behaviour.load_state_dict(self.model.state_dict())
        return sample(
            self.behaviour, self.environments, self.config.horizon, after=self.position, generator=self.generator
        )

    def state_dict(self) -> dict[str, Any]:
        """What every learner has, the behaviour policy and what it did."""
        behaviour = dict(self.behaviour.state_dict())
        return {**super().state_dict(), "behaviour": behaviour, "replay": self.replay.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; `begin` must follow before the next `collect`."""
        super().load_state_dict(dict(state))
        self.behaviour.load_state_dict(state["behaviour"])
        self.replay.load_state_dict(state["replay"], self.device)


def _known_log_prob(recorded: Rollout) -> Tensor:
    if recorded.log_prob is None:
        raise InvalidInputError(
            "Off-PAC needs the log-probabilities of the policy that acted; record them as `sample` does."
        )
    return recorded.log_prob
