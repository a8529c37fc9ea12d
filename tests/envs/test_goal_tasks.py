"""Bit-flipping and the mazes, step for step against plain Python; and the same as Gymnasium environments."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.core.goals import check_goal_space
from rl_framework.envs.goal_tasks.bit_flipping import BitFlipping
from rl_framework.envs.goal_tasks.goal_task import GoalTask
from rl_framework.envs.goal_tasks.gymnasium_tasks import (
    BitFlippingEnv,
    PointMaze2DEnv,
    PointUMaze2DEnv,
    register,
)
from rl_framework.envs.goal_tasks.maze_layout import TREE_10X10, U_5X3, Cell, MazeLayout
from rl_framework.envs.goal_tasks.pictures import CELL, GOAL, POINT, WALL
from rl_framework.envs.goal_tasks.point_maze import LEAST_REPULSION, MOST_REPULSION, PointMaze2D, PointUMaze2D
from rl_framework.envs.source import open_environments
from rl_framework.errors import InvalidInputError, UnknownOptionError

Place = list[float]


def draw(seed: int, *shape: int) -> Tensor:
    """Numbers from 0 to 1, float64."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------ bit-flipping


def test_an_action_flips_its_bit_and_nothing_else() -> None:
    task = BitFlipping(40, 5)
    task.reset(seed=0)
    for step in range(30):
        before, actions = task.state, (draw(step, 40) * 5).long()
        expected = before["place"].clone()
        for row, action in enumerate(actions.tolist()):
            expected[row, action] = 1.0 - expected[row, action]
        result = task.step(actions)
        seen = result.observations if result.final is None else result.final
        is_equal = [expected[row].tolist() == before["goal"][row].tolist() for row in range(40)]
        assert torch.equal(seen["observation"], expected)
        assert torch.equal(seen["achieved_goal"], expected)
        assert torch.equal(seen["desired_goal"], before["goal"])
        assert result.rewards.tolist() == [0.0 if equal else -1.0 for equal in is_equal]
        assert result.terminated.tolist() == is_equal


def test_bits_and_goals_begin_anywhere() -> None:
    task = BitFlipping(8000, 3)
    seen = task.reset(seed=1)
    both = torch.cat((seen["observation"], seen["desired_goal"]), 1).long()
    counts = torch.bincount((both * 2 ** torch.arange(6)).sum(1), minlength=64).double()
    chi_square = ((counts - 125.0) ** 2 / 125.0).sum()
    assert chi_square < 103.4  # 63 degrees of freedom, p = 0.001


def test_an_episode_of_bits_is_cut_after_as_many_steps_as_there_are_bits() -> None:
    task = BitFlipping(1, 7, first_visit=False)
    task.reset(seed=0)
    cut = [bool(task.step(torch.tensor([0])).truncated) for _ in range(15)]
    assert [step for step, is_cut in enumerate(cut) if is_cut] == [6, 13]


def test_bits_that_do_not_exist_are_refused() -> None:
    task = BitFlipping(2, 4)
    task.reset(seed=0)
    with pytest.raises(InvalidInputError, match=r"Discrete\(4\), got 1 to 4"):
        task.step(torch.tensor([1, 4]))
    with pytest.raises(InvalidInputError, match="n_bits to be a whole number of at least 1, got 0"):
        BitFlipping(2, 0)


# ------------------------------------------------------------------------------------------------ mazes


def test_a_drawing_is_read_as_it_is_drawn() -> None:
    layout = MazeLayout.parse("+-+-+\n|G  |\n+-+ +\n|S  |\n+-+-+\n")
    assert (layout.n_columns, layout.n_rows, layout.start, layout.goal) == (2, 2, (0, 0), (0, 1))
    assert {cell: layout.neighbours(cell) for cell in [(0, 0), (1, 0), (1, 1), (0, 1)]} == {
        (0, 0): [(1, 0)],
        (1, 0): [(0, 0), (1, 1)],
        (1, 1): [(0, 1), (1, 0)],
        (0, 1): [(1, 1)],
    }


