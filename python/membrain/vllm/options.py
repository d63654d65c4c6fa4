"""The connector's own options, checked before anything depends on them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from membrain.core import config_of
from membrain.errors import InvalidArgument


DAY = 86_400


class WrongSetting(ValueError):
    """The engine cannot run with this: what is wrong, and what to change."""


@dataclass(frozen=True)
class Options:
    """`kv_connector_extra_config`, by name."""

    server: str = "127.0.0.1:9201"
    secret_file: str = ""  # else the environment's MEMBRAIN_SECRET
    tenant: str = "default"
    weights_version: str = ""  # changes when weights are updated in place
    lookup_timeout: float = 0.5  # seconds, then it is a miss
    load_timeout: float = 10.0  # seconds, then its blocks have failed
    hold_timeout: float = 30.0  # seconds that blocks stay pinned for a request that waits
    min_hit_tokens: int = 0  # shorter hits are computed
    max_save_bytes: int = 256 << 20  # that wait to be stored, of each worker; beyond it none do
    allow_fail_policy: bool = False  # accept kv_load_failure_policy "fail"
    events: bool = False  # BlockStored events for what was stored
    client: Mapping[str, Any] = field(default_factory=dict)  # fields of membrain's ClientConfig

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Options:
        unknown = sorted(set(words) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(sorted(cls.__dataclass_fields__))
            raise WrongSetting(
                f"kv_connector_extra_config has {', '.join(unknown)}, which Membrain does not"
                f" know; there are: {known}"
            )
        for one in fields(cls):
            if one.name in words:
                _check_kind(one.name, words[one.name], one.default)
        options = cls(**words)
        for name in ("lookup_timeout", "load_timeout", "hold_timeout", "max_save_bytes"):
            if not getattr(options, name) > 0:
                raise WrongSetting(f"kv_connector_extra_config: {name} must be positive")
            if name != "max_save_bytes" and getattr(options, name) > DAY:
                raise WrongSetting(f"kv_connector_extra_config: {name} is at most a day, {DAY} s")
        if options.min_hit_tokens < 0:
            raise WrongSetting("kv_connector_extra_config: min_hit_tokens must not be negative")
        _check_client(options)
        options.secret()  # that it can be had
        return options

    def secret(self) -> str:
        if not self.secret_file:
            return os.environ.get("MEMBRAIN_SECRET", "")
        try:
            return Path(self.secret_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise WrongSetting(
                f"secret_file {self.secret_file} cannot be read ({error}): give a file with"
                " the cluster's secret, or set MEMBRAIN_SECRET instead"
            ) from error


_KINDS = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


def _check_kind(name: str, value: Any, default: Any) -> None:
    """JSON has its own ideas of what "10" is, and of 10."""
    if default is MISSING:
        fine, kind = isinstance(value, Mapping), "an object"
    else:
        kind = _KINDS[type(default)]
        fine = isinstance(value, (int, float) if isinstance(default, float) else type(default))
        fine = fine and isinstance(value, bool) == isinstance(default, bool)
    if not fine:
        raise WrongSetting(f"kv_connector_extra_config: {name} is {kind}, not {value!r}")


def _check_client(options: Options) -> None:
    """What can be known of the client's configuration before there is a server."""
    host, _, port = options.server.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise WrongSetting(
            f'kv_connector_extra_config: server is "{options.server}", and not HOST:PORT, as in'
            ' "10.0.0.7:9201"'
        )
    try:
        config_of(options.server, options.client)
    except InvalidArgument as error:
        raise WrongSetting(f"kv_connector_extra_config: client: {error}") from error
