"""What the episode trainer asks of a model: how likely the recorded actions of whole episodes were.

An episode may be any value. Only the model looks into it, so nothing here knows environments, spaces or tensors of
observations. What models say lies packed: one episode behind the other, without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rl_framework.errors import InvalidInputError, RLFrameworkError
from rl_framework.nn.distribution import Distribution

HINT = "Mend the model's score_episodes."


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeScores:
    """What a model says of E episodes of T_1 to T_E actions, one behind the other: N actions, S = N + E observations.

    Attributes:
        encodings: What values are told from: one row for every observation, the one after the last action included.
            `[S, d]`
        log_prob: Log-likelihood of the recorded actions under the model as it is now. `[N]`
        lengths: Number of actions of each episode.
        distribution: Over actions, one row each, for exact divergences and entropies; None if they are to be
            estimated from `log_prob`.
        rewards: Where they are the model's own business, as with a reward model: in place of those that came with the
            episodes. `[N]`
        valid: False for steps that were not the policy's choice, such as the tokens of a prompt: they are left out as
            if the episode did not have them. All count if None. `[N]`
        loss: A further loss of the model's own, a mean over the episodes; None for none. `[]`
    """

    encodings: Tensor
    log_prob: Tensor
    lengths: tuple[int, ...]
    distribution: Distribution | None = None
    rewards: Tensor | None = None
    valid: Tensor | None = None
    loss: Tensor | None = None


class EpisodeModel(Protocol):
    """Anything that can tell how likely recorded actions were; to be trained, also an `nn.Module`.

    A model may also have a method `cut_episode(episode, start, stop)`. It gives a piece of an episode, of the actions
    from `start` to `stop - 1` and the observations from `start` to `stop`, which `score_episodes` takes like an
    episode. A model with memory makes pieces that remember what came before. Without it, episodes cannot be divided,
    and the longest one must fit into a minibatch.

    Attributes:
        encoding_size: Width d of the encodings.
    """

    encoding_size: int

    def score_episodes(self, episodes: Sequence[Any]) -> EpisodeScores:
        """Encodings and log-likelihoods, differentiable by the model's parameters.

        Args:
            episodes: At least one, exactly as they were given to the trainer, or as `cut_episode` made them.
        """
        ...


def score_checked(
    model: EpisodeModel, episodes: Sequence[Any], expected_lengths: Sequence[int | None], names: Sequence[str]
) -> EpisodeScores:
    """What a model says of some episodes, if it has a shape that can be learned from.

    Args:
        model: What is asked.
        episodes: Of what.
        expected_lengths: Number of actions of each; None where only the model knows.
        names: What to call each of them in a message, e.g. `episode 17`.

    Raises:
        InvalidInputError: Something has the wrong length or size; the episode is named.
    """
    scores = model.score_episodes(episodes)
    try:
        check_scores(model, scores, expected_lengths, names)
    except InvalidInputError:
        if len(episodes) > 1:
            _blame(model, episodes, expected_lengths, names)
        raise
    return scores


def check_scores(
    model: EpisodeModel, scores: EpisodeScores, expected_lengths: Sequence[int | None], names: Sequence[str]
) -> None:
    """Refuse scores whose lengths do not fit each other, the model or what is known of the episodes.

    Args:
        model: Whose `encoding_size` holds.
        scores: What it said.
        expected_lengths: Number of actions of each episode; None where only the model knows.
        names: What to call each of them in a message.

    Raises:
        InvalidInputError: They do not fit. The message names the episode, or all of them where several are packed and
            only their sum is known to be wrong.
    """
    _check_lengths(scores.lengths, expected_lengths, names)
    n_steps, n_episodes = sum(scores.lengths), len(names)
    _check_rows("log_prob", scores.log_prob, (n_steps,), "one number for each action", names)
    encodings = (n_steps + n_episodes, model.encoding_size)
    what = "one row for each observation, the one after the last action included, of model.encoding_size numbers"
    _check_rows("encodings", scores.encodings, encodings, what, names)
    for name, numbers in (("rewards", scores.rewards), ("valid", scores.valid)):
        if numbers is not None:
            _check_rows(name, numbers, (n_steps,), "one entry for each action", names)
    if scores.valid is not None and scores.valid.dtype is not torch.bool:
        raise InvalidInputError(f"valid must be a tensor of bool, got {scores.valid.dtype}. {HINT}")
    if scores.loss is not None and scores.loss.numel() != 1:
        raise InvalidInputError(f"loss must be a single number, got {list(scores.loss.shape)}. {HINT}")


def check_finite(scores: EpisodeScores, names: Sequence[str]) -> None:
    """Refuse log-likelihoods and encodings that are infinite or not numbers. It waits for the device.

    Args:
        scores: What a model said, of the right lengths.
        names: What to call each of the episodes in a message.

    Raises:
        InvalidInputError: There is one; the message names episode and step.
    """
    wrong = ~torch.isfinite(scores.log_prob.detach())
    if scores.valid is not None:
        wrong &= scores.valid
    if bool(wrong.any()):
        step, name = _place(int(wrong.nonzero()[0, 0]), scores.lengths, names)
        value = scores.log_prob.detach()[wrong][0].item()
        raise InvalidInputError(
            f"The log-likelihood of the action at step {step} of {name} is {value}; expected a finite number. The "
            "model must be able to take every recorded action: look at its action masks and bounds, and for NaN in "
            "observations. Steps that were not its choice can be excluded by EpisodeScores.valid."
        )
    lost = ~torch.isfinite(scores.encodings.detach()).all(1)
    if bool(lost.any()):
        row, name = _place(int(lost.nonzero()[0, 0]), [length + 1 for length in scores.lengths], names)
        raise InvalidInputError(
            f"The encoding of observation {row} of {name} holds NaN or infinite numbers. Look for them in what is "
            "observed, and in the model's weights."
        )


def _blame(
    model: EpisodeModel, episodes: Sequence[Any], expected_lengths: Sequence[int | None], names: Sequence[str]
) -> None:
    """Raise for the first of several episodes that is wrong by itself."""
    for episode, length, name in zip(episodes, expected_lengths, names, strict=True):
        with torch.no_grad():
            alone = model.score_episodes([episode])
        check_scores(model, alone, [length], [name])


def _check_lengths(lengths: Sequence[int], expected: Sequence[int | None], names: Sequence[str]) -> None:
    if len(lengths) != len(names):
        raise InvalidInputError(
            f"score_episodes was given {len(names)} episodes and told the lengths of {len(lengths)}. {HINT}"
        )
    for length, wanted, name in zip(lengths, expected, names, strict=True):
        if length < 1:
            raise InvalidInputError(f"{name} has {length} actions according to the model; at least 1 is needed.")
        if wanted is not None and length != wanted:
            raise InvalidInputError(
                f"{name} has {wanted} actions, and the model told of {length}. Encodings, actions and rewards must "
                f"agree in length. {HINT}"
            )


def _check_rows(name: str, numbers: Tensor, wanted: tuple[int, ...], what: str, names: Sequence[str]) -> None:
    if tuple(numbers.shape) == wanted:
        return
    which = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}, together"
    raise InvalidInputError(
        f"{name} of {which} must be {list(wanted)}, {what}; the model gave {list(numbers.shape)}. Encodings and "
        f"actions must agree in length. {HINT}"
    )


def _place(row: int, lengths: Sequence[int], names: Sequence[str]) -> tuple[int, str]:
    """Where in which episode a packed row lies."""
    for length, name in zip(lengths, names, strict=True):
        if row < length:
            return row, name
        row -= length
    raise RLFrameworkError(f"There is no row {row} behind the last episode.")
