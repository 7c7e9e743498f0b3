"""Which reports of a hazard decide what their chain warrants: of each type the newest that says, and that cancels.

A chain of weather warnings never ends. What the next report changes is judged by these rows, two for each type, so
that it costs the same after ten thousand reports as after ten. They hold for the end of the log only.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, String, Table, delete, insert, select

from hub.events import Entry, micros
from hub.hazards import Order, Report, emergency_id, heard, turn
from hub.log.log import Log
from hub.log.recorder import Number, metadata

chain = Table(
    "chain",
    metadata,
    Column("chain", Number, primary_key=True, autoincrement=False),
    Column("report", Number, primary_key=True, autoincrement=False),
    Column("cancels", Number, primary_key=True, autoincrement=False),
    Column("position", Number, nullable=False),
    Column("reported_us", Number, nullable=False),
    Column("serial", Number, nullable=False),
    Column("sent_us", Number, nullable=False),
    Column("action", Number, nullable=False),
    Column("id", String, nullable=False),
    sqlite_with_rowid=False,
)


def report_of(entry: Entry) -> Report:
    """The report that an entry holds, as it counts in its chain."""
    event = entry.event
    report = Report(data=event.data, source=event.source, id=event.id, exercise=event.exercise)
    return heard(report, entry.recorded_at)


def fold(connection: Connection, log: Log, entry: Entry) -> None:
    """Put a report in its turn, if it is newer than the one that stands there."""
    report = report_of(entry)
    found = turn(report)
    if found is None:
        return
    type_, cancels, order = found
    row = {
        "chain": _number(log, report),
        "report": log.keyring.number("report", type_),
        "cancels": int(cancels),
    }
    here = [chain.c[name] == value for name, value in row.items()]
    columns = (chain.c.reported_us, chain.c.serial, chain.c.sent_us, chain.c.action, chain.c.id)
    standing = connection.execute(select(*columns).where(*here)).one_or_none()
    said = _columns(order)
    if standing is not None and tuple(standing) >= tuple(said.values()):
        return
    if standing is not None:
        connection.execute(delete(chain).where(*here))
    connection.execute(insert(chain).values(row | said | {"position": entry.position}))


def deciding(connection: Connection, log: Log, report: Report) -> list[int]:
    """The positions of the reports that decide what the chain of `report` warrants."""
    return list(connection.scalars(select(chain.c.position).where(chain.c.chain == _number(log, report))))


def _number(log: Log, report: Report) -> int:
    return log.keyring.number("chain", emergency_id(report))


def _columns(order: Order) -> dict[str, int | str]:
    reported_at, serial, sent_at, action, id_ = order
    return {
        "reported_us": micros(reported_at),
        "serial": serial,
        "sent_us": micros(sent_at),
        "action": action,
        "id": id_,
    }
