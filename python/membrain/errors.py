"""What can go wrong, as a small family: catch MembrainError for all of it."""

from __future__ import annotations

from membrain import _native


class MembrainError(Exception):
    """Something did not work. `code` is its name in C++ ("peer_lost")."""

    code = "unknown"


class InvalidArgument(MembrainError, ValueError):
    """The request itself is wrong: fix the call."""

    code = "invalid_argument"


class NotFound(MembrainError, LookupError):
    """Nobody holds it: recompute."""

    code = "not_found"


class Stale(MembrainError):
    """It was taken away or cleared since it was looked up: look up again, or recompute."""

    code = "stale"


class PeerLost(MembrainError, ConnectionError):
    """The other process died, or the connection broke."""

    code = "peer_lost"


class OutOfCapacity(MembrainError):
    """A bound was reached: shed, or try later."""

    code = "out_of_capacity"


class TimedOut(MembrainError, TimeoutError):
    """The deadline passed; no byte can land any more."""

    code = "timed_out"


class Corrupt(MembrainError):
    """Bytes or a frame failed their check: nothing of it was used."""

    code = "corrupt"


class Denied(MembrainError, PermissionError):
    """The proof or the grant was not accepted: is the secret the cluster's?"""

    code = "denied"


class Unavailable(MembrainError, ConnectionError):
    """The cluster cannot be reached now: go on without it."""

    code = "unavailable"


class Cancelled(MembrainError):
    """It was taken back; no byte can land any more."""

    code = "cancelled"


class Closed(MembrainError, RuntimeError):
    """The client was closed."""

    code = "closed"


class WrongProcess(MembrainError, RuntimeError):
    """A client does not survive a fork: open one in the process that uses it."""

    code = "wrong_process"


_BY_NAME: dict[str, type[MembrainError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        NotFound,
        Stale,
        PeerLost,
        OutOfCapacity,
        TimedOut,
        Corrupt,
        Denied,
        Unavailable,
        Cancelled,
    )
}


def name_of(number: int) -> str:
    """ "ok" for 0, else the name of an error."""
    return "ok" if number == 0 else _native.ERRORS.get(number, "unknown")


def error_of(number: int, words: str) -> MembrainError:
    name = name_of(number)
    return _BY_NAME.get(name, MembrainError)(words or name)
