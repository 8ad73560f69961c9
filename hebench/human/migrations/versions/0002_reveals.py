"""Reveals: when models could be told before the end of a study, and by whom."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "reveals",
        sa.Column("id", _Id, nullable=False),
        sa.Column("study", _Id, nullable=False),
        sa.Column("rater", _Id, nullable=True),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("votes", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["rater"], ["raters.id"], name=op.f("reveals_rater_fk")),
        sa.ForeignKeyConstraint(["study"], ["studies.id"], name=op.f("reveals_study_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("reveals_pk")),
    )
    op.create_index("reveals_study", "reveals", ["study"], unique=False)
