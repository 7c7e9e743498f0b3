"""The doors over HTTP: the API under /v1, streams, and operation. HTTP codes live here alone."""
