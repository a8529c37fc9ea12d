"""Worker processes: how they fail, and that none is ever left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rl_framework.envs.source import open_environments
from rl_framework.envs.subprocess import SubprocessVectorEnv
from rl_framework.errors import EnvironmentFailure, EnvironmentTimeout, InvalidInputError
from rl_framework.testing.environments import CountingEnv, DyingEnv, HangingEnv, RaisingEnv, SlowEnv

NO_ACTIONS = np.zeros(2, np.int64)
SHARED_MEMORY = Path("/dev/shm")


def is_running(process_id: int) -> bool:
    """Whether there is such a process, zombies not counted."""
    try:
        os.kill(process_id, 0)
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until_gone(process_ids: Sequence[int], seconds: float = 10.0) -> list[int]:
    """The processes that still run after a while."""
    deadline = time.monotonic() + seconds
    while (left := [one for one in process_ids if is_running(one)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def step(environments: SubprocessVectorEnv) -> None:
    """One step with the action 0 everywhere."""
    environments.send(NO_ACTIONS)
    environments.recv()


def test_the_original_traceback_comes_back_and_siblings_end() -> None:
    environments = SubprocessVectorEnv([CountingEnv, partial(RaisingEnv, 0)])
    environments.reset(seed=0)
    with pytest.raises(EnvironmentFailure, match="ZeroDivisionError") as caught:
        step(environments)
    assert "in fail" in str(caught.value.remote_traceback)
    assert "in fail" in str(caught.value)
    assert not wait_until_gone(environments.process_ids)


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_worker_that_dies_is_named_with_its_exit_code(how: str) -> None:
    environments = SubprocessVectorEnv([CountingEnv, partial(DyingEnv, 0 if how == "exit" else 99)])
    environments.reset(seed=0)
    if how == "kill":
        os.kill(environments.process_ids[1], signal.SIGKILL)
    with pytest.raises(EnvironmentFailure, match="exit code 7" if how == "exit" else "signal 9") as caught:
        step(environments)
    assert caught.value.row == 1
    assert not wait_until_gone(environments.process_ids)


def test_a_worker_that_hangs_is_ended_in_time() -> None:
    environments = SubprocessVectorEnv([CountingEnv, partial(HangingEnv, 0)], timeout=0.5)
    environments.reset(seed=0)
    begin = time.monotonic()
    with pytest.raises(EnvironmentTimeout, match=r"0.5 seconds") as caught:
        step(environments)
    assert time.monotonic() - begin < 5.0
    assert caught.value.row == 1
    assert isinstance(caught.value, TimeoutError)
    assert not wait_until_gone(environments.process_ids)


def test_an_environment_that_cannot_be_made_ends_all() -> None:
    with pytest.raises(EnvironmentFailure, match="ValueError: no luck") as caught:
        SubprocessVectorEnv([CountingEnv, make_without_luck])
    assert caught.value.row == 1
    assert "make_without_luck" in str(caught.value.remote_traceback)


def make_without_luck() -> gym.Env[Any, Any]:
    """A factory that fails."""
    raise ValueError("no luck")


def test_what_cannot_be_pickled_is_refused_with_a_way_out() -> None:
    lock = threading.Lock()
    with pytest.raises(InvalidInputError, match=r"Environment 1 cannot be sent.*Pass a factory.*serial"):
        SubprocessVectorEnv([CountingEnv, lambda: CountingEnv((int(lock.locked()),))])


def test_no_file_is_left_while_the_environments_run() -> None:
    before = set(SHARED_MEMORY.iterdir()) if SHARED_MEMORY.is_dir() else set()
    environments = SubprocessVectorEnv([CountingEnv, CountingEnv])
    after = set(SHARED_MEMORY.iterdir()) if SHARED_MEMORY.is_dir() else set()
    environments.close()
    assert not [path for path in after - before if path.name.startswith("rl_framework")]
    assert not wait_until_gone(environments.process_ids)


def test_workers_import_no_torch() -> None:
    environments = SubprocessVectorEnv([TorchDetector])
    assert environments.call("has_torch") == [False]
    environments.close()


class TorchDetector(CountingEnv):
    """Tells whether torch is loaded in its process."""

    def has_torch(self) -> bool:
        """Whether torch is loaded."""
        return "torch" in sys.modules


def test_an_interrupted_step_does_not_confuse_what_follows() -> None:
    environments = SubprocessVectorEnv([partial(SlowEnv, 0.5), CountingEnv])
    environments.reset(seed=0)
    environments.send(NO_ACTIONS)
    state = environments.get_state()
    assert [row["row"]["steps"] for row in state.rows] == [1, 1]
    environments.close()


ORPHANS = """
import sys, time
import numpy as np
from functools import partial
from rl_framework.envs.subprocess import SubprocessVectorEnv
from rl_framework.testing.environments import CountingEnv, HangingEnv
environments = SubprocessVectorEnv([CountingEnv, partial(HangingEnv, 0)])
environments.reset(seed=0)
print(*environments.process_ids, flush=True)
environments.send(np.zeros(2, np.int64))
environments.recv()
"""


def test_workers_end_with_a_parent_that_is_killed_in_the_middle_of_a_step() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        process_ids = [int(one) for one in parent.stdout.readline().split()]
        assert len(process_ids) == 2
        assert all(is_running(one) for one in process_ids)
        time.sleep(0.2)
        parent.kill()
    assert not wait_until_gone(process_ids)


THREADED = """
import threading
from rl_framework.envs.subprocess import SubprocessVectorEnv
from rl_framework.testing.environments import CountingEnv
made = []
thread = threading.Thread(target=lambda: made.append(SubprocessVectorEnv([CountingEnv])))
thread.start()
thread.join()
print(made[0].reset(seed=0)[0, :2])
"""


def test_workers_outlive_the_thread_that_started_them() -> None:
    done = subprocess.run([sys.executable, "-c", THREADED], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[0. 0.]", done.stderr


INTERRUPTED = """
import os, signal, time
import numpy as np
from rl_framework.envs.subprocess import SubprocessVectorEnv
from rl_framework.testing.environments import CountingEnv
environments = SubprocessVectorEnv([CountingEnv, CountingEnv])
environments.reset(seed=0)
try:
    os.killpg(0, signal.SIGINT)
    time.sleep(5)
