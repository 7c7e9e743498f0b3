"""The first form."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "ahead", sa.Column("position", NUMBER, autoincrement=False, nullable=False), sa.PrimaryKeyConstraint("position")
    )
    op.create_table(
        "chain",
        sa.Column("chain", NUMBER, autoincrement=False, nullable=False),
        sa.Column("report", NUMBER, autoincrement=False, nullable=False),
        sa.Column("cancels", NUMBER, autoincrement=False, nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.Column("reported_us", NUMBER, nullable=False),
        sa.Column("serial", NUMBER, nullable=False),
        sa.Column("sent_us", NUMBER, nullable=False),
        sa.Column("action", NUMBER, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("chain", "report", "cancels"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chunk",
        sa.Column("position", NUMBER, autoincrement=False, nullable=False),
        sa.Column("number", NUMBER, autoincrement=False, nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position", "number"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "consumed",
        sa.Column("person", NUMBER, autoincrement=False, nullable=False),
        sa.Column("grant", NUMBER, autoincrement=False, nullable=False),
        sa.Column("position", NUMBER, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("person", "grant", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index("consumed_position", "consumed", ["position"], unique=False)
    op.create_table(
        "disclosure",
        sa.Column("position", NUMBER, autoincrement=False, nullable=False),
        sa.Column("recipient", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("position"),
    )
    op.create_index("disclosure_recipient", "disclosure", ["recipient", "position"], unique=False)
    op.create_table(
        "fact",
        sa.Column("person", NUMBER, autoincrement=False, nullable=False),
        sa.Column("kind", NUMBER, autoincrement=False, nullable=False),
        sa.Column("exercise", NUMBER, autoincrement=False, nullable=False),
        sa.Column("effective_us", NUMBER, autoincrement=False, nullable=False),
        sa.Column("position", NUMBER, autoincrement=False, nullable=False),
        sa.Column("variant", NUMBER, nullable=False),
        sa.Column("until", NUMBER, nullable=False),
        sa.Column("ends_us", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("person", "kind", "exercise", "effective_us", "position"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "feed",
        sa.Column("feed", sa.LargeBinary(length=8), nullable=False),
        sa.Column("sequence", NUMBER, nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.Column("time_us", NUMBER, nullable=False),
        sa.Column("swept", NUMBER, nullable=True),
        sa.Column("used_us", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("feed"),
    )
    op.create_index(op.f("ix_feed_used_us"), "feed", ["used_us"], unique=False)
    op.create_table(
        "figure",
        sa.Column("question", sa.LargeBinary(length=16), nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.Column("time_us", NUMBER, nullable=False),
        sa.Column("persons", NUMBER, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("question"),
    )
    op.create_table(
        "head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.Column("recorded_us", NUMBER, nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "held",
        sa.Column("feed", sa.LargeBinary(length=8), nullable=False),
        sa.Column("person", NUMBER, autoincrement=False, nullable=False),
        sa.Column("sequence", NUMBER, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=16), nullable=True),
        sa.Column("next_us", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("feed", "person"),
        sqlite_with_rowid=False,
    )
    op.create_index("held_next", "held", ["feed", "next_us"], unique=False)
    op.create_table(
        "identity",
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("version", NUMBER, nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("digest", "version"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "kept_feed",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("feed", sa.LargeBinary(length=8), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "kept_schema",
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("seal", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("topic"),
    )
    op.create_table(
        "link",
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("person", NUMBER, nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_link_person"), "link", ["person"], unique=False)
    op.create_table(
        "log",
        sa.Column("position", NUMBER, autoincrement=False, nullable=False),
        sa.Column("recorded_us", NUMBER, nullable=False),
        sa.Column("subject", NUMBER, nullable=False),
        sa.Column("identity", sa.LargeBinary(length=16), nullable=False),
        sa.Column("identity_version", NUMBER, nullable=False),
        sa.Column("claim", sa.LargeBinary(length=16), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.Column("leaf", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("position"),
    )
    op.create_table(
        "parked",
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(length=16), nullable=False),
        sa.Column("source", NUMBER, nullable=False),
        sa.Column("received_us", NUMBER, nullable=False),
        sa.Column("times", NUMBER, nullable=False),
        sa.Column("via", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("box", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("item"),
        sa.UniqueConstraint("fingerprint"),
    )
    op.create_index(op.f("ix_parked_received_us"), "parked", ["received_us"], unique=False)
    op.create_index(op.f("ix_parked_source"), "parked", ["source"], unique=False)
    op.create_table(
        "parked_about",
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("person", sa.LargeBinary(length=16), nullable=False),
        sa.PrimaryKeyConstraint("item", "person"),
    )
    op.create_index(op.f("ix_parked_about_person"), "parked_about", ["person"], unique=False)
    op.create_table(
        "person",
        sa.Column("ordinal", NUMBER, autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("enrolled", NUMBER, nullable=False),
        sa.Column("erased", NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "policy",
        sa.Column("person", NUMBER, autoincrement=False, nullable=False),
        sa.Column("position", NUMBER, autoincrement=False, nullable=False),
        sa.Column("until", NUMBER, nullable=False),
        sa.Column("grantee", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("person", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index("policy_grantee", "policy", ["grantee", "person"], unique=False)
    op.create_table(
        "polled",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=True),
        sa.Column("due_us", NUMBER, nullable=False),
        sa.Column("lease", sa.String(), nullable=True),
        sa.Column("lease_us", NUMBER, nullable=False),
        sa.Column("done_us", NUMBER, nullable=True),
        sa.Column("up_to_us", NUMBER, nullable=True),
        sa.Column("failures", NUMBER, nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "relayed",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.Column("token", sa.String(), nullable=True),
        sa.Column("updated_us", NUMBER, nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("fence", NUMBER, nullable=False),
        sa.Column("lease_us", NUMBER, nullable=False),
        sa.Column("failures", NUMBER, nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "retraction",
        sa.Column("target", sa.LargeBinary(length=16), nullable=False),
        sa.Column("person", NUMBER, autoincrement=False, nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("target", "person"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session",
        sa.Column("name", sa.LargeBinary(length=32), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("person", sa.LargeBinary(length=16), nullable=False),
        sa.Column("until_s", NUMBER, nullable=False),
        sa.Column("used_s", NUMBER, nullable=False),
        sa.Column("box", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("session_person", "session", ["person"], unique=False)
    op.create_index("session_until", "session", ["until_s"], unique=False)
    op.create_index("session_what", "session", ["what"], unique=False)
    op.create_table(
        "setting",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "severed",
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "share",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("next", NUMBER, nullable=False),
        sa.Column("lease", sa.String(), nullable=True),
        sa.Column("lease_us", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "shown",
        sa.Column("person", NUMBER, autoincrement=False, nullable=False),
        sa.Column("position", NUMBER, autoincrement=False, nullable=False),
        sa.Column("removed", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("person", "position"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "waiting",
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("item", sa.String(), nullable=False),
        sa.Column("link", sa.LargeBinary(length=16), nullable=False),
        sa.Column("source", NUMBER, nullable=False),
        sa.Column("identity", sa.LargeBinary(length=16), nullable=False),
        sa.Column("received_us", NUMBER, nullable=False),
        sa.Column("box", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("identity"),
        sa.UniqueConstraint("item"),
    )
    op.create_index(op.f("ix_waiting_link"), "waiting", ["link"], unique=False)
    op.create_index(op.f("ix_waiting_received_us"), "waiting", ["received_us"], unique=False)
    op.create_index(op.f("ix_waiting_source"), "waiting", ["source"], unique=False)
