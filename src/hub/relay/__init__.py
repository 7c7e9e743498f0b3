"""Kafka: what goes out (`hub relay`) and what comes in (`hub ingest-kafka`). The one room that knows its client.

At least once, in the order of positions for each key: what is sent is stored as sent only after the broker said that
it has it, and what came in is ticked off only after it is durable.
"""
