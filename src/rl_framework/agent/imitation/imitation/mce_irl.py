"""Maximum causal entropy IRL in environments that tell their dynamics as tables.

Source: Ziebart 2010, chapters 9 and 10, http://www.cs.cmu.edu/~bziebart/publications/thesis-bziebart.pdf
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from imitation.algorithms.mce_irl import MCEIRL, mce_partition_fh
from imitation.rewards.reward_nets import BasicRewardNet, RewardNet

from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.agent.imitation.imitation.rows import LearnerPlan
from rl_framework.agent.imitation.imitation.tabular_model import (
    FloatArray,
    States,
    TabularModel,
    TimedPolicy,
    feature_space,
    read_model,
)
from rl_framework.agent.imitation_learning_agent import Lessons
from rl_framework.callbacks.run import TrainingRun
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError, NotTrainedError
from rl_framework.export.onnx import OnnxNetwork

STATES_ALONE = {"use_action": False, "use_next_state": False, "use_done": False}
TRAINER_PARAMETERS = ("optimizer_cls", "optimizer_kwargs", "discount", "linf_eps", "grad_l2_eps")


class MCEIRLLearner:
    """A reward of states, and the policy that is planned for it.

    One step is one iteration: plan for the current reward, count how often each state would be visited, and move the
    reward towards the expert's counts. A run ends early once they agree within `linf_eps`, or the gradient is smaller
    than `grad_l2_eps`. The environment is not played: its tables are enough.
    """

    def __init__(self, plan: LearnerPlan) -> None:
        self._plan = plan
        self._features = feature_space(plan.observation_space)
        self._reward_net = _build_reward_net(plan, self._features)
        self._trainer: MCEIRL | None = None
        self._model: TabularModel | None = None
        self._states: States | None = None
        self._rewards: npt.NDArray[Any] | None = None
        self._probabilities: FloatArray | None = None
        self._optimizer: dict[str, Any] | None = None
        self._timesteps = 0

    @property
    def policy(self) -> TimedPolicy:
        """What acts: by another table at each step of an episode."""
        if self._states is None:
            raise NotTrainedError("This agent was never trained, so it has no policy. Call train(...) first.")
        plan = self._plan
        action_space: Any = plan.action_space
        return TimedPolicy(plan.observation_space, action_space, self._states, self._planned())

    @property
    def timesteps(self) -> int:
        """Iterations in its life."""
        return self._timesteps

    def attach(self, lessons: Lessons) -> None:
        """Read the environment's tables, and count the states that the demonstrations visit."""
        if lessons.episodes is None:
            raise InvalidInputError("MCE IRL needs demonstrations; give it an episode_sequence.")
        model = read_model(self._plan.venv.env)
        parameters = self._plan.own(*TRAINER_PARAMETERS)
        discount = float(parameters.get("discount", 1.0))
        occupancy = state_occupancy(lessons.episodes, model, discount)
        self._trainer = MCEIRL(
            occupancy, model.pomdp, self._reward_net, self._plan.rng, **parameters, log_interval=None,
            custom_logger=RunLogger(),
        )  # fmt: skip
        if self._optimizer is not None:
            self._trainer.optimizer.load_state_dict(self._optimizer)
        self._model, self._states = model, model.states

    def begin(self, resumption: Resumption | None) -> None:
        """Open episodes, which nobody plays: a checkpoint says where environments are."""
        if resumption is None:
            self._plan.venv.reset()

    def learn(self, run: TrainingRun) -> None:
        """Iterate until the run's target, or until the expert is matched."""
        trainer, model = self._ready()
        features = torch.as_tensor(
            model.pomdp.observation_matrix, dtype=self._reward_net.dtype, device=self._reward_net.device
        )
        self._reward_net.train()
        run.at_boundary(self._timesteps)
        while self._timesteps < run.target_timesteps:
            self._rewards, visits = trainer._train_step(features)
            self._probabilities = None
            self._timesteps += 1
            difference = float(np.max(np.abs(trainer.demo_state_om - visits)))
            gradient = self._gradient_norm()
            run.record_metrics({"train/occupancy_difference": difference, "train/gradient_norm": gradient})
            if difference <= trainer.linf_eps or gradient <= trainer.grad_l2_eps:
                run.stop("the expert's state occupancy is matched")
            run.at_boundary(self._timesteps)

    def detach(self) -> None:
        """Let go of the environment's tables, once the policy is planned."""
        if self._rewards is not None:
            self._planned()
        if self._trainer is not None:
            self._optimizer = self._trainer.optimizer.state_dict()
        self._trainer = self._model = None

    def networks(self) -> Mapping[str, torch.nn.Module]:
        """The reward network; the policy is a table."""
        return {"reward": self._reward_net}

    def state(self) -> dict[str, Any]:
        """The planned policy, the rewards that it was planned for, the optimiser and the count."""
        trainer = self._trainer
        return {
            "timesteps": self._timesteps,
            "rewards": self._rewards,
            "probabilities": None if self._states is None else self._planned(),
            "observations": None if self._states is None else self._states.observations,
            "optimizer": self._optimizer if trainer is None else trainer.optimizer.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._timesteps = state["timesteps"]
        self._rewards, self._probabilities = state["rewards"], state["probabilities"]
        self._states = None if state["observations"] is None else States(state["observations"])
        self._optimizer = state["optimizer"]

    def onnx_network(self) -> OnnxNetwork:
        """There is none.

        Raises:
            InvalidInputError: Always.
        """
        raise InvalidInputError("MCE IRL acts by tables and not by a network, which is what an .onnx file holds.")

    def _planned(self) -> FloatArray:
        """The policy for the rewards of the latest iteration; one that chooses evenly before the first. `[T, S, A]`"""
        if self._probabilities is None:
            _, model = self._ready()
            pomdp: Any = model.pomdp
            if self._rewards is None:
                shape = (pomdp.horizon, pomdp.state_dim, pomdp.action_dim)
                self._probabilities = np.full(shape, 1 / pomdp.action_dim)
            else:
                discount = float(self._plan.parameters.get("discount", 1.0))
                self._probabilities = mce_partition_fh(pomdp, reward=self._rewards, discount=discount)[2]
        return self._probabilities

    def _ready(self) -> tuple[MCEIRL, TabularModel]:
        if self._trainer is None or self._model is None:
            raise NotTrainedError("MCE IRL has no environment at the moment; `train` or `resume` gives it one.")
        return self._trainer, self._model

    def _gradient_norm(self) -> float:
        gradients = [part.grad for part in self._reward_net.parameters() if part.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))


