"""Membrain: KV-cache blocks shared by every worker of an LLM inference cluster."""

from membrain.client import Client
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
from membrain.sync_client import SyncClient
from membrain.values import Block, Match, Namespace, Outcome, Report

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