@pytest.mark.parametrize(
    ("drawing", "complaint"),
    [
        ("+-+\n|S|", "2 lines of up to 3"),
        ("+-+-+\n|S  |\n+-+-+", "marked 'G', found 0"),
        ("+-+-+\n|SG |\n+-+-+\n|  S|\n+-+-+", "marked 'S', found 2"),
        ("+-+-+\n|S G|\n+-+ +", "an open border"),
        ("+-+-+\n|S G \n+-+-+", "an open border"),
    ],
)
def test_a_drawing_that_is_no_maze_is_refused(drawing: str, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        MazeLayout.parse(drawing)


def ways(layout: MazeLayout) -> dict[Cell, list[Cell]]:
    """From every cell that can be reached, the cells on the way to the goal."""
    found, waiting = {layout.goal: [layout.goal]}, deque([layout.goal])
    while waiting:
        cell = waiting.popleft()
        for neighbour in layout.neighbours(cell):
            if neighbour not in found:
                found[neighbour] = [neighbour, *found[cell]]
                waiting.append(neighbour)
    return found


def test_the_mazes_are_what_they_are_said_to_be() -> None:
    tree, u = MazeLayout.parse(TREE_10X10), MazeLayout.parse(U_5X3)
    assert (tree.n_columns, tree.n_rows, tree.start, tree.goal) == (10, 10, (0, 0), (9, 9))
    found = ways(tree)
    assert len(found) == 100
    assert sum(len(tree.neighbours(cell)) for cell in found) == 2 * 99
    assert len(found[0, 0]) == 23
    assert (u.start, u.goal, len(ways(u)[0, 0])) == ((0, 0), (0, 2), 11)


def slow_move(drawing: str, place: Place, move: Place, repulsions: Place) -> Place:
    """Follow a move from border to border, cell by cell; a wall takes away the part that crosses it."""
    lines = list(reversed(drawing.strip("\n").split("\n")))
    cell, share = [round(place[0]), round(place[1])], 0.0
    signs = [(part > 0) - (part < 0) for part in move]
    while True:
        arrivals = [
            ((cell[axis] + 0.5 * signs[axis] - place[axis]) / move[axis], axis) for axis in (0, 1) if signs[axis]
        ]
        share, axis = min(arrivals, default=(2.0, 0))
        if share > 1.0:
            return [place[0] + move[0], place[1] + move[1]]
        sides = [2 * cell[0] + 1, 2 * cell[1] + 1]
        sides[axis] += signs[axis]
        if lines[sides[1]][sides[0]] != " ":
            break
        cell[axis] += signs[axis]
    arrived = [place[0] + share * move[0], place[1] + share * move[1]]
    arrived[axis] -= signs[axis] * repulsions[0]
    left = [(1 - share) * part for part in move]
    left[axis] = 0.0
    return slow_move(drawing, arrived, left, repulsions[1:])


@pytest.mark.parametrize(("task_class", "drawing"), [(PointMaze2D, TREE_10X10), (PointUMaze2D, U_5X3)])
def test_points_move_as_one_follows_them_by_hand(task_class: type[PointMaze2D], drawing: str) -> None:
    task = task_class(2000, dtype=torch.float64)
    reached = list(ways(task.layout))
    cells = torch.tensor(reached, dtype=torch.float64)[(draw(1, 2000) * len(reached)).long()]
    place, move = cells + 0.98 * (draw(2, 2000, 2) - 0.5), 1.9 * (draw(3, 2000, 2) - 0.5)
    move[::50, 0] = 0.0
    repulsion = 0.001 + 0.009 * draw(4, 2000, 2)
    expected = [slow_move(drawing, *row) for row in zip(place.tolist(), move.tolist(), repulsion.tolist(), strict=True)]
    arrived = task.move(place, move, repulsion)
    assert torch.allclose(arrived, torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    stopped = ((arrived - place - move).abs() > 1e-9).sum(1)
    assert all((stopped == walls).sum() > 20 for walls in (0, 1, 2))


def test_no_point_ever_leaves_its_maze_or_jumps_a_wall() -> None:
    """Also where float32 rounds a step onto a wall; and walls throw back by what is drawn for it."""
    task = PointMaze2D(500, max_episode_steps=10**6)
    place = task.reset(seed=3)["observation"]
    joined = {(cell, other) for cell in ways(task.layout) for other in task.layout.neighbours(cell)}
    for step in range(300):
        actions = (1.9 * (draw(step, 500, 2) - 0.5)).float()
        actions[::7] = actions[::7].sign() * 0.95
        after = task.step(actions).observations["observation"]
        for one, other in zip(place.round().long().tolist(), after.round().long().tolist(), strict=True):
            corners = [(one[0], other[1]), (other[0], one[1])]
            direct = (tuple(one), tuple(other)) in joined
            around = any({(tuple(one), corner), (corner, tuple(other))} <= joined for corner in corners)
            assert one == other or direct or around
        place = after


def test_walls_throw_back_by_between_a_thousandth_and_a_hundredth() -> None:
    task = PointMaze2D(4000, "+-+-+\n|S G|\n+-+-+")
    task.reset(seed=0)
    place = task.step(torch.tensor([0.0, 0.95]).expand(4000, 2)).observations["observation"]
    back = 0.5 - place[:, 1]
    assert back.min() > LEAST_REPULSION - 1e-6
    assert back.max() < MOST_REPULSION + 1e-6
    assert abs(back.mean() - (LEAST_REPULSION + MOST_REPULSION) / 2) < 1e-4


def test_moves_beyond_the_bounds_are_cut() -> None:
    far, most = (PointMaze2D(8, "+-+-+-+-+\n|S     G|\n+-+-+-+-+") for _ in range(2))
    far.reset(seed=0)
    most.reset(seed=0)
    seen = [task.step(torch.tensor([x, 0.0]).expand(8, 2)).observations for task, x in ((far, 3.0), (most, 0.95))]
    assert torch.equal(seen[0]["observation"], seen[1]["observation"])


@pytest.mark.parametrize("task_class", [PointMaze2D, PointUMaze2D])
def test_whoever_knows_the_way_arrives_in_time(task_class: type[PointMaze2D]) -> None:
    task = task_class(64, first_visit=True)
    seen, found = task.reset(seed=0), ways(task.layout)
    ended, arrived = torch.zeros(64, dtype=torch.bool), torch.zeros(64, dtype=torch.bool)
    for _ in range(50):
        targets = []
        for place, goal in zip(seen["observation"].tolist(), seen["desired_goal"].tolist(), strict=True):
            way = found[round(place[0]), round(place[1])]
            targets.append(goal if len(way) == 1 else [float(part) for part in way[1]])
        wanted = (torch.tensor(targets) - seen["observation"]).clamp(-0.95, 0.95)
        centred = torch.tensor(targets).round() - seen["observation"]
        aside = (centred.abs() > 0.3).sum(1) == 2
        wanted = torch.where(aside.unsqueeze(1), seen["observation"].round() - seen["observation"], wanted)
        step = task.step(wanted)
        arrived |= step.terminated & ~ended
        ended |= step.terminated | step.truncated
        seen = step.observations
    assert arrived.all()


def test_episodes_begin_in_the_start_cell_and_goals_are_in_the_goal_cell() -> None:
    seen = PointMaze2D(20_000).reset(seed=0)
    start, goal = seen["observation"], seen["desired_goal"] - 9.0
    assert (start.abs().amax(0) < 0.45 + 1e-6).all()
    assert (start.abs().amax(0) > 0.449).all()
    assert (goal.abs().amax(0) < 0.4 + 1e-5).all()
    assert (goal.abs().amax(0) > 0.399).all()
    assert (torch.cat((start, goal), 1).mean(0).abs() < 0.01).all()


# ------------------------------------------------------------------------------------------------ all of them

TASKS: dict[str, Any] = {
    "bits": lambda n_envs, **options: BitFlipping(n_envs, 4, **options),
    "maze": PointMaze2D,
    "u": PointUMaze2D,
}
ACTIONS: dict[str, Any] = {
    "bits": lambda step, n: (draw(step, n) * 4).long(),
    "maze": lambda step, n: (1.9 * draw(step, n, 2) - 0.95).float(),
    "u": lambda step, n: (1.9 * draw(step, n, 2) - 0.95).float(),
}


@pytest.mark.parametrize("name", TASKS)
def test_observations_are_those_of_the_space(name: str) -> None:
    task: GoalTask = TASKS[name](3)
    check_goal_space(task.spec.observation_space, who="The task")
    seen = task.reset(seed=0)
    for row in range(3):
        assert task.spec.observation_space.contains({key: part[row].numpy() for key, part in seen.items()})


@pytest.mark.parametrize("name", TASKS)
def test_a_first_visit_ends_the_episode_and_else_only_its_last_step_counts(name: str) -> None:
    for first_visit in (True, False):
        task: GoalTask = TASKS[name](6, first_visit=first_visit)
        task.reset(seed=0)
        state = task.state_dict()
        at_goal = {"place": state["state"]["goal"].clone(), "goal": state["state"]["goal"]}
        if name == "bits":
            at_goal["place"][:, 2] = 1.0 - at_goal["place"][:, 2]
        task.load_state_dict({**state, "state": at_goal})
        step = task.step(torch.full((6,), 2) if name == "bits" else torch.zeros(6, 2))
        seen = step.observations if step.final is None else step.final
        assert step.rewards.tolist() == [0.0] * 6
        assert task.successes(seen).all()
        assert step.terminated.tolist() == [first_visit] * 6


@pytest.mark.parametrize("name", TASKS)
def test_a_step_never_waits_for_the_host(name: str) -> None:
    task: GoalTask = TASKS[name](16)
    task.reset(seed=0)
    actions = ACTIONS[name](0, 16)
    task.advance(task.state, actions)
    with HostAccessRefused(torch.device("cpu")):
        state, _, _ = task.advance(task.state, actions)
        task.observe(state)
        task.initial_state(16)


@pytest.mark.parametrize("name", TASKS)
def test_tasks_go_on_where_they_were(name: str) -> None:
    task: GoalTask = TASKS[name](5)
    task.reset(seed=0)
    for step in range(3):
        task.step(ACTIONS[name](step, 5))
    other = task.with_n_envs(5)
    other.load_state_dict(task.state_dict())
    for step in range(60):
        ours, theirs = (each.step(ACTIONS[name](step, 5)) for each in (task, other))
        for key in ours.observations:
            assert torch.equal(ours.observations[key], theirs.observations[key])
        assert torch.equal(ours.rewards, theirs.rewards)


@pytest.mark.parametrize("name", ["BitFlipping", "PointMaze2D", "PointUMaze2D"])
def test_names_of_tensor_tasks_and_of_environments_are_the_same_tasks(name: str) -> None:
    tensors = open_environments(f"tensor:{name}", n_envs=2)
    singles = open_environments(f"rl_framework/{name}-v0", n_envs=2)
    assert tensors.spec.id == singles.spec.id == f"rl_framework/{name}-v0"
    assert tensors.spec.observation_space == singles.spec.observation_space
    assert tensors.spec.action_space == singles.spec.action_space
    assert tensors.get_attribute("spec")[0].id == f"rl_framework/{name}-v0"


def test_changed_tasks_have_no_id() -> None:
    changed = [BitFlipping(1, 5), BitFlipping(1, first_visit=False), PointMaze2D(1, max_episode_steps=9)]
    assert [task.spec.id for task in [*changed, PointMaze2D(1, "+-+-+\n|S G|\n+-+-+")]] == [None] * 4


ENVIRONMENTS: dict[str, tuple[Any, Any]] = {
    "bits": (BitFlippingEnv, BitFlipping),
    "maze": (PointMaze2DEnv, PointMaze2D),
    "u": (PointUMaze2DEnv, PointUMaze2D),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_is_one_row_of_its_task(name: str) -> None:
    env_class, task_class = ENVIRONMENTS[name]
    env, task = env_class(), task_class(1)
    seen, info = env.reset(seed=7)
    expected = task.reset(seed=7)
    assert info == {"is_success": False}
    for step in range(70):
        assert all(np.array_equal(seen[key], expected[key][0].numpy()) for key in seen)
        actions = ACTIONS[name](step, 1)
        result = task.step(actions)
        seen, reward, terminated, truncated, info = env.step(actions[0].numpy())
        last = result.observations if result.final is None else result.final
        assert all(np.array_equal(seen[key], last[key][0].numpy()) for key in seen)
        assert (reward, terminated, truncated) == (result.rewards, result.terminated, result.truncated)
        assert info["is_success"] == (reward == 0.0)
        if terminated or truncated:
            seen, _ = env.reset()
            expected = task.reset()
        else:
            expected = result.observations


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_gymnasium_finds_no_fault_with_the_environments(name: str) -> None:
    check_env(ENVIRONMENTS[name][0](), skip_render_check=True)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_compute_reward_takes_one_pair_or_many(name: str) -> None:
    env: Any = ENVIRONMENTS[name][0]()
    seen, _ = env.reset(seed=0)
    goal, other = seen["desired_goal"], seen["achieved_goal"]
    assert env.compute_reward(goal, goal, {}) == 0.0
    assert env.compute_reward(other, goal, {}).shape == ()
    many = env.compute_reward(np.stack([goal, other, goal]), np.stack([goal] * 3), [{}] * 3)
    assert many.tolist() == [0.0, -1.0, 0.0]
    assert many.dtype == np.float32


def test_gymnasium_makes_the_environments_once_they_are_registered() -> None:
    register()
    register()
    env = gym.make("rl_framework/BitFlipping-v0", n_bits=5)
    assert env.action_space == gym.spaces.Discrete(5)


def test_pictures_show_the_point_its_goal_and_the_walls() -> None:
    env = PointUMaze2DEnv(render_mode="rgb_array")
    seen, _ = env.reset(seed=0)
    picture = env.render()
    assert picture is not None
    assert picture.shape == (3 * CELL + 2, 5 * CELL + 2, 3)
    for place, colour in ((seen["achieved_goal"], POINT), (seen["desired_goal"], GOAL)):
        x, y = ((place + 0.5) * CELL + 1).round().astype(int)
        assert tuple(picture[picture.shape[0] - 1 - y, x]) == colour
    assert tuple(picture[CELL * 2, CELL * 2]) == WALL
    assert tuple(picture[CELL * 2, CELL * 4 + CELL // 2]) != WALL
    assert PointUMaze2DEnv().render() is None


def test_pictures_of_bits_show_them_above_their_goal() -> None:
    env = BitFlippingEnv(6, render_mode="rgb_array")
    seen, _ = env.reset(seed=0)
    picture = env.render()
    assert picture is not None
    middles = picture[CELL // 2 :: CELL, CELL // 2 :: CELL]
    assert ((middles == WALL).all(-1) == np.stack([seen["observation"], seen["desired_goal"]]).astype(bool)).all()


def test_other_ways_to_draw_are_refused() -> None:
    with pytest.raises(UnknownOptionError, match="'human'"):
        BitFlippingEnv(render_mode="human")
