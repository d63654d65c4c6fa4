"""Membrain for vLLM: `MembrainConnector`, a KV connector of the V1 engine (docs/vllm.md)."""

from membrain.vllm.connector import MembrainConnector

__all__ = ["MembrainConnector"]
