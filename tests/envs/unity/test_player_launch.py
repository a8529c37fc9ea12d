"""How a player is found, started and told what to do; and what comes along with the exchange."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from rl_framework.envs.unity.launch import (
    UnityLaunch,
    own_log_file,
    player_arguments,
    player_executable,
)
from rl_framework.envs.unity.package import (
    BehaviorSpec,
    IncomingMessage,
    OutgoingMessage,
    RawBytesChannel,
    SideChannel,
    StatsAggregationMethod,
    StatsSideChannel,
)
from rl_framework.envs.unity.player import UnityPlayer
from rl_framework.envs.unity.side_channels import Channels, StatisticsChannel
from rl_framework.errors import InvalidInputError, RLFrameworkError, UnityPlayerDied
from tests.envs.unity.peer import channels
from tests.envs.unity.peer.book import read_book
from tests.envs.unity.peer.players import attached_player, make_player
from tests.envs.unity.playing import NAME, free_port, step


def executable(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(mode)
    return path


def statistic(name: str, value: float, method: StatsAggregationMethod) -> IncomingMessage:
    message = OutgoingMessage()
    message.write_string(name)
    message.write_float32(value)
    message.write_int32(method.value)
    return IncomingMessage(bytes(message.buffer))


@pytest.mark.skipif(sys.platform != "linux", reason="endings of builds for Linux")
@pytest.mark.parametrize("named", ["Game", "Game.x86_64", "."])
def test_a_build_is_found_as_users_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    build = executable(tmp_path / "Game.x86_64")
    (tmp_path / "Game_Data").mkdir()
    executable(tmp_path / "UnityPlayer.so")
    monkeypatch.chdir(tmp_path)
    assert player_executable(Path(named)) == build
    assert player_executable(tmp_path / named) == build


def test_a_program_of_any_name_is_taken_as_it_is(tmp_path: Path) -> None:
    assert player_executable(executable(tmp_path / "start.sh")) == tmp_path / "start.sh"


def test_a_bundle_of_a_mac_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    inside = executable(tmp_path / "Game.app" / "Contents" / "MacOS" / "Game")
    executable(inside.with_name("Another"))
    for named in ("Game", "Game.app", "."):
        assert player_executable(tmp_path / named) == inside


def test_builds_for_windows_are_told_from_their_crash_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    executable(tmp_path / "UnityCrashHandler64.exe")
    build = executable(tmp_path / "Game.exe")
    assert player_executable(tmp_path / "Game") == player_executable(tmp_path) == build


@pytest.mark.skipif(sys.platform != "linux", reason="endings of builds for Linux")
def test_what_cannot_be_started_is_explained(tmp_path: Path) -> None:
    executable(tmp_path / "locked" / "Game.x86_64", mode=0o644)
    executable(tmp_path / "two" / "One.x86_64")
    executable(tmp_path / "two" / "Two.x86_64")
    for path, text in {
        "locked/Game": "chmod \\+x '.*locked/Game.x86_64'",
        "two": "several Unity players: One.x86_64, Two.x86_64",
        "nowhere/Game": "looked for Game, Game.x86_64, .*Nor is its folder",
        "two/Three": "holds One.x86_64, Two.x86_64",
        ".": "The folder .* holds no Unity player",
    }.items():
        with pytest.raises(InvalidInputError, match=text):
            player_executable(tmp_path / path)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of Unix")
def test_a_file_that_is_no_program_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    executable(tmp_path / "Game.x86_64").write_text("no program at all")
    with pytest.raises(InvalidInputError, match=r"cannot be started: .*build for this operating system"):
        UnityPlayer(UnityLaunch(file=tmp_path / "Game"))


def test_a_log_that_cannot_be_written_is_refused_and_an_old_one_never_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    game, port = executable(tmp_path / "Game.x86_64"), free_port()
    with pytest.raises(InvalidInputError, match=r"log cannot be written to .*Game\.x86_64"):
        UnityPlayer(UnityLaunch(file=game, log_folder=game))
    (tmp_path / f"Player-{port}.log").write_text("the game before\n")
    with pytest.raises(UnityPlayerDied, match="exit code 0") as caught:
        UnityPlayer(UnityLaunch(file=game, log_folder=tmp_path, port=port))
    assert caught.value.log_tail == ()
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 0},
        {"port": 70_000},
        {"seed": 2**31},
        {"timeout": 0.0},
        {"timeout": float("nan")},
        {"num_areas": 0},
        {"time_scale": 0.0},
        {"target_frame_rate": -2},
        {"capture_frame_rate": -1},
        {"quality_level": -1},
        {"width": 0},
        {"height": 0},
        {"seed": True},
        {"seed": 1.5},
        {"timeout": "soon"},
        {"parameters": {"gravity": float("inf")}},
        {"arguments": "--level=2"},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(InvalidInputError, match=name):
        UnityLaunch(file=None, **wrong)


def test_a_launch_keeps_what_it_was_given() -> None:
    parameters = {"gravity": 1.0}
    launch = UnityLaunch(file="Game", parameters=parameters, arguments=["--level", 2], log_folder="logs")  # type: ignore[arg-type]  # as users write it
    parameters["gravity"] = 2.0
    assert (launch.file, launch.arguments) == (Path("Game"), ("--level", "2"))
    assert launch.log_folder == Path.cwd() / "logs"
    assert dict(launch.parameters) == {"gravity": 1.0}
    assert (launch.awaited_port, UnityLaunch(file=None).awaited_port) == (0, 5004)
    assert UnityLaunch(file=None, port=7000).awaited_port == 7000
    assert UnityLaunch(file=None, seed=np.int64(3), timeout=np.float32(1)).seed == 3


def test_the_command_line_is_unitys() -> None:
    log = Path("/logs/Player.log")
    plain = UnityLaunch(file=Path("Game"), arguments=("--level", "2"))
    assert player_arguments(plain, 6000, log) == [
        "-nographics", "-batchmode", "--mlagents-port", "6000", "-logFile", "/logs/Player.log", "--level", "2",
    ]  # fmt: skip
    seen = UnityLaunch(file=Path("Game"), no_graphics=False, arguments=("-logfile", "mine.log"))
    assert player_arguments(seen, 6000, log) == ["--mlagents-port", "6000", "-logfile", "mine.log"]
    assert own_log_file(("-x", "-logFile", "a.log")) == "a.log"
    assert own_log_file(("-logFile",)) == "-"
    assert own_log_file(()) is None


def test_everything_of_the_launch_arrives_in_the_game(tmp_path: Path) -> None:
    launch = UnityLaunch(
        file=make_player(tmp_path / "game"),
        seed=17,
        num_areas=2,
        arguments=("--level", "2"),
        log_folder=tmp_path / "logs",
        time_scale=5.0,
        quality_level=3,
        width=100,
        height=50,
        parameters={"gravity": -2.5},
    )
    player = UnityPlayer(launch)
    assert player.behaviors == {}
    player.reset()
    player.set_parameter("wind", 0.5)
    step(player, 1)
    assert list(player.behaviors) == [NAME]
    assert isinstance(player.behaviors[NAME], BehaviorSpec)
    assert len(player.steps(NAME)[0]) == 2
    port = player.port
    player.close()

    book = read_book(tmp_path / "game")
    assert book.of_kind("handshake") == [{"seed": 17, "areas": 2, "version": "1.5.0"}]
    assert [one["others"] for one in book.of_kind("start")] == [["--level", "2"]]
    assert {"name": "gravity", "value": -2.5} in book.of_kind("parameter")
    assert book.of_kind("parameter")[-1] == {"name": "wind", "value": 0.5}
    engine = {name: value for one in book.of_kind("engine") for name, value in one.items()}
    assert engine == {
        "resolution": [100, 50],
        "quality_level": 3,
        "time_scale": 5.0,
        "target_frame_rate": -1,
        "capture_frame_rate": 60,
    }
    assert book.of_kind("quit") == [{"status": 400}]
    assert (tmp_path / "logs" / f"Player-{port}.log").read_text().startswith("The game starts")
    assert player.log_tail[-1] == "Python closes."


def test_the_waiting_editor_is_joined_on_its_port(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with attached_player(tmp_path, port) as process:
        player = UnityPlayer(UnityLaunch(file=None, port=port, timeout=30.0))
        assert f"Waiting on port {port} for the Unity Editor: press Play" in caplog.text
        assert player.pid is None
        player.reset()
        step(player, 60)
        player.close()
        assert process.wait(timeout=10) == 0
    assert [episode.decisions for episode in read_book(tmp_path).episodes] == [50]


def test_users_channels_work_beside_ours_and_their_list_stays(tmp_path: Path) -> None:
    raw, statistics = RawBytesChannel(UUID(str(channels.OWN))), StatsSideChannel()
    given: list[SideChannel] = [raw, statistics]
    player = UnityPlayer(
        UnityLaunch(file=make_player(tmp_path, foreign_channel=True, statistics=True, horizons=(5,))), given
    )
    raw.send_raw_data(b"hello")
    player.reset()
    step(player, 12)
    found = player.drain_statistics()
    player.close()

    assert given == [raw, statistics]
    assert {"channel": str(channels.OWN), "content": b"hello".hex()} in read_book(tmp_path).of_kind("message")
    assert len(raw.get_and_clear_received_messages()) > 10
    assert found["Reach/Ends"] == 2.0
    assert len(statistics.get_and_reset_stats()["Reach/Ends"]) == 2
    assert player.drain_statistics() == {}


def test_messages_of_unknown_channels_are_dropped_quietly(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    player = UnityPlayer(UnityLaunch(file=make_player(tmp_path, foreign_channel=True)))
    player.reset()
    step(player, 20)
    player.close()
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_statistics_are_aggregated_as_the_game_says() -> None:
    channel = StatisticsChannel()
    for value in (1.0, 2.0, 6.0):
        channel.on_message_received(statistic("mean", value, StatsAggregationMethod.AVERAGE))
        channel.on_message_received(statistic("last", value, StatsAggregationMethod.MOST_RECENT))
        channel.on_message_received(statistic("sum", value, StatsAggregationMethod.SUM))
        channel.on_message_received(statistic("histogram", value, StatsAggregationMethod.HISTOGRAM))
    assert channel.drain() == {"mean": 3.0, "last": 6.0, "sum": 9.0, "histogram": 3.0}
    assert channel.drain() == {}


def test_channels_that_exclude_each_other_are_refused() -> None:
    launch = UnityLaunch(file=None)
    two = [RawBytesChannel(UUID(int=1)), RawBytesChannel(UUID(int=1))]
    with pytest.raises(InvalidInputError, match="Two side channels have the id"):
        Channels.of(launch, two)
    with pytest.raises(InvalidInputError, match="got str"):
        Channels.of(launch, ["engine"])


@pytest.mark.parametrize(
    "block", [b"short", bytes(16) + b"\x05\0\0\0" + b"abc", bytes(16) + b"\xff\xff\xff\xff"], ids=["id", "text", "sign"]
)
def test_a_message_that_is_cut_off_is_noticed(block: bytes) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        Channels.of(UnityLaunch(file=None), []).receive(block)


def test_a_closed_player_says_so(tmp_path: Path) -> None:
    player = UnityPlayer(UnityLaunch(file=make_player(tmp_path)))
    player.close()
    assert player.closed
    assert player.pid is None
    for call in (player.reset, player.exchange, lambda: player.steps(NAME), lambda: player.behaviors):
        with pytest.raises(RLFrameworkError, match="closed; open it anew"):
            call()


def test_what_describes_a_player_imports_neither_grpc_nor_ml_agents() -> None:
    code = (
        "import sys, rl_framework.envs.unity.launch, rl_framework.envs.unity.player, rl_framework.errors\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('grpc', 'google', 'mlagents_envs', 'PIL')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("missing", ["mlagents_envs", "grpc"])
def test_a_missing_package_names_the_extra(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from rl_framework.envs.unity.launch import UnityLaunch\n"
        "from rl_framework.envs.unity.player import UnityPlayer\n"
        "from rl_framework.errors import MissingExtraError\n"
        "try:\n    UnityPlayer(UnityLaunch(file=None))\nexcept MissingExtraError as error:\n    print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'rl_framework[unity]'" in found
