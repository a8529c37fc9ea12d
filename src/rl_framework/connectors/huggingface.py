"""The Hugging Face Hub as a store of agents, and as the place where a run's numbers end up with its agent.

A repository holds, beside what others put there:

```
...                         the newest agent, its card README.md and its replay.mp4 among it
.rl_framework.json          what of all this was pushed from here
checkpoints/<steps>/...     agents pushed during a training, each with its own list
reports/<run>/log.jsonl     the run's numbers, texts and parameters; its videos and other files beside it
```
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from typing_extensions import Self, override

from rl_framework.checkpoints.archive import replace_in_one_step
from rl_framework.checkpoints.zip_files import unpack
from rl_framework.connectors.hub_client import HubClient, is_passing
from rl_framework.connectors.hub_pull import HubPull
from rl_framework.connectors.hub_push import CHECKPOINTS, HubPush, place_of
from rl_framework.connectors.local import History, LocalConnector
from rl_framework.connectors.outbox import Outbox
from rl_framework.connectors.outbox_entry import Push
from rl_framework.connectors.remote import RemoteConnector
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.connectors.user_folders import cache_folder, data_folder
from rl_framework.errors import InvalidInputError, UnknownOptionError

DEFAULT_BRANCH = "main"
REPORTS = "reports"
CACHE_VARIABLE = "RL_FRAMEWORK_CACHE"
REPOSITORY_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


class HuggingFaceConnector(RemoteConnector):
    """Keeps agents in a repository of the Hugging Face Hub: one push is one commit.

    Numbers are written to a file on this machine, which goes with the next push; no request is made for them.

    Args:
        repository_id: `owner/name`. It is made with the first push.
        revision: Branch to push to and to pull from (there also a tag or commit); `main` unless given.
        token: Lets in; unless given, the one from `HF_TOKEN` or `hf auth login`. It is not written anywhere.
        endpoint: The Hub's address; `HF_ENDPOINT` or the public Hub unless given.
        private: Whether a repository that is made here can be seen by its owner only.
        outbox: Where pushes wait; the user's own unless given.
        retry_policy: How often and how long a request is tried again before a push waits in the outbox.
        reports_folder: Where the run's numbers wait for the next push; the user's data folder unless given.

    Raises:
        InvalidInputError: The repository is not named `owner/name`, the endpoint holds a password, or the token cannot
            be one.
        MissingExtraError: `huggingface_hub` is not installed.
    """

    service = "Hugging Face Hub"
    has_pages = True

    def __init__(
        self,
        repository_id: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        endpoint: str | None = None,
        private: bool = False,
        outbox: Outbox | None = None,
        retry_policy: RetryPolicy | None = None,
        reports_folder: Path | str | None = None,
    ) -> None:
        super().__init__(outbox=outbox, retry_policy=retry_policy)
        self.repository_id = _check_repository(repository_id)
        self.revision = revision or DEFAULT_BRANCH
        self.private = private
        self._given_endpoint = _check_endpoint(endpoint)
        self._client = HubClient(repository_id, endpoint=endpoint, token=_check_token(token))
        self._pushing = HubPush(self._client, self.revision, private=private)
        self._pulling = HubPull(self._client, Path(os.environ.get(CACHE_VARIABLE) or cache_folder()), self.attempt)
        self._run = Path(reports_folder or data_folder() / REPORTS) / repository_id.replace("/", "--") / _new_name()
        self._log = LocalConnector(self._run / REPORTS / self._run.name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.repository_id!r}, revision={self.revision!r})"

    @property
    def destination(self) -> str:
        """Repository and branch, with the Hub's address."""
        return f"{self._client.endpoint}/{self.repository_id}@{self.revision}"

    @property
    @override
    def uri(self) -> str:
        """`hf://owner/name`, with the branch where it is not the default one."""
        branch = "" if self.revision == DEFAULT_BRANCH else f"@{self.revision}"
        return f"hf://{self.repository_id}{branch}"

    def settings(self) -> dict[str, Any]:
        """Everything but the token."""
        return {
            "repository_id": self.repository_id,
            "revision": self.revision,
            "endpoint": self._given_endpoint or self._client.endpoint,
            "private": self.private,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The connector that `settings` describes.

        Raises:
            UnknownOptionError: A setting of another version of this library.
        """
        known = ("repository_id", "revision", "endpoint", "private")
        for name in settings:
            if name not in known:
                raise UnknownOptionError.of("setting of a HuggingFaceConnector", name, known)
        return cls(**settings)

    def find_push(self, push_id: str) -> str | None:
        """The place of the commit whose description names the push."""
        commit = self._client.find_push(push_id, self.revision)
        return None if commit is None else self._location(commit)

    @override
    def is_transient(self, error: Exception) -> bool:
        """Also what the client's HTTP library calls a broken connection."""
        return is_passing(error)

    @override
    def redact(self, text: str) -> str:
        """Without the token."""
        return self._client.redact(text)

    def download_checkpoint(self, step: int, destination: Path | None = None, *, revision: str | None = None) -> Path:
        """Give back a checkpoint that was pushed during a training; else as `download`."""
        place, wanted = place_of(step), revision or self.revision
        return self.attempt(
            lambda: self._pulling.folder(destination, wanted, place), f"download {place} from {self.destination}"
        )

    def checkpoint_steps(self, revision: str | None = None) -> list[int]:
        """The steps of the checkpoints in the repository, smallest first."""
        wanted = revision or self.revision
        files = self.attempt(
            lambda: self._client.files(self._client.commit_of(wanted)), f"list the checkpoints of {self.destination}"
        )
        names = {path.split("/")[1] for path in files if path.startswith(f"{CHECKPOINTS}/")}
        return sorted(int(name) for name in names if name.isdecimal())

    def commit_of(self, revision: str | None = None) -> str:
        """The commit that a branch or tag means now; if the Hub is out of reach, when it was last asked for.

        Raises:
            ConnectorError: There is no such repository or revision.
        """
        wanted = revision or self.revision
        return self.attempt(lambda: self._pulling.commit_of(wanted), f"look up {self.repository_id}@{wanted}")

    def files(self, revision: str | None = None) -> list[str]:
        """The paths of all files of the repository, whoever put them there; nothing is downloaded.

        Raises:
            ConnectorError: There is no such repository or revision.
            UnsafeArchiveError: A name leads elsewhere.
        """
        wanted = revision or self.revision
        return self.attempt(lambda: self._pulling.names(wanted), f"list {self.repository_id}@{wanted}")

    def fetch_file(self, name: str, *, revision: str | None = None) -> Path:
        """One file of the repository, whoever put it there, checked against its commit; not to be changed.

        Raises:
            ConnectorError: There is no such file, or the Hub is out of reach and it is not in the cache.
            UnsafeArchiveError: Its name or a link leads elsewhere.
            CorruptArchiveError: It is not what the commit says.
        """
        wanted = revision or self.revision
        return self.attempt(lambda: self._pulling.file(name, wanted), f"download {name} from {self.destination}")

    @override
    def find_file(self, name: str, *, revision: str | None = None) -> Path | None:
        """As `fetch_file`, but None if there is no such file, or no such repository or branch yet."""
        wanted = revision or self.revision
        return self.attempt(lambda: self._pulling.find(name, wanted), f"look for {name} in {self.destination}")

    def fetch_archive(self, name: str, destination: Path, *, revision: str | None = None) -> Path:
        """What is in a zip file of the repository, for example a model that Stable-Baselines3 has saved.

        Nothing of it is executed; a pickle stays a file.

        Args:
            name: Of the zip file.
            destination: A folder that does not exist yet, or is empty.
            revision: A commit, branch or tag; the connector's unless given.

        Raises:
            InvalidInputError: There is something at the destination.
            UnsafeArchiveError: An entry would leave the folder, is a link, or would fill the disk. Nothing was written.
            CorruptArchiveError: It is no zip file, or a damaged one.
            ConnectorError: As `fetch_file`.
        """
        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise InvalidInputError(f"Expected a new or empty folder to extract {name} into, got {destination}.")
        file = self.fetch_file(name, revision=revision)
        replace_in_one_step(destination, lambda folder: _extract(file, folder), own_files=lambda _: ())
        return destination

    def log_value(self, name: str, value: float, step: int | None = None) -> None:
        """Note one number for the next push."""
        self._log.log_value(name, value, step)

    def log_values_with_step(self, values: Mapping[str, float], step: int) -> None:
        """Note several numbers for the next push."""
        self._log.log_values_with_step(values, step)

    def log_text(self, name: str, text: str, step: int | None = None) -> None:
        """Note a text for the next push."""
        self._log.log_text(name, text, step)

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Note the set-up for the next push."""
        self._log.log_parameters(parameters)

    def log_video(self, name: str, path: Path, step: int | None = None) -> None:
        """Keep a video for the next push."""
        self._log.log_video(name, path, step)

    def log_artifact(self, name: str, path: Path) -> None:
        """Keep a file for the next push."""
        self._log.log_artifact(name, path)

    def flush(self) -> None:
        """Make sure that the numbers survive a power cut; they go with the next push."""
        self._log.flush()

    def read_values(self) -> History:
        """All numbers that this connector has noted, by name."""
        return self._log.read_values()

    def companions(self) -> Path | None:
        """The run's reports, if there are any."""
        return self._run if self._log.folder.is_dir() else None

    def _push(self, push: Push) -> str:
        return self._location(self._pushing.push(push))

    def _pull(self, destination: Path | None, revision: str | None) -> Path:
        return self._pulling.folder(destination, revision or self.revision)

    def _location(self, commit: str) -> str:
        return f"hf://{self.repository_id}@{commit}"


def _check_repository(name: str) -> str:
    """Refuse early what the client would refuse late, and names that are paths."""
    if not REPOSITORY_NAME.fullmatch(name) or ".." in name or "--" in name:
        raise InvalidInputError(f"Expected a repository as 'owner/name', got {name!r}.")
    return name


def _check_endpoint(endpoint: str | None) -> str | None:
    """Refuse an address with a password in it: it would be written into the outbox and into messages."""
    if endpoint is not None and (urlsplit(endpoint).password or urlsplit(endpoint).username):
        raise InvalidInputError("Expected the Hub's address without user and password; give the token as `token`.")
    return endpoint


def _check_token(token: str | None) -> str | None:
    """Refuse what no request can carry: the HTTP library would repeat it in its error."""
    cleaned = token.strip() if token else None
    if cleaned is not None and not re.fullmatch(r"[!-~]+", cleaned):
        raise InvalidInputError("Expected a token of plain characters without spaces; the given one has others.")
    return cleaned


def _new_name() -> str:
    """A run's name: when it began, and something that keeps two of the same second apart."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _extract(file: Path, folder: Path) -> None:
    folder.mkdir()
    unpack(file, folder)
