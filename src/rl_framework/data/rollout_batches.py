"""Index work on the columns of rollouts, `[T, B, ...]`: what comes together, how it is taken and how it is joined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rl_framework.errors import InvalidInputError


def sequences_per_batch(size: int | None, total: int, sequence_length: int) -> int:
    """Number of sequences in a minibatch.

    Args:
        size: Transitions per minibatch; all of them if None.
        total: Transitions in the rollout.
        sequence_length: Transitions per sequence, 1 where each stands alone.

    Raises:
        InvalidInputError: Sequences do not fill a minibatch, or minibatches do not fill the rollout.
    """
    size = total if size is None else size
    if size < 1 or total % size:
        raise InvalidInputError(
            f"{total} transitions do not divide into minibatches of {size}; give a size that divides {total}."
        )
    if size % sequence_length:
        raise InvalidInputError(
            f"A minibatch of {size} transitions does not hold whole sequences of {sequence_length}; give a size that "
            f"is a multiple of {sequence_length}."
        )
    return size // sequence_length


def check_sequences(sequence_length: int, n_steps: int, state_interval: int) -> None:
    """Refuse sequences that do not fill the horizon, or at whose beginning no memory was saved.

    Raises:
        InvalidInputError: It is so; the message names the numbers.
    """
    if sequence_length < 1 or n_steps % sequence_length:
        raise InvalidInputError(
            f"{n_steps} steps do not divide into sequences of {sequence_length}; give a sequence_length that divides "
            f"{n_steps}."
        )
    if state_interval and sequence_length % state_interval and sequence_length != n_steps:
        raise InvalidInputError(
            f"Memory was saved every {state_interval} steps, so there is none at the beginning of each sequence of "
            f"{sequence_length}; sample with state_interval={sequence_length}."
        )


def random_order(n: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """The numbers below n in random order, drawn where the generator is. `[n]`"""
    where = device if generator is None else generator.device
    return torch.randperm(n, generator=generator, device=where).to(device)


def sequence_steps(numbers: Tensor, sequence_length: int, n_rows: int) -> Tensor:
    """Where the steps of sequences are among all transitions, counted time first.

    Args:
        numbers: Of the sequences: first those of the first stretch of time, row by row, then those of the next. `[n]`
        sequence_length: L
        n_rows: Rows of the rollout, B.

    Returns:
        `[L, n]`
    """
    if sequence_length == 1:
        return numbers.unsqueeze(0)
    stretch, row = numbers // n_rows, numbers % n_rows
    steps = torch.arange(sequence_length, device=numbers.device).unsqueeze(1)
    return (stretch * sequence_length + steps) * n_rows + row


def take(column: Tensor, steps: Tensor) -> Tensor:
    """Transitions of a column `[T, B, ...]`, counted time first. `[L, n]` to `[L, n, ...]`"""
    taken = column.flatten(0, 1).index_select(0, steps.flatten())
    return taken.view(*steps.shape, *column.shape[2:])


def rows_per_part(size: int | None, n_steps: int, n_rows: int) -> int:
    """Number of rows that hold about `size` transitions, at least one.

    Raises:
        InvalidInputError: `size` is not positive.
    """
    if size is not None and size < 1:
        raise InvalidInputError(f"A part holds at least one transition; got size={size}.")
    return n_rows if size is None else max(1, size // n_steps)


def step_range(part: slice | int, n_steps: int) -> tuple[int, int]:
    """First step and the one after the last that an index or a slice stands for.

    Raises:
        InvalidInputError: No step is left, or a step is asked for that there is not.
    """
    if isinstance(part, int):
        if not -n_steps <= part < n_steps:
            raise InvalidInputError(f"There is no step {part} in a rollout of {n_steps} steps.")
        return part % n_steps, part % n_steps + 1
    start, stop, stride = part.indices(n_steps)
    if stride != 1 or start >= stop:
        raise InvalidInputError(
            f"The slice {part.start}:{part.stop}:{part.step} of a rollout of {n_steps} steps is no run of consecutive "
            "steps; cut it like rollout[10:20]."
        )
    return start, stop


def row_numbers(index: slice | int | Sequence[int] | Tensor, n_rows: int) -> list[int]:
    """The rows that an index stands for.

    Raises:
        InvalidInputError: No row is left, or one is asked for that there is not.
    """
    chosen = index.cpu() if isinstance(index, Tensor) else index
    try:
        numbers = torch.arange(n_rows)[chosen].reshape(-1).tolist()
    except (IndexError, ValueError, TypeError) as error:
        raise InvalidInputError(f"There are no such rows in a rollout of {n_rows} rows: {index}.") from error
    if not numbers:
        raise InvalidInputError(f"No row of {n_rows} is left by {index}.")
    return [int(number) for number in numbers]
