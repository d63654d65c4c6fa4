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
from membrain.kv_cache_manager import MembrainKVCacheManager
from membrain.layout import Layout, Plane
from membrain.manager import MembrainManager, Tier
from membrain.polled_client import Completion, PolledClient
from membrain.store import MembrainStore
from membrain.sync_client import SyncClient
from membrain.tensors import BlockShape
from membrain.values import Block, Match, Namespace, Outcome, Report

__all__ = [
    "Block",
    "BlockShape",
    "Cancelled",
    "Client",
    "Closed",
    "Completion",
    "Corrupt",
    "Denied",
    "InvalidArgument",
    "Layout",
    "Match",
    "MembrainError",
    "MembrainKVCacheManager",
    "MembrainManager",
    "MembrainStore",
    "Namespace",
    "NotFound",
    "Outcome",
    "OutOfCapacity",
    "PeerLost",
    "Plane",
    "PolledClient",
    "Report",
    "Stale",
    "SyncClient",
    "Tier",
    "TimedOut",
    "Unavailable",
    "WrongProcess",
]
