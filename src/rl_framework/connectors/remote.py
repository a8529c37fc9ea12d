"""What connectors to services on a network have in common: retries, the outbox, and errors without secrets.

A connector fills in a few blanks; see `RemoteConnector`. Whatever it uploads is first put into the outbox and then
sent from there, so that a failing network, or a process that is killed, loses nothing, and nothing arrives twice.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from typing_extensions import Self

from rl_framework.connectors.base import Connector, check_folder
from rl_framework.connectors.courier import Courier
from rl_framework.connectors.outbox import Delivery, Outbox
from rl_framework.connectors.outbox_entry import Address, Entry, Push
from rl_framework.connectors.retries import RetryPolicy, causes_of, is_passing_failure, retry
from rl_framework.core.references import reference_to
from rl_framework.errors import ConnectorError, RLFrameworkError, UnreachableServiceError

Result = TypeVar("Result")

LOCK_PATIENCE = 60.0
CLOSE_PATIENCE = 120.0

_log = logging.getLogger(__name__)


class RemoteConnector(Connector):
    """A connector to a service that may be out of reach.

    A subclass says how one push is made (`_push`), how one that may have arrived is found (`find_push`), how a
    folder comes back (`_pull`), and by which settings another process makes the same connector (`settings`,
    `from_settings`). It raises its client's own errors; here they are judged by `is_transient`, tried again, and
    turned into errors of this library.

    Args:
        outbox: Where pushes wait; the user's own unless given.
        retry_policy: How often and how long a request is tried again before a push waits in the outbox.
    """

    service: ClassVar[str]
    """The service's name, for messages."""

    def __init__(self, *, outbox: Outbox | None = None, retry_policy: RetryPolicy | None = None) -> None:
        self.outbox = outbox or Outbox()
        self.retry_policy = retry_policy or RetryPolicy()
        self._courier = Courier(self._send_in_background)

    @property
    @abstractmethod
    def destination(self) -> str:
        """Names the place for people; pushes to equal destinations keep their order."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What `from_settings` needs to reach the same place: JSON values, no secrets."""

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The connector that `settings` describes; tokens come from where the client finds them.

        Raises:
            RLFrameworkError: It cannot be made here.
        """

    @abstractmethod
    def _push(self, push: Push) -> str:
        """Bring a push to the service in one step that others see whole or not at all.

        It may be called again after a failure of which nobody knows whether it came before or after that step;
        `find_push` has then not found it.

        Returns:
            Where it went, for people.
        """

    @abstractmethod
    def find_push(self, push_id: str) -> str | None:
        """Where a push of this id went; None if it did not arrive."""

    @abstractmethod
    def _pull(self, destination: Path | None, revision: str | None) -> Path:
        """Give back a folder, as `Store.download` says; a destination appears whole or not at all."""

    def is_transient(self, error: Exception) -> bool:
        """Whether an error of the client may pass by waiting: 429, 5xx, connections cut, refused or too slow.

        A subclass adds the connection errors that its client does not derive from the standard library's.
        """
        return is_passing_failure(error)

    def explain(self, error: Exception) -> str:
        """An error of the client, with what caused it, for people and without secrets."""
        parts = dict.fromkeys(" ".join(f"{type(part).__name__}: {part}".split()) for part in causes_of(error))
        return self.redact(" Caused by ".join(parts))

    def redact(self, text: str) -> str:
        """A text without the secrets that this connector knows; a subclass that knows some takes them out."""
        return text

    def upload(self, folder: Path, *, message: str | None = None) -> str:
        """Bring a folder to the service, after those that wait in the outbox for the same place.

        Returns:
            Where it went; `outbox:<id>` if it waits, which is also logged as a warning.

        Raises:
            MissingArchiveError: No such folder.
            ConnectorError: The service refuses it for good (no permission, no such place, content that it does not
                take), or it can neither be sent nor kept. It does not wait in the outbox then.
        """
        entry = self._put(folder, message, None)
        return self._outcome(entry, self._deliveries(entry))

    def push_checkpoint(self, folder: Path, step: int, *, message: str | None = None, wait: bool = True) -> str:
        """Bring a checkpoint of a training to the service, beside the agent; else as `upload`.

        Args:
            folder: The saved agent.
            step: Its timesteps; a later checkpoint of the same number takes its place.
            message: A sentence about it, for people.
            wait: Whether to return only when it has arrived. If not, it is put into the outbox and sent from a thread
                of its own; `close` waits for that. Nothing raises then: also a push that is refused for good is
                told as a warning, and stays in the outbox.
        """
        entry = self._put(folder, message, step)
        if wait:
            return self._outcome(entry, self._deliveries(entry))
        self._courier.hand_over(entry)
        return f"outbox:{entry.id}"

    def close(self) -> None:
        """Wait for the pushes that are on their way; a subclass that frees more does so after calling this."""
        if not self._courier.finish(CLOSE_PATIENCE):
            _log.warning(
                "%s still has pushes on their way after %.0f seconds. They stay in the outbox %s until they have "
                "arrived. Send them later with: rl-framework outbox send",
                self.destination,
                CLOSE_PATIENCE,
                self.outbox.folder,
            )

    def download(self, destination: Path | None = None, *, revision: str | None = None) -> Path:
        """Give back a folder; what is at the destination is replaced once it is complete."""
        return self.attempt(lambda: self._pull(destination, revision), f"download from {self.destination}")

    def deliver(self, push: Push) -> str:
        """Bring a push of the outbox to the service, unless it is there already.

        Raises:
            UnreachableServiceError: Not now; later it may work.
            ConnectorError: The service refuses it for good.
        """
        unsure = push.may_have_arrived

        def once() -> str:
            nonlocal unsure
            found = self.find_push(push.id) if unsure else None
            if found is None:
                unsure = True
                found = self._push(push)
            return found

        return self.attempt(once, f"push to {self.destination}")

    def attempt(self, action: Callable[[], Result], what: str) -> Result:
        """Do something with the client, again if need be, and give its errors as this library's.

        Args:
            action: What to do. Errors of this library that it raises are neither tried again nor translated.
            what: The same in words, `"push to ..."`.

        Raises:
            UnreachableServiceError: It failed in a way that may pass.
            ConnectorError: It failed for good.
            RLFrameworkError: The action itself raised it.
        """
        try:
            return retry(action, self.retry_policy, is_transient=self._is_worth_another_attempt)
        except RLFrameworkError:
            raise
        except Exception as error:  # noqa: BLE001  (clients raise anything)
            raise self._translated(error, what) from self._presentable(error)

    def address(self) -> Address:
        """How another process makes this connector again."""
        return Address(
            connector=reference_to(type(self)),
            settings=self.settings(),
            destination=f"{self.service} {self.destination}",
        )

    def companions(self) -> Path | None:
        """A folder whose files go with the next push without being part of the agent: the run's reports."""
        return None

    def _put(self, folder: Path, message: str | None, step: int | None) -> Entry:
        companions = self.companions()
        return self.outbox.put(self.address(), check_folder(folder), message, step=step, companions=companions)

    def _deliveries(self, entry: Entry) -> list[Delivery]:
        return self.outbox.send_through(self, entry, patience=LOCK_PATIENCE)

    def _send_in_background(self, entry: Entry) -> None:
        deliveries = self._deliveries(entry)
        if deliveries and deliveries[-1].error is not None:
            self._waits(entry, deliveries[-1])

    def _outcome(self, entry: Entry, deliveries: list[Delivery]) -> str:
        last = deliveries[-1] if deliveries else None
        if last is None or (last.error is None and last.entry.id != entry.id):
            return self._sent_by_another(entry)
        if last.location is not None:
            return last.location
        if last.entry.id != entry.id or isinstance(last.error, UnreachableServiceError):
            return self._waits(entry, last)
        self.outbox.discard(entry.id)
        raise last.error or ConnectorError(f"{self.service} did not take it.")

    def _waits(self, entry: Entry, obstacle: Delivery) -> str:
        """Tell that a push waits, and behind what."""
        reason = f"{obstacle.error}"
        if obstacle.entry.id != entry.id:
            reason = (
                f"an earlier one, {obstacle.entry.id}, has to go first ({reason}). If it can never be sent, remove it "
                f"with: rl-framework outbox discard {obstacle.entry.id}"
            )
        _log.warning(
            "The push %s to %s waits in the outbox %s: %s Send it later with: rl-framework outbox send",
            entry.id,
            self.destination,
            self.outbox.folder,
            reason if reason.endswith((".", ":")) else f"{reason}.",
        )
        return f"outbox:{entry.id}"

    def _sent_by_another(self, entry: Entry) -> str:
        """Another process has emptied the outbox meanwhile, this push included; ask where it went."""
        what = f"look for the push {entry.id} in {self.destination}"
        try:
            found = self.attempt(lambda: self.find_push(entry.id), what)
        except UnreachableServiceError:
            found = None
        return found or f"{self.service} {self.destination}"

    def _is_worth_another_attempt(self, error: Exception) -> bool:
        return not isinstance(error, RLFrameworkError) and self.is_transient(error)

    def _translated(self, error: Exception, what: str) -> ConnectorError:
        reason = self.explain(error)
        if self.is_transient(error):
            return UnreachableServiceError(f"Could not {what}: {self.service} cannot be reached now. {reason}")
        return ConnectorError(f"Could not {what}: {reason}")

    def _presentable(self, error: Exception) -> Exception | None:
        """The error as a cause to show, unless it or one of its own causes tells a secret."""
        told = [f"{part} {part!r}" for part in causes_of(error)]
        return error if all(self.redact(text) == text for text in told) else None
