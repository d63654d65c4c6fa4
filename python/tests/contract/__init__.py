"""A small engine that holds a KV connector to vLLM's contract, as strictly as vLLM itself does.

Scheduler, block pool and workers behave as vLLM's (V1, May 2026) where a connector can see it; the
"model" writes bytes that are a function of the tokens so far, and reads all that it attends to, so
that one wrong byte anywhere ends the run.
"""
