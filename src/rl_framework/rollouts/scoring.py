"""What a policy says of recorded actions: it need not be the one that acted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from rl_framework.core.trees import Tree, leaves_with_paths, select
from rl_framework.data.rollout import Rollout
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.nn.distributions import Distribution
from rl_framework.nn.model import Model, ModelOutput, flatten_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a policy says of the steps of a rollout, with the graph of gradients.

    Attributes:
        log_prob: Log-probability of the recorded actions. `[T, B]`
        entropy: Of the distributions over actions, in nats. `[T, B]`
        values: What the policy expects of the observations, None if it does not say. `[T, B]`
        extras: Whatever else the model computes per step. `[T, B, ...]`
        distribution: Over targets; T B rows, those of a step side by side.
    """

    log_prob: Tensor
    entropy: Tensor
    values: Tensor | None
    extras: Mapping[str, Tensor]
    distribution: Distribution


def score(policy: Model, rollout: Rollout) -> Scores:
    """Log-probability and entropy of recorded actions and the values of their observations, under any policy.

    A policy without memory takes all steps in one call. Memory is that of the rollout's first step, and is rebuilt
    from there with the policy's own weights; it is cleared where episodes begin. Gradients reach back through all
    steps: cut the rollout into sequences (`minibatches(sequence_length=...)`) to end them sooner. Steps that are not
    `valid` are scored like all others.

    Args:
        policy: What is asked.
        rollout: What was done.

    Raises:
        InvalidInputError: The policy has a memory, and the rollout has none for its first step.
        SpaceError: The policy's outputs do not fit the rollout.
    """
    output = _outputs(policy, rollout)
    log_prob, entropy = _log_prob_and_entropy(output.distribution, flatten_time(rollout.actions))
    shape = rollout.rewards.shape
    for name, numbers in (("log-probabilities", log_prob), ("entropies", entropy), ("values", output.value)):
        if numbers is not None and numbers.shape != (shape.numel(),):
            raise SpaceError(
                f"{type(policy).__name__} gave {name} of shape {list(numbers.shape)} for {shape.numel()} observations, "
                f"where [{shape.numel()}] was expected: one number per observation."
            )
    return Scores(
        log_prob=log_prob.view(shape),
        entropy=entropy.view(shape),
        values=None if output.value is None else output.value.view(shape),
        extras={name: numbers.view(*shape, *numbers.shape[1:]) for name, numbers in output.extras.items()},
        distribution=output.distribution,
    )


def _outputs(policy: Model, rollout: Rollout) -> ModelOutput:
    if policy.has_memory:
        return policy.unroll(rollout.observations, _first_state(policy, rollout), rollout.starts, rollout.masks)
    masks = None if rollout.masks is None else rollout.masks.flatten(0, 1)
    return policy.step(flatten_time(rollout.observations), None, masks)


def _first_state(policy: Model, rollout: Rollout) -> Tree:
    """Memory before the first step: the saved one if it is of this policy's form, else that of a beginning."""
    fresh = policy.initial_state(rollout.n_rows)
    saved = None if rollout.states is None else select(rollout.states, 0)
    if saved is not None and _form(saved) == _form(fresh):
        return saved
    if not bool(rollout.starts[0].all()):
        found = "of another form" if saved is not None else "missing"
        raise InvalidInputError(
            f"{type(policy).__name__} has a memory, and the one saved for the first step of the rollout is {found}. "
            "Score rollouts that begin with a reset, or where memory was saved (sample's state_interval)."
        )
    return fresh


def _form(state: Tree) -> list[object]:
    return [(path, tuple(leaf.shape)) for path, leaf in leaves_with_paths(state)]


def _log_prob_and_entropy(distribution: Distribution, targets: Tree) -> tuple[Tensor, Tensor]:
    both = getattr(distribution, "log_prob_and_entropy", None)
    if both is None:
        return distribution.log_prob(targets), distribution.entropy()
    log_prob, entropy = both(targets)
    return log_prob, entropy
