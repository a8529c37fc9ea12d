"""What every back-end of vector environments must keep, as a test class for pytest.

Derive from `VectorEnvContract` and give the cases; pytest runs the whole contract over each of them:

    class TestMyVectorEnv(VectorEnvContract):
        @pytest.fixture(scope="class", params=[VectorEnvCase(...)], ids=str)
        @classmethod
        def case(cls, request): return request.param

Three sets of environments are opened for a case, however many tests there are, because opening may be slow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.seeding import derive_seeds
from rl_framework.core.trees import Tree, copy_tree, map_tree, select, stack
from rl_framework.envs.masks import mask_width
from rl_framework.envs.vector_env import ReportsStatistics, StateLevel, VectorEnv
from rl_framework.errors import InvalidInputError, RLFrameworkError
from rl_framework.testing.vector_env_case import (
    Books,
    Moment,
    RandomPlayer,
    VectorEnvCase,
    arrays_of,
    assert_batch,
    assert_same,
    assert_same_play,
    play,
    state_with_rows,
    take,
)


class VectorEnvContract:
    """The contract. `environments` and `elsewhere` are shared by the tests, each of which begins with a reset."""

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls) -> VectorEnvCase:
        """The case at hand; a subclass gives it."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def environments(cls, case: VectorEnvCase) -> Iterator[VectorEnv]:
        """The environments that most tests play in."""
        yield from _opened(case)

    @pytest.fixture(scope="class")
    @classmethod
    def elsewhere(cls, case: VectorEnvCase) -> Iterator[VectorEnv]:
        """Others like them, to go on in."""
        yield from _opened(case)

    # What a step is

    def test_the_spec_describes_the_rows(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """Known before the first step; games have equally many rows, and agents as many names as rows."""
        spec = environments.spec
        assert (spec.n_envs, spec.seeds_episodes) == (case.n_envs, case.seeds_episodes)
        assert spec.render_fps > 0
        assert spec.n_envs % spec.rows_per_game == 0
        assert spec.row_agents is None or len(spec.row_agents) == spec.n_envs

    def test_observations_are_batches_of_their_space(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """After a reset, after each step, and at each end."""
        spec = environments.spec
        assert_batch(spec.observation_space, environments.reset(seed=1), case.n_envs)
        for moment in _random_play(environments, case.n_steps):
            assert_batch(spec.observation_space, moment.step.observations, case.n_envs)
            for final in moment.step.final.values():
                assert_batch(spec.observation_space, stack([final]), 1)

    def test_rewards_flags_and_infos_have_one_value_per_row(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """Rewards are float64, flags are booleans."""
        environments.reset(seed=1)
        for moment in _random_play(environments, 3):
            step = moment.step
            assert (step.rewards.shape, step.rewards.dtype.name) == ((case.n_envs,), "float64")
            assert np.isfinite(step.rewards).all()
            for flags in (step.terminated, step.truncated):
                assert (flags.shape, flags.dtype.name) == ((case.n_envs,), "bool")
            assert len(step.infos) == case.n_envs

    def test_an_ended_row_has_its_last_observation_and_a_summary(
        self, case: VectorEnvCase, environments: VectorEnv
    ) -> None:
        """And no other row has; what it shows already belongs to its next episode."""
        observations = environments.reset(seed=1)
        rows = range(case.n_envs)
        assert case.is_first is None or all(case.is_first(select(observations, row)) for row in rows)
        steps = [moment.step for moment in _random_play(environments, case.n_steps)]
        assert any(step.episodes for step in steps), "no episode ended: give the case more steps"
        for step in steps:
            ended = np.flatnonzero(step.terminated | step.truncated).tolist()
            assert sorted(step.final) == ended == sorted({one.row for one in step.episodes})
            if case.is_first is not None:
                assert all(case.is_first(select(step.observations, row)) for row in ended)
                assert not any(case.is_first(step.final[row]) for row in ended)

    def test_summaries_agree_with_books_kept_beside(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """Of returns and of lengths: no step is lost or counted twice where one episode follows another."""
        environments.reset(seed=2)
        books = Books(case.n_envs)
        for moment in _random_play(environments, 2 * case.n_steps):
            closed = books.enter(moment.step)
            first = {one.row: one for one in reversed(moment.step.episodes)}
            for row, (total, length) in closed.items():
                assert first[row].total_reward == pytest.approx(total, rel=1e-6, abs=1e-6)
                assert first[row].length == length or (not case.steps_are_equal and first[row].length > length)

    def test_the_rows_of_a_game_end_together(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """A game ends as a whole, and each row's summary names its agent."""
        spec = environments.spec
        environments.reset(seed=3)
        for moment in _random_play(environments, case.n_steps):
            step = moment.step
            ended = (step.terminated | step.truncated).reshape(-1, spec.rows_per_game)
            assert (ended.all(axis=1) == ended.any(axis=1)).all()
            for one in step.episodes:
                assert one.agent == (None if spec.row_agents is None else spec.row_agents[one.row])

    def test_arrays_are_the_callers_to_keep(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """No later step writes into them, and none writes into the actions that it was given."""
        start = environments.reset(seed=4)
        kept = copy_tree(start)
        moments = _random_play(environments, 10)
        assert_same(start, kept, "the first observations")
        for index, moment in enumerate(moments):
            assert_same(arrays_of(moment.step), moment.kept, f"what step {index} gave")
        actions = RandomPlayer(environments.spec.action_space, 0).draw(environments)
        sent = copy_tree(actions)
        take(environments, actions)
        assert_same(actions, sent, "the actions")

    # Seeds and schedules

    def test_the_same_seed_gives_the_same_steps(
        self, case: VectorEnvCase, environments: VectorEnv, elsewhere: VectorEnv
    ) -> None:
        """Again in the same environments, and in others like them; another seed gives others."""
        if not case.seeds_reproduce:
            pytest.skip("its seeds do not determine what follows")
        both = [_from_seed(one, 5, case.n_steps) for one in (environments, environments, elsewhere)]
        for start, moments in both[1:]:
            assert_same(start, both[0][0], "the first observations")
            assert_same_play(moments, both[0][1])
        if case.starts_differ:
            with pytest.raises(AssertionError):
                assert_same(environments.reset(seed=6), both[0][0], "those of another seed")

    def test_a_schedule_gives_each_row_its_episodes_and_then_rest(
        self, case: VectorEnvCase, environments: VectorEnv
    ) -> None:
        """The first game plays two episodes, the last none if there are several; each with the seed it was given."""
        if not case.seeds_episodes:
            with pytest.raises(InvalidInputError):
                environments.reset_to_schedule([[1]] * case.n_envs)
            return
        schedule = _schedule(environments)
        environments.reset_to_schedule(schedule)
        moments = _random_play(environments, 3 * case.n_steps)
        episodes = [one for moment in moments for one in moment.step.episodes]
        played = [[one.seed for one in episodes if one.row == row] for row in range(case.n_envs)]
        assert played == schedule
        before, last = moments[-2].step, moments[-1].step
        assert not any(values.any() for values in (last.rewards, last.terminated, last.truncated))
        assert not any((last.final, last.episodes))
        assert_same(last.observations, before.observations, "what resting rows show")

    def test_a_resting_row_does_not_hold_up_the_others(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """And a reset ends the rest."""
        if not case.seeds_episodes:
            pytest.skip("its episodes cannot be seeded one by one")
        environments.reset_to_schedule([[]] * case.n_envs)
        assert not any(moment.step.episodes for moment in _random_play(environments, case.n_steps))
        environments.reset(seed=1)
        assert any(moment.step.episodes for moment in _random_play(environments, case.n_steps))

    def test_a_scheduled_episode_is_the_same_in_any_game(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """It depends on its seed and the actions, not on the row nor on what was played before."""
        if not (case.seeds_episodes and case.seeds_reproduce):
            pytest.skip("its episodes cannot be seeded one by one")
        first = environments.reset_to_schedule([[8]] * case.n_envs)
        n_rows = environments.spec.rows_per_game
        for row in range(n_rows, case.n_envs):
            assert_same(select(first, row), select(first, row % n_rows), f"the first observation of row {row}")
        _random_play(environments, 3)
        assert_same(environments.reset_to_schedule([[8]] * case.n_envs), first, "the first observations")

    def test_a_schedule_needs_one_list_per_row(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """One list too many is a mistake."""
        environments.reset(seed=0)
        with pytest.raises(InvalidInputError):
            environments.reset_to_schedule([[1]] * (case.n_envs + 1))

    # Actions

    def test_masks_fit_the_actions(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """Before each step there is a mask of its own per row, or none ever."""
        environments.reset(seed=7)
        assert environments.spec.has_action_masks == case.has_masks
        masks = [moment.masks for moment in _random_play(environments, 10)]
        if not case.has_masks:
            assert all(mask is None for mask in masks)
            return
        shape = (case.n_envs, mask_width(environments.spec.action_space))
        assert all(mask is not None and (mask.shape, mask.dtype.name) == (shape, "bool") for mask in masks)
        assert all(mask.any(axis=1).all() for mask in masks if mask is not None)
        assert len({id(mask) for mask in masks}) == len(masks), "a mask array was used twice"

    def test_invalid_actions_are_refused_before_anything_moves(
        self, case: VectorEnvCase, environments: VectorEnv
    ) -> None:
        """A row too few, an axis too many, nothing at all; the environments stay as they are."""
        expected = _from_seed(environments, 9, 5)[1] if case.seeds_reproduce else []
        environments.reset(seed=9)
        actions = RandomPlayer(environments.spec.action_space, 0).draw(environments)
        wrong: list[Tree] = [select(actions, slice(1, None)), map_tree(lambda leaf: leaf[..., None], actions), None]
        for given in wrong:
            with pytest.raises(InvalidInputError):
                environments.send(given)
        moments = _random_play(environments, 5)
        assert_same_play(moments[: len(expected)], expected)

    # The order of the verbs

    def test_verbs_are_refused_out_of_turn_and_after_closing(self, case: VectorEnvCase) -> None:
        """Acting needs an episode, receiving needs actions, and all ends with `close`, which can be repeated."""
        environments = case.open()
        player = RandomPlayer(environments.spec.action_space, 0)
        actions = player.draw(environments)
        with pytest.raises(RLFrameworkError, match="reset"):
            environments.send(actions)
        environments.reset(seed=0)
        for _ in range(2):
            with pytest.raises(RLFrameworkError, match="send"):
                environments.recv()
            take(environments, player.draw(environments))
        environments.close()
        environments.close()
        for verb in (environments.reset, environments.recv, environments.get_state):
            with pytest.raises(RLFrameworkError, match="closed"):
                verb()
        with pytest.raises(RLFrameworkError, match="closed"):
            environments.send(actions)

    def test_unknown_names_and_rows_are_refused_and_nothing_closes(
        self, case: VectorEnvCase, environments: VectorEnv
    ) -> None:
        """The message says what is unknown."""
        environments.reset(seed=0)
        for verb in (environments.get_attribute, environments.call):
            with pytest.raises(InvalidInputError, match="no_such_name"):
                verb("no_such_name")
        with pytest.raises(InvalidInputError):
            environments.get_attribute("spec", rows=[case.n_envs])
        _random_play(environments, 1)

    def test_pictures_are_pictures(self, case: VectorEnvCase, environments: VectorEnv) -> None:
        """Of each row, or None."""
        environments.reset(seed=0)
        pictures = [environments.render(row) for row in range(case.n_envs)]
        assert [picture is not None for picture in pictures] == [case.has_pictures] * case.n_envs
        for picture in pictures:
            assert picture is None or (picture.dtype.name, picture.ndim, picture.shape[-1]) == ("uint8", 3, 3)

    def test_statistics_are_numbers_under_ready_names(self, environments: VectorEnv) -> None:
        """Where the environments report any; what was told is not told again, except for counts, which are 0 then."""
        if not isinstance(environments, ReportsStatistics):
            pytest.skip("it reports no statistics")
        environments.reset(seed=0)
        _random_play(environments, 5)
        told = environments.drain_statistics()
        assert all("/" in name and np.isfinite(value) for name, value in told.items())
        assert not any(environments.drain_statistics().values())

    # State

    def test_a_state_goes_on_as_exactly_as_it_says(
        self, case: VectorEnvCase, environments: VectorEnv, elsewhere: VectorEnv, tmp_path: Path
    ) -> None:
        """In other environments, after a way through a file; bit for bit from a reset if not from anywhere."""
        for n_steps in (0, 7) if case.resume_level is StateLevel.EXACT else (0,):
            shown = environments.reset(seed=10)
            before = _random_play(environments, n_steps)
            shown = before[-1].step.observations if before else shown
            state = environments.get_state()
            assert state.level is case.resume_level
            write_state(tmp_path, f"state_{n_steps}", list(state.rows))
            again = elsewhere.set_state(state_with_rows(state, read_state(tmp_path, f"state_{n_steps}")))
            assert_batch(elsewhere.spec.observation_space, again, case.n_envs)
            if case.resume_level is StateLevel.APPROXIMATE:
                _random_play(elsewhere, 3)
            else:
                assert_same(again, shown, "the observations that were put back")
                expected = _random_play(environments, case.n_steps)
                assert_same_play(_random_play(elsewhere, case.n_steps), expected)

    def test_a_state_carries_schedule_and_rest(
        self, case: VectorEnvCase, environments: VectorEnv, elsewhere: VectorEnv
    ) -> None:
        """What is left of a schedule is played elsewhere."""
        if not (case.seeds_episodes and case.resume_level is StateLevel.EXACT):
            pytest.skip("it cannot be put back into a schedule")
        schedule = _schedule(environments)
        environments.reset_to_schedule(schedule)
        moments = _random_play(environments, case.n_steps)
        elsewhere.set_state(environments.get_state())
        moments += _random_play(elsewhere, 3 * case.n_steps)
        episodes = [one for moment in moments for one in moment.step.episodes]
        assert [[one.seed for one in episodes if one.row == row] for row in range(case.n_envs)] == schedule

    def test_a_state_of_another_number_of_rows_is_refused(self, environments: VectorEnv) -> None:
        """It cannot be spread over other rows."""
        environments.reset(seed=0)
        state = environments.get_state()
        with pytest.raises(InvalidInputError):
            environments.set_state(state_with_rows(state, [*state.rows, state.rows[0]]))


def _opened(case: VectorEnvCase) -> Iterator[VectorEnv]:
    environments = case.open()
    yield environments
    environments.close()


def _random_play(environments: VectorEnv, n_steps: int) -> list[Moment]:
    return play(environments, n_steps, RandomPlayer(environments.spec.action_space, 1))


def _from_seed(environments: VectorEnv, seed: int, n_steps: int) -> tuple[Tree, list[Moment]]:
    """First observations and what follows them."""
    start = copy_tree(environments.reset(seed=seed))
    return start, _random_play(environments, n_steps)


def _schedule(environments: VectorEnv) -> list[list[int]]:
    """Two episodes for the first game, one for the others, none for the last of several; rows of a game share it."""
    spec = environments.spec
    n_games = spec.n_envs // spec.rows_per_game
    seeds = derive_seeds(11, n_games + 1)
    games: list[Sequence[int]] = [seeds[:2], *([seed] for seed in seeds[2:])]
    if n_games > 1:
        games[-1] = []
    return [list(game) for game in games for _ in range(spec.rows_per_game)]
