"""What can go wrong, by what the caller does next.

    HubError
    ├── PayloadError   the payload's fault: park it, tell its author
    ├── Refused        a rule says no: the caller changes the request or gives up
    │   └── Conflict   the id is taken by other content: the author chooses another id
    ├── Busy           the same call later will do
    │   └── Unavailable  a source does not answer now: it is asked again later
    ├── Unsigned       a webhook is not signed by its source: nothing of it is read
    ├── Misuse         a setting or a command is wrong: the operator mends it
    └── Tampered       the log does not prove itself: stop, wake a human

A message names file, connector, kind, field path or position. It never holds a
value of a person.
"""

from __future__ import annotations


class HubError(Exception):
    """Root of all errors that the hub raises on purpose."""


class PayloadError(HubError):
    """The payload does not say what its kind's schema holds.

    path: the field, as `to.recipient` or `areas[2]`; empty for the whole payload.
    reason: what is wrong, in words, without the value.
    """

    def __init__(self, reason: str, *, path: str = "", kind: str = "") -> None:
        self.reason = reason
        self.path = path
        self.kind = kind
        super().__init__(": ".join(part for part in (kind, path, reason) if part))

    def within(self, *, kind: str) -> PayloadError:
        """The same error, told of `kind`."""
        return PayloadError(self.reason, path=self.path, kind=kind)


class Refused(HubError):
    """Intake or disclosure says no, by a rule.

    rule: the rule's number, `R14`. reason: what to do about it, without a person's value.
    """

    def __init__(self, reason: str, *, rule: str, path: str = "", kind: str = "") -> None:
        self.reason = reason
        self.rule = rule
        self.path = path
        self.kind = kind
        super().__init__(": ".join(part for part in (kind, path, f"{reason} ({rule})") if part))


class Conflict(Refused):
    """The id of the event is known already with other content (R1a)."""


class Busy(HubError):
    """Nothing is wrong with the call; the same call later will do."""


class Unavailable(Busy):
    """A source cannot be asked now; the hub asks again later.

    retry_after_s: in how many seconds at the earliest, where the source says so.
    """

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class Unsigned(HubError):
    """A webhook's signature is missing or wrong. Nothing of it is read, and nobody is told which of the two."""


class Misuse(HubError):
    """A setting, a file or a command is wrong; the operator mends it."""


class Tampered(HubError):
    """The log does not prove itself. Stop, and wake a human.

    position: the first entry that does not hold, or None where the whole does not.
    """

    def __init__(self, reason: str, *, position: int | None = None) -> None:
        self.reason = reason
        self.position = position
        super().__init__(reason if position is None else f"position {position}: {reason}")
