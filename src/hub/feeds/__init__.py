"""What changed since, for each consumer of a view."""

from hub.feeds.feeds import Feeds, Message
from hub.feeds.rows import kept_feed

__all__ = ["Feeds", "Message", "kept_feed"]
