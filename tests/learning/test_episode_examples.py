"""The examples of the episode trainer learn what they promise, over three seeds; `make test-learning` runs these."""

from __future__ import annotations

import pytest

from exploration import episode_trainer, language_model, memory_task, two_agents_one_episode
from tests.learning.learning_table import SEEDS, write_row

FEW, MANY = 0.1, 0.9


@pytest.mark.learning
@pytest.mark.timeout(3000)
def test_the_language_model_learns_to_write_what_is_rewarded() -> None:
    """From under a tenth of its completions to more than nine tenths, and they are not always the same."""
    found = [language_model.train(seed) for seed in SEEDS]
    rows = [
        {"seed": seed, "mean_return": after.rewarded, "before": before.rewarded, "different": after.different}
        for seed, (before, after) in zip(SEEDS, found, strict=True)
    ]
    write_row("language model, share of rewarded completions", MANY, rows)
    for before, after in found:
        assert before.rewarded < FEW
        assert before.sentences > 0.6
        assert after.rewarded > MANY
        assert after.different > 0.2


@pytest.mark.learning
@pytest.mark.timeout(3000)
def test_two_agents_learn_to_meet() -> None:
    found = [two_agents_one_episode.train(seed) for seed in SEEDS]
    rows = [
        {"seed": seed, "mean_return": after.mean_return, "met": after.met, "met_before": before.met}
        for seed, (before, after) in zip(SEEDS, found, strict=True)
    ]
    write_row("two agents in one episode", 0.7, rows)
    for before, after in found:
        assert before.met < 0.3
        assert after.met > 0.95
        assert after.mean_return > 0.7


@pytest.mark.learning
@pytest.mark.timeout(3000)
def test_the_maze_is_solved_with_a_memory_and_not_without() -> None:
    """One is the return of always turning to the right side, 0 that of guessing."""
    means = {memory: [memory_task.train(memory, seed).mean for seed in SEEDS] for memory in ("gru", None)}
    for memory, name in (("gru", "with a GRU"), (None, "without memory (it cannot)")):
        rows = [{"seed": seed, "mean_return": mean} for seed, mean in zip(SEEDS, means[memory], strict=True)]
        write_row(f"native V-trace AWR in a T-maze, {name}", 0.95, rows)
    assert min(means["gru"]) > 0.95
    assert max(means[None]) < 0.3


@pytest.mark.learning
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("env_id", "solved"), [("CartPole-v1", 475), ("Pendulum-v1", -250)])
def test_a_loop_of_ones_own_learns(env_id: str, solved: float) -> None:
    curves = [episode_trainer.train(env_id, seed) for seed in SEEDS]
    means = [sum(curve[-5:]) / 5 for curve in curves]
    rows = [
        {"seed": seed, "mean_return": mean, "curve": curve}
        for seed, mean, curve in zip(SEEDS, means, curves, strict=True)
    ]
    write_row(f"EpisodeTrainer in a loop of one's own, {env_id}, sampled actions", solved, rows)
    assert min(means) >= solved
