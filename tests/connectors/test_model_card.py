"""The card of a saved agent tells what its files tell, and keeps what people wrote into it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rl_framework.checkpoints.manifest import Manifest
from rl_framework.connectors.model_card import BEGIN, CARD_FILE, END, CardSubject, make_card, merge_cards, write_card
from rl_framework.core.training_history import CurvePoint, TrainingCall, TrainingHistory
from rl_framework.errors import MissingArchiveError

URI = "hf://me/cartpole-ppo"
RESULTS = {
    "mean_reward": 487.5,
    "std_reward": 12.5,
    "mean_reward_interval": [480.0, 494.0],
    "interquartile_mean_reward": 499.0,
    "n_eval_episodes": 20,
    "is_deterministic": False,
    "seed": 7,
    "environment_id": "CartPole-v1",
}
HISTORY = TrainingHistory(
    calls=(
        TrainingCall(
            started="2026-01-01T00:00:00+00:00",
            first_timesteps=0,
            last_timesteps=50_000,
            target_timesteps=50_000,
            duration_seconds=61.0,
            n_envs=8,
            environment_id="CartPole-v1",
        ),
    ),
    curve=(CurvePoint(timesteps=1000, mean_return=20.0),),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    agent = tmp_path / "agent"
    agent.mkdir()
    (agent / "results.json").write_text(json.dumps(RESULTS))
    (agent / "history.json").write_text(json.dumps(HISTORY.to_json()))
    (agent / "replay.mp4").write_bytes(b"not really")
    Manifest(
        kind="stable_baselines",
        algorithm="stable_baselines3.ppo.ppo:PPO",
        parameters={"n_steps": 128, "seed": 3, "policy_kwargs": {"net_arch": "a|b"}},
        timesteps=50_000,
        notes={"environment_id": "CartPole-v1"},
    ).write(agent)
    return agent


def head_of(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_the_head_has_what_pages_and_leaderboards_read(folder: Path) -> None:
    head = head_of(write_card(folder, URI, license_name="mit").read_text())

    assert head["library_name"] == "rl_framework"
    assert head["license"] == "mit"
    assert {"CartPole-v1", "deep-reinforcement-learning", "reinforcement-learning"} <= set(head["tags"])
    [entry] = head["model-index"]
    [result] = entry["results"]
    assert entry["name"] == "PPO"
    assert result["dataset"] == {"name": "CartPole-v1", "type": "CartPole-v1"}
    assert result["metrics"][0]["type"] == "mean_reward"
    assert result["metrics"][0]["value"] == "487.50 +/- 12.50"


def test_a_model_of_stable_baselines_is_announced_as_one(folder: Path) -> None:
    (folder / "model.zip").touch()

    assert head_of(write_card(folder, URI).read_text())["library_name"] == "stable-baselines3"


def test_the_body_tells_how_it_was_trained_and_how_good_it_is(folder: Path) -> None:
    card = write_card(folder, URI).read_text()

    for told in (
        "PPO",
        "50,000",
        "61 s",
        "480.00 to 494.00",
        "n_steps | `128`",
        "| 20 |",
    ):
        assert told in card
    assert "sampled from its policy" in card
    assert "[A replay](replay.mp4)" in card
    assert "learning_curve.png" not in card
    assert "has not chosen a licence" in card
    assert "a\\|b" in card
    code = re.search(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert code
    assert f"load_agent('{URI}')" in code.group(1)


def test_an_agent_that_was_not_evaluated_says_so(folder: Path) -> None:
    (folder / "results.json").unlink()
    card = write_card(folder, URI).read_text()

    assert "not evaluated" in card
    assert "model-index" not in head_of(card)


def test_an_empty_folder_gets_no_card(tmp_path: Path) -> None:
    with pytest.raises(MissingArchiveError):
        write_card(tmp_path, URI)
    assert not (tmp_path / CARD_FILE).exists()


class TestMerge:
    def make(self, folder: Path) -> str:
        return make_card(CardSubject.of(folder), URI)

    def test_text_outside_the_marks_stays(self, folder: Path) -> None:
        old = self.make(folder).replace(BEGIN, f"My preface.\n\n{BEGIN}") + "\nMy notes.\n"
        (folder / "results.json").write_text(json.dumps({**RESULTS, "mean_reward": 100.0}))
        merged = merge_cards(old, self.make(folder))

        assert merged.index("My preface.") < merged.index(BEGIN) < merged.index(END) < merged.index("My notes.")
        assert "100.00 ±" in merged
        assert "487.5" not in merged
        assert merge_cards(merged, self.make(folder)) == merged

    def test_a_card_without_marks_is_kept_whole(self, folder: Path) -> None:
        merged = merge_cards("# Mine\n\nWritten by hand.\n", self.make(folder))

        assert merged.index(END) < merged.index("# Mine")
        assert "Written by hand." in merged
        assert merged.count("---\n") == 2

    def test_own_entries_and_tags_of_the_head_stay(self, folder: Path) -> None:
        old = "---\nlicense: apache-2.0\nlanguage: en\ntags:\n- mine\n- CartPole-v1\nlibrary_name: other\n---\n# Mine\n"
        head = head_of(merge_cards(old, self.make(folder)))

        assert (head["license"], head["language"], head["library_name"]) == ("apache-2.0", "en", "rl_framework")
        assert head["tags"].count("CartPole-v1") == 1
        assert "mine" in head["tags"]

    @pytest.mark.parametrize(
        "damaged", ["---\n[a, b\n---\ntext", "---\nno end", "---\n- a\n- b\n---\ntext"], ids=range(3)
    )
    def test_a_damaged_head_is_kept_as_text(self, folder: Path, damaged: str) -> None:
        merged = merge_cards(damaged, self.make(folder))

        assert damaged.strip() in merged
        assert head_of(merged)["library_name"] == "rl_framework"
