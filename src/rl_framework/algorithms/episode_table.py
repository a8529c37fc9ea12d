"""What a model says of all episodes that are kept, side by side with what was recorded of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rl_framework.algorithms.episode_pieces import Piece, groups_of
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.errors import InvalidInputError
from rl_framework.functional.episode_losses import sampled_kl
from rl_framework.functional.packed_episodes import PackedSteps, pack_steps, packed_vtrace
from rl_framework.functional.returns import VTrace
from rl_framework.nn.distribution import at_least_single
from rl_framework.nn.distributions import Distribution, join_distributions
from rl_framework.nn.episode_model import EpisodeModel, EpisodeScores, check_finite, score_checked
from rl_framework.nn.scaled_value import ScaledValue

ROWS_AT_ONCE = 2**15
UNKNOWN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeTable:
    """N steps of P pieces, of which M count, under the model as it was when the table was made. Without gradients.

    Attributes:
        packed: Where the steps that count lie.
        encodings: Of all observations of all pieces. `[S, d]`
        log_prob: Of the recorded actions. `[M]`
        behaviour_log_prob: Under the policy that acted; the same where that is unknown. `[M]`
        rewards: Raw. `[M]`
        distribution: Over actions, where the model gives one that can be compared with others. M rows
    """

    packed: PackedSteps
    encodings: Tensor
    log_prob: Tensor
    behaviour_log_prob: Tensor
    rewards: Tensor
    distribution: Distribution | None

    def __len__(self) -> int:
        """Number of steps that count, M."""
        return len(self.packed)

    def entropies(self) -> Tensor:
        """Of what the model would do; estimated by what was done where there is no distribution. `[M]`"""
        return -self.log_prob if self.distribution is None else self.distribution.entropy()

    def divergences_from(self, older: EpisodeTable) -> Tensor:
        """Of the same steps under an older model, exact where there are distributions. `[M]`"""
        return divergences(older, slice(None), self.log_prob, self.distribution)

    def targets(self, value_function: ScaledValue, config: VTraceAWRConfig, reward_size: float) -> VTrace:
        """What steps were worth, with rewards in units of their size. `[M]` each"""
        with torch.no_grad():
            values = torch.cat([value_function(block) for block in torch.split(self.encodings, ROWS_AT_ONCE)])
        return packed_vtrace(
            self.packed,
            (self.rewards / reward_size).to(values.dtype),
            values,
            log_prob=self.log_prob.to(values.dtype),
            behaviour_log_prob=self.behaviour_log_prob.to(values.dtype),
            gamma=config.gamma,
            rho_bar=config.rho_bar,
            c_bar=config.c_bar,
            trace_lambda=config.trace_lambda,
        )


def divergences(
    older: EpisodeTable, rows: Tensor | slice, log_prob: Tensor, distribution: Distribution | None
) -> Tensor:
    """Divergence of a policy from an older one in some of its steps; differentiable by the newer one.

    Args:
        older: What the older one said.
        rows: In which of its steps.
        log_prob: Of the recorded actions of those steps under the newer one. `[M']`
        distribution: Over the actions of those steps under the newer one; None for an estimate. M' rows

    Returns:
        `[M']`
    """
    if older.distribution is None or distribution is None:
        return sampled_kl(log_prob, older.log_prob[rows])
    return older.distribution.rows(rows).kl(distribution)


@torch.no_grad()
def score_pieces(
    model: EpisodeModel, pieces: Sequence[Piece], limit: int | None, *, finite: bool = True
) -> EpisodeTable:
    """Have the model look once at every piece.

    Args:
        model: What is asked.
        pieces: At least one.
        limit: Most steps at once.
        finite: Whether NaN and infinite log-likelihoods are refused.

    Raises:
        InvalidInputError: What it says does not fit the episodes, or holds what is refused; the episode is named.
    """
    groups = groups_of([piece.length for piece in pieces], limit)
    scored = [_score(model, [pieces[at] for at in group]) for group in groups]
    scores = _joined(scored)
    if finite:
        check_finite(scores, [piece.name for piece in pieces])
    device = scores.log_prob.device
    ends = [piece.ends for piece in pieces]
    packed = pack_steps(scores.lengths, ends, scores.valid, device=device)
    log_prob = scores.log_prob[packed.steps]
    behaviour = _recorded_log_prob(pieces).to(device, log_prob.dtype)[packed.steps]
    rewards = _recorded_rewards(pieces).to(device) if scores.rewards is None else scores.rewards
    return EpisodeTable(
        packed=packed,
        encodings=scores.encodings,
        log_prob=log_prob,
        behaviour_log_prob=torch.where(behaviour.isnan(), log_prob, behaviour),
        rewards=packed.earned(rewards),
        distribution=None if scores.distribution is None else scores.distribution.rows(packed.steps),
    )


def _score(model: EpisodeModel, pieces: Sequence[Piece]) -> EpisodeScores:
    episodes, lengths, names = zip(*((piece.episode, piece.length, piece.name) for piece in pieces), strict=True)
    scores = score_checked(model, episodes, lengths, names)
    if scores.rewards is None:
        for piece in pieces:
            _check_rewards(piece)
    return scores


def _check_rewards(piece: Piece) -> None:
    if piece.record.rewards is None:
        raise InvalidInputError(
            f"{piece.record.name} was added without rewards, and the model tells none. Give rewards to add_episode, or "
            "set them in the EpisodeScores."
        )


def _joined(parts: Sequence[EpisodeScores]) -> EpisodeScores:
    """One behind the other, in single precision at least."""
    told = [part.rewards for part in parts if part.rewards is not None]
    if told and len(told) < len(parts):
        raise InvalidInputError("The model must tell the rewards of all episodes or of none; it told some.")
    masks = [part.valid for part in parts]
    return EpisodeScores(
        encodings=torch.cat([part.encodings.detach() for part in parts]),
        log_prob=at_least_single(torch.cat([part.log_prob.detach() for part in parts])),
        lengths=tuple(length for part in parts for length in part.lengths),
        distribution=_comparable([part.distribution for part in parts]),
        rewards=torch.cat(told).detach() if told else None,
        valid=None if all(mask is None for mask in masks) else torch.cat([_mask(part) for part in parts]),
    )


def _mask(scores: EpisodeScores) -> Tensor:
    return torch.ones_like(scores.log_prob, dtype=torch.bool) if scores.valid is None else scores.valid


def _comparable(parts: Sequence[Distribution | None]) -> Distribution | None:
    """The distributions as one, if there are any and their kind can be joined, divided and compared."""
    given = [part for part in parts if part is not None]
    if len(given) < len(parts):
        return None
    try:
        joined = join_distributions(given)
        one = joined.rows(slice(0, 1))
        one.kl(one)
    except InvalidInputError:
        return None
    return joined


def _recorded_log_prob(pieces: Sequence[Piece]) -> Tensor:
    """Of the policy that acted; NaN where it is unknown. `[N]`"""
    return torch.cat([_part(piece.record.log_prob, piece) for piece in pieces])


def _recorded_rewards(pieces: Sequence[Piece]) -> Tensor:
    return torch.cat([_part(piece.record.rewards, piece) for piece in pieces])


def _part(numbers: Tensor | None, piece: Piece) -> Tensor:
    if numbers is None:
        return torch.full((piece.length,), UNKNOWN, dtype=torch.float64)
    return numbers[piece.start : piece.start + piece.length]
