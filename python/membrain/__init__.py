"""Membrain: KV-cache blocks shared by every worker of an LLM inference cluster."""

from membrain.client import Block, Client, Match, Namespace, Outcome, Report, SyncClient
from membrain.errors import (
    Cancelled,
    Closed,
    Corrupt,
    Denied,
    InvalidArgument,
    MembrainError,
    NotFound,
    OutOfCapacity,
    PeerLost,
    Stale,
    TimedOut,
    Unavailable,
    WrongProcess,
)

__all__ = [
    "Block",
    "Cancelled",
    "Client",
    "Closed",
    "Corrupt",
    "Denied",
    "InvalidArgument",
    "Match",
    "MembrainError",
    "Namespace",
    "NotFound",
    "Outcome",
    "OutOfCapacity",
    "PeerLost",
    "Report",
    "Stale",
    "SyncClient",
    "TimedOut",
    "Unavailable",
    "WrongProcess",
]