except KeyboardInterrupt:
    environments.send(np.zeros(2, np.int64))
    print(environments.recv().rewards)
"""


def test_ctrl_c_reaches_the_parent_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )
    assert done.stdout.strip() == "[1. 1.]", done.stderr


FLAT_SCRIPT = """
import gymnasium as gym
import numpy as np
from rl_framework.envs.source import open_environments

print("script runs")

class Doubling(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.value = 1.0
        return np.array([self.value], np.float32), {}

    def step(self, action):
        print("a print of the environment")
        self.value *= 2
        return np.array([self.value], np.float32), self.value, False, False, {"self": type(self).__name__}

gym.register("Doubling-v0", entry_point=Doubling)
for what in ([Doubling(), Doubling()], [Doubling, Doubling], "Doubling-v0"):
    environments = open_environments(what, n_envs=2, vectorization="subprocess")
    environments.reset(seed=0)
    environments.send(np.zeros(2, np.int64))
    print(environments.recv().rewards, flush=True)
    environments.close()
"""


def test_a_flat_script_with_its_own_class_works(tmp_path: Path) -> None:
    script = tmp_path / "flat.py"
    script.write_text(FLAT_SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("script runs") == 1
    assert done.stdout.count("[2. 2.]") == 3
    assert done.stdout.count("a print of the environment") == 6


def test_processes_end_when_the_environments_are_forgotten() -> None:
    environments = SubprocessVectorEnv([CountingEnv])
    process_ids = environments.process_ids
    del environments
    assert not wait_until_gone(process_ids)


def test_instances_go_to_processes_with_what_was_set_on_them() -> None:
    instances = [CountingEnv((9,)), CountingEnv((9,))]
    instances[1].lengths = (1,)
    environments = open_environments(instances, vectorization="subprocess")
    environments.reset(seed=0)
    environments.send(NO_ACTIONS)
    assert environments.recv().terminated.tolist() == [False, True]
    assert instances[1].step_count == 0
    environments.close()


def test_a_death_is_noticed_while_another_row_is_slow() -> None:
    environments = SubprocessVectorEnv([partial(SlowEnv, 20.0), partial(DyingEnv, 0)])
    environments.reset(seed=0)
    begin = time.monotonic()
    with pytest.raises(EnvironmentFailure, match="exit code 7") as caught:
        step(environments)
    assert caught.value.row == 1
    assert time.monotonic() - begin < 10.0
    assert not wait_until_gone(environments.process_ids)
