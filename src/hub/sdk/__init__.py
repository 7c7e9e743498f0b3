"""The consumer's side of a stream: opens what comes by the topic `hub.view.<recipient>`, and forgets what it has to.

For programs of a recipient. It needs Python and `cryptography`, nothing else of the hub, and no Kafka client of its
own: whatever brings the records hands them to `View.take`.
"""

from hub.sdk.keys import ContentKey, HttpKeys, KeyGone, KeysAway, KeySource
from hub.sdk.record import MARK, bound_to, parse, topic_of
from hub.sdk.view import Taken, View

__all__ = [
    "MARK",
    "ContentKey",
    "HttpKeys",
    "KeyGone",
    "KeySource",
    "KeysAway",
    "Taken",
    "View",
    "bound_to",
    "parse",
    "topic_of",
]
