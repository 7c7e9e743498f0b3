"""Renewals of figures, shared out by persons; relays, which share the lines."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "renewal",
        sa.Column("name", sa.LargeBinary(length=16), nullable=False),
        sa.Column("position", NUMBER, nullable=False),
        sa.Column("time_us", NUMBER, nullable=False),
        sa.Column("used_us", NUMBER, nullable=False),
        sa.Column("box", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "renewal_share",
        sa.Column("name", sa.LargeBinary(length=16), nullable=False),
        sa.Column("number", NUMBER, autoincrement=False, nullable=False),
        sa.Column("first", NUMBER, nullable=False),
        sa.Column("stop", NUMBER, nullable=False),
        sa.Column("lease", sa.String(), nullable=True),
        sa.Column("lease_us", NUMBER, nullable=False),
        sa.Column("box", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("name", "number"),
    )
    op.create_table(
        "relay",
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("lease_us", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("holder"),
    )
