"""Store and forward at the source's side: what the hub cannot be told now is kept on the disk, and told later.

    source -> door (HTTP, or NDJSON) -> outbox -> hub, by batches, the urgent first

An event is acknowledged once it is durable here, and leaves the outbox once the hub says that it is durable there. Sent
twice, it is one event to the hub, by source and id: nothing is lost, nothing doubled.
"""
