"""Goals that a learner sets itself: achieved before, within reach, and worth going to.

Source: Pitis et al., Maximum Entropy Gain Exploration for Long Horizon Multi-goal Reinforcement Learning, 2020
(https://arxiv.org/abs/2007.02832).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from rl_framework.algorithms.goal_selection.candidates import Candidates, choose
from rl_framework.algorithms.goal_selection.cutoff import Cutoff
from rl_framework.algorithms.goal_selection.goal_memory import GoalMemory
from rl_framework.algorithms.parts import Experience, Metrics, Part, Workshop
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.algorithms.updates.base import UpdateRule
from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL, check_goal_space
from rl_framework.core.trees import Tree, map_tree, select
from rl_framework.data.sampling.replay_sampler import REACHED
from rl_framework.errors import InvalidInputError
from rl_framework.functional.kernel_density import KernelDensity, Standardization

if TYPE_CHECKING:
    import gymnasium as gym

    from rl_framework.algorithms.goal_selection.goal_configs import GoalSelectionConfig

LARGEST_LOG_WEIGHT = 1e8
OUT_OF_BOUNDS = 1e9


class GoalSelection(Part):
    """Chooses, wherever an episode begins, among goals that were achieved before.

    The learner acts on `relabel(observations)`, and what it then hands to `process` has rewards by the goals pursued,
    -1 per step and 0 at the goal, and in `following` the goals of the environments. It has to stand behind the
    replay, from which goals are drawn. When new episodes begin everywhere without a step, it calls `begin`.

    Args:
        config: Settings.
    """

    needs: ClassVar[tuple[type[Part], ...]] = (ReplayPart, UpdateRule)

    def __init__(self, config: GoalSelectionConfig) -> None:
        self.config = config
        self.score = config.make_score()
        self.mixing = config.make_mixing()
        self.cutoff: Cutoff | None = None
        self._pursued: Tensor | None = None
        self._n_reached = torch.zeros(0)
        self._report: dict[str, float] = {}

    def set_up(self, workshop: Workshop) -> None:
        """Find the replay and the rule; what is pursued and learned stays.

        Raises:
            SpaceError: The environments have no goals.
            InvalidInputError: Bounds are those of other goals.
        """
        check_goal_space(workshop.spec.observation_space, who="The selection of goals")
        self._check_bounds(workshop.spec.observation_space[DESIRED_GOAL])  # type: ignore[index]  # it is a Dict
        self._generator = workshop.generator
        self._rule = workshop.parts.get(UpdateRule)  # type: ignore[type-abstract]  # it is but looked for
        self._memory = GoalMemory(workshop.parts.get(ReplayPart))
        self._device = workshop.device
        self.score.set_up(self._memory, workshop)
        if self.mixing is not None:
            self.mixing.set_up(self._memory, workshop)
        if self.score.uses_cutoff and self.cutoff is None:
            self.cutoff = Cutoff(
                self.config.initial_cutoff,
                gamma=workshop.gammas[-1],
                episode_steps=self.config.episode_steps,
                thresholds=self.config.cutoff_thresholds,
            )

    @property
    def pursued(self) -> Tensor:
        """The goals that are pursued. `[B, *goal]`

        Raises:
            InvalidInputError: There are none before the first observations.
        """
        if self._pursued is None:
            raise InvalidInputError(
                "No goals are pursued yet; call begin(observations) or relabel(observations) first."
            )
        return self._pursued

    @property
    def extra_epsilon(self) -> Tensor | None:
        """By how much random actions become likelier where the goal is reached already; None if nowhere. `[B]`

        Source: Ecoffet et al., First Return, Then Explore, 2021 (https://doi.org/10.1038/s41586-020-03157-9).
        """
        if self.config.go_explore == 0.0 or self._pursued is None:
            return None
        return self._n_reached * self.config.go_explore

    def begin(self, observations: Tree) -> None:
        """Pursue the environments' own goals: new episodes begin everywhere.

        Args:
            observations: Of the environments. `[B, ...]` per leaf
        """
        self._pursued = observations[DESIRED_GOAL].clone()
        self._n_reached = torch.zeros(len(self._pursued), device=self._pursued.device)
        self.score.begin()

    def relabel(self, observations: Tree) -> Tree:
        """Observations with the goals that are pursued instead of the environments'. `[B, ...]` per leaf"""
        if self._pursued is None or len(self._pursued) != len(observations[DESIRED_GOAL]):
            self.begin(observations)
        return {**observations, DESIRED_GOAL: self.pursued.clone()}

    @torch.no_grad()
    def process(self, experience: Experience) -> None:
        """See which goals are reached, and choose new ones where episodes are over."""
        reached, ended = experience.rewards > REACHED, experience.ended
        self._n_reached = self._n_reached + reached
        self.score.watch(experience, self._n_reached > 0)
        if self.config.overshoot > 0.0:
            self._overshoot(experience, reached & ~ended)
        if bool(ended.any()):
            self._begin_anew(experience, ended.nonzero().squeeze(1))

    def optimize(self, step: int) -> Metrics:
        """Improve what weighs goals, and tell how the last choices went."""
        self.score.learn(step)
        if self.mixing is not None:
            self.mixing.learn(step)
        return self._report

    def _check_bounds(self, space: gym.Space[Any]) -> None:
        width, allowed = torch.Size(space.shape or ()).numel(), self.config.allowed
        if allowed is not None and len(allowed[0]) != width:
            raise InvalidInputError(
                f"allowed has bounds of {len(allowed[0])} numbers, and the environments have goals of {width}; give "
                "one bound for each number of a goal."
            )

    def _begin_anew(self, experience: Experience, rows: Tensor) -> None:
        """Choose goals for environments whose episode is over."""
        observations = select(experience.following, rows)
        successes = (self._n_reached[rows] > 0).tolist()
        goals = observations[DESIRED_GOAL]
        if len(self._memory) > 0:
            goals = self._choose(observations, goals, successes)
        self._pursued = self.pursued.index_copy(0, rows, goals)
        self._n_reached = self._n_reached.index_fill(0, rows, 0.0)

    def _choose(self, observations: Tree, environment_goals: Tensor, successes: list[bool]) -> Tensor:
        """Goals for environments at the beginning of an episode. `[E, *goal]`"""
        n_envs, n = len(environment_goals), self.config.n_candidates
        drawn = self._memory.achieved(n_envs * n, self._generator).reshape(n_envs, n, -1)
        own = environment_goals.reshape(n_envs, 1, -1)
        values = self._values(observations, torch.cat([drawn, own.to(drawn)], 1))
        candidates = Candidates(goals=drawn, values=values[:, :n], observations=observations)
        chosen = self._pick(candidates)
        goals = torch.take_along_dim(drawn, chosen[:, None, None], 1).reshape(environment_goals.shape)
        is_own = self._keeps_own(values[:, n])
        self._tell(candidates, chosen, is_own, successes)
        return torch.where(is_own.reshape(-1, *[1] * (goals.dim() - 1)), environment_goals, goals.to(environment_goals))

    def _pick(self, candidates: Candidates) -> Tensor:
        """The best candidate for each environment. `[E]`"""
        log_weights = self.score.log_weights(candidates).double()
        log_weights = log_weights.nan_to_num(-LARGEST_LOG_WEIGHT).clamp(-LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT)
        if self.config.desired_bonus > 1.0:
            log_weights = log_weights + self._is_asked_for(candidates) * math.log(self.config.desired_bonus)
        if self.config.allowed is not None:
            low, high = (torch.tensor(bound, device=self._device) for bound in self.config.allowed)
            is_out = ((candidates.goals < low) | (candidates.goals > high)).any(2)
            log_weights = log_weights - OUT_OF_BOUNDS * is_out
        cutoff = None if self.cutoff is None else self.cutoff.value
        generator = self._generator if self.config.is_random else None
        return choose(log_weights, candidates.values, cutoff, generator)

    def _values(self, observations: Tree, goals: Tensor) -> Tensor:
        """What the policy expects to earn on the way to goals. `[E, N, G]` to `[E, N]`"""
        n_envs, n = goals.shape[:2]
        repeated = map_tree(lambda leaf: leaf.repeat_interleave(n, 0), observations)
        wanted = goals.reshape(repeated[DESIRED_GOAL].shape).to(repeated[DESIRED_GOAL])
        return self._rule.values({**repeated, DESIRED_GOAL: wanted}).reshape(n_envs, n)

    def _is_asked_for(self, candidates: Candidates) -> Tensor:
        """Whether environments ask for such goals, within 0.2 standard deviations of the candidates. `[E, N]`"""
        asked = self._memory.environment_goals(self.config.n_desired, self._generator)
        units = Standardization.of(candidates.flat)
        density = KernelDensity.fit(asked, bandwidth=0.2, kernel="tophat", standardization=units)
        return density.log_density(candidates.flat).isfinite().reshape(candidates.values.shape)

    def _keeps_own(self, values: Tensor) -> Tensor:
        """Where the environment's own goal is pursued, given its values `[E]`. `[E]`, bool"""
        uniform = torch.rand(2, len(values), generator=self._generator, device=values.device)
        is_kept = uniform[0] < self.config.environment_share
        if self.mixing is None:
            return is_kept
        is_mixed = uniform[1] <= self.mixing.share()
        return is_kept | (is_mixed if self.cutoff is None else is_mixed & (values >= self.cutoff.value))

    def _tell(self, candidates: Candidates, chosen: Tensor, is_own: Tensor, successes: list[bool]) -> None:
        """Adapt the cut-off, and note how the choice went."""
        values = candidates.values
        picked = values.gather(1, chosen[:, None]).mean()
        lowest, mean, share = torch.stack([values.min(), picked, is_own.float().mean()]).tolist()
        self._report = {
            "goals/value": mean,
            "goals/success_rate": sum(successes) / len(successes),
            "goals/environment_share": share,
        }
        if self.cutoff is not None:
            self.cutoff.take(successes, lowest)
            self._report["goals/cutoff"] = self.cutoff.value

    def _overshoot(self, experience: Experience, reached: Tensor) -> None:
        """Move goals that were just reached further on in the direction of the last step, by chance."""
        uniform = torch.rand(len(reached), generator=self._generator, device=reached.device)
        rows = (reached & (uniform < self.config.overshoot)).nonzero().squeeze(1)
        if len(rows) == 0:
            return
        observations = select(experience.next_observations, rows)
        moved = observations[ACHIEVED_GOAL] - select(experience.observations, rows)[ACHIEVED_GOAL]
        goals, step = self.pursued[rows].flatten(1), moved.flatten(1).to(self.pursued)
        stretch = torch.rand(len(rows), 1, generator=self._generator, device=goals.device) * 3.0 - 1.5
        further = torch.stack([goals, goals + step, goals + stretch * step], 1)
        candidates = Candidates(goals=further, values=self._values(observations, further), observations=observations)
        chosen = torch.take_along_dim(further, self._pick(candidates)[:, None, None], 1)
        self._pursued = self.pursued.index_copy(0, rows, chosen.reshape(self.pursued[rows].shape))

    def state_dict(self) -> dict[str, Any]:
        """What is pursued, how that goes, and what was learned about goals."""
        return {
            "pursued": self._pursued,
            "n_reached": self._n_reached,
            "cutoff": None if self.cutoff is None else self.cutoff.state_dict(),
            "score": self.score.state_dict(),
            "mixing": None if self.mixing is None else self.mixing.state_dict(),
            "report": dict(self._report),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        pursued = state["pursued"]
        self._pursued = None if pursued is None else pursued.to(self._device, copy=True)
        self._n_reached = state["n_reached"].to(self._device, copy=True)
        if self.cutoff is not None:
            self.cutoff.load_state_dict(state["cutoff"])
        self.score.load_state_dict(state["score"])
        if self.mixing is not None:
            self.mixing.load_state_dict(state["mixing"])
        self._report = dict(state["report"])