def state_occupancy(episodes: EpisodeSequence, model: TabularModel, discount: float = 1.0) -> FloatArray:
    """How often the expert is in each state during an episode, on average; discounted. `[S]`

    Raises:
        InvalidInputError: An episode is not as long as the environment's horizon.
        SpaceError: An observation is of no state.
    """
    horizon = int(model.pomdp.horizon or 0)
    others = np.flatnonzero(np.asarray(episodes.lengths) != horizon)
    if len(others):
        raise InvalidInputError(
            f"MCE IRL compares visits over the environment's whole horizon of {horizon} steps; demonstration "
            f"{others[0]} has {episodes.lengths[others[0]]}. Give whole episodes."
        )
    occupancy = np.zeros(len(model.states))
    weights = discount ** np.arange(horizon + 1)
    for episode in episodes:
        np.add.at(occupancy, model.states.numbers(episode.observations), weights)
    return occupancy / len(episodes)


def _build_reward_net(plan: LearnerPlan, features: Any) -> RewardNet:
    """A reward of states alone, whatever the network's own defaults are."""
    if plan.reward_net is None:
        raise InvalidInputError(f"{plan.row.name} has no reward network.")
    made = plan.reward_net
    if issubclass(made.net_class, BasicRewardNet):
        refused = [name for name in STATES_ALONE if made.parameters.get(name)]
        if refused:
            raise InvalidInputError(f"MCE IRL learns a reward of states alone; it cannot take {', '.join(refused)}.")
        made = replace(made, parameters={**made.parameters, **STATES_ALONE})
    return made.build(features, plan.action_space)
