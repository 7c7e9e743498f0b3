"""The heavier derived views: folded behind the log's back, by whichever process takes it on.

`index` brings the index of disclosures by person along; `follower` does it beside the hub's own work, on one of its
processes; `group` on several, as a consumer group over the relay's topic.
"""
