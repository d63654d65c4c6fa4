"""The way to the cluster: a client and the groups' namespaces, as soon as they can be had."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from membrain.errors import Denied, InvalidArgument, MembrainError
from membrain.polled_client import PolledClient
from membrain.values import Namespace
from membrain.vllm.options import WrongSetting
from membrain.vllm.plan import Fields
from membrain.vllm.settings import Settings

log = logging.getLogger("membrain.vllm")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between attempts


@dataclass(frozen=True)
class Opened:
    """`client` is a PolledClient, or what a test has in its place."""

    client: Any
    spaces: tuple[Namespace, ...]  # of the groups, in their order


def connect(settings: Settings, label: str, devices: Sequence[int]) -> PolledClient:
    options = settings.options
    fields: dict[str, Any] = {
        "secret": options.secret(),
        "tenant": options.tenant,
        "label": label,
        "background_store_bytes": options.max_save_bytes,
        "devices": list(devices),
    }
    fields.update(options.client)
    return PolledClient.open(options.server, **fields)


def _hint(error: Exception) -> str:
    if isinstance(error, Denied):
        return "check the secret (MEMBRAIN_SECRET or secret_file) and the tenant"
    if isinstance(error, InvalidArgument | WrongSetting):
        return "correct kv_connector_extra_config, and start the engine again"
    return (
        "start it (membrain server --with-node 4GiB), or set"
        ' "server" in kv_connector_extra_config'
    )


class Link:
    """Until it is open, everything is a miss and nothing is saved. It is opened, and opened again
    when a namespace was cleared, by a thread of its own ("membrain-link"), which ends when there is
    nothing to open; the client reconnects by itself.

    Threads: any may call."""

    def __init__(
        self,
        settings: Settings,
        label: str,
        connector: Callable[[Settings, str, Sequence[int]], Any] = connect,
    ) -> None:
        self._settings = settings
        self._label = label
        self._connector = connector
        self._spaces: tuple[Fields, ...] = ()
        self._devices: tuple[int, ...] = ()
        self._client: Any = None
        self._opened: Opened | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._warned = False

    def start(self, spaces: Sequence[Fields], devices: Sequence[int] = ()) -> None:
        """Opens, now that it is known which namespace each group has."""
        self._spaces = tuple(spaces)
        self._devices = tuple(devices)
        self.reopen()

    @property
    def opened(self) -> Opened | None:
        return self._opened

    @property
    def client(self) -> Any:
        """Whose operations end also while the namespaces are opened again. None: none yet."""
        return self._client

    def reopen(self) -> None:
        """The namespaces are not what they were."""
        with self._lock:
            self._opened = None
            if self._closing.is_set() or self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="membrain-link", daemon=True)
            self._thread.start()

    def close(self) -> Any:
        """Returns the client, if there was one, for its owner to close."""
        with self._lock:
            self._closing.set()
            thread = self._thread
        if thread is not None:
            thread.join()
        with self._lock:
            self._opened = None
            client, self._client = self._client, None
        return client

    def attempt(self) -> bool:
        """Tries once."""
        try:
            if self._client is None:
                self._client = self._connector(self._settings, self._label, self._devices)
            spaces = tuple(
                self._client.sync.open_namespace(**dict(fields)) for fields in self._spaces
            )
        except (MembrainError, WrongSetting) as error:
            self._say(error)
            return False
        self._opened = Opened(self._client, spaces)
        log.info(
            "Membrain: %s uses %s, namespaces %s (equal where blocks are shared)",
            self._label,
            self._settings.options.server,
            ", ".join(f"{space.id:x}" for space in spaces),
        )
        if any(space.other_seed for space in spaces):
            log.warning(
                "Membrain: this model is cached under another hash seed, so these engines share"
                " nothing. Set the same PYTHONHASHSEED and --prefix-caching-hash-algo for all"
            )
        self._warned = False
        return True

    def _say(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        hint = _hint(error)
        log.warning(
            "Membrain: %s: %s. The engine runs on without the cache, and it is tried again; %s",
            self._settings.options.server,
            error,
            hint,
        )

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            done = self.attempt()
            with self._lock:
                # It may have been wanted again meanwhile.
                if self._closing.is_set() or (done and self._opened is not None):
                    self._thread = None
                    return
            if not done:
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
