"""The first schema: see `hebench.human.schema`."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "limits",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("window", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("ends", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", "window", name=op.f("limits_pk")),
    )
    op.create_table(
        "studies",
        sa.Column("id", _Id, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("published", sa.Double(), nullable=False),
        sa.Column("closed", sa.Double(), nullable=True),
        sa.Column("forgotten", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("studies_pk")),
        sa.UniqueConstraint("name", name=op.f("studies_name")),
    )
    op.create_table(
        "invites",
        sa.Column("id", _Id, nullable=False),
        sa.Column("study", _Id, nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("people", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("revoked", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["study"], ["studies.id"], name=op.f("invites_study_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("invites_pk")),
        sa.UniqueConstraint("token_sha256", name=op.f("invites_token_sha256")),
    )
    op.create_table(
        "items",
        sa.Column("id", _Id, nullable=False),
        sa.Column("study", _Id, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["study"], ["studies.id"], name=op.f("items_study_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("items_pk")),
        sa.UniqueConstraint("study", "name", name=op.f("items_study_name")),
    )
    op.create_table(
        "answers",
        sa.Column("id", _Id, nullable=False),
        sa.Column("item", _Id, nullable=False),
        sa.Column("model", sa.String(length=64), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("masked", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name=op.f("answers_item_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("answers_pk")),
    )
    op.create_index("answers_item", "answers", ["item"], unique=False)
    op.create_table(
        "raters",
        sa.Column("id", _Id, nullable=False),
        sa.Column("study", _Id, nullable=False),
        sa.Column("invite", _Id, nullable=False),
        sa.Column("pseudonym", sa.String(length=16), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("consent", sa.String(length=200), nullable=False),
        sa.Column("joined", sa.Double(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.Column("erased", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["invite"], ["invites.id"], name=op.f("raters_invite_fk")),
        sa.ForeignKeyConstraint(["study"], ["studies.id"], name=op.f("raters_study_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("raters_pk")),
        sa.UniqueConstraint("study", "pseudonym", name=op.f("raters_study_pseudonym")),
    )
    op.create_table(
        "seats",
        sa.Column("id", _Id, nullable=False),
        sa.Column("study", _Id, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("rater", _Id, nullable=True),
        sa.ForeignKeyConstraint(["rater"], ["raters.id"], name=op.f("seats_rater_fk")),
        sa.ForeignKeyConstraint(["study"], ["studies.id"], name=op.f("seats_study_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("seats_pk")),
        sa.UniqueConstraint("rater", name=op.f("seats_rater")),
        sa.UniqueConstraint("study", "number", name=op.f("seats_study_number")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", _Id, nullable=False),
        sa.Column("rater", _Id, nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("started", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["rater"], ["raters.id"], name=op.f("sessions_rater_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("sessions_pk")),
        sa.UniqueConstraint("token_sha256", name=op.f("sessions_token_sha256")),
    )
    op.create_index("sessions_rater", "sessions", ["rater"], unique=False)
    op.create_table(
        "tasks",
        sa.Column("id", _Id, nullable=False),
        sa.Column("study", _Id, nullable=False),
        sa.Column("item", _Id, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("first", _Id, nullable=False),
        sa.Column("second", _Id, nullable=True),
        sa.Column("expected", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["first"], ["answers.id"], name=op.f("tasks_first_fk")),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name=op.f("tasks_item_fk")),
        sa.ForeignKeyConstraint(["second"], ["answers.id"], name=op.f("tasks_second_fk")),
        sa.ForeignKeyConstraint(["study"], ["studies.id"], name=op.f("tasks_study_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("tasks_pk")),
    )
    op.create_index("tasks_study", "tasks", ["study"], unique=False)
    op.create_table(
        "slots",
        sa.Column("id", _Id, nullable=False),
        sa.Column("study", _Id, nullable=False),
        sa.Column("code", sa.String(length=22), nullable=False),
        sa.Column("task", _Id, nullable=False),
        sa.Column("seat", _Id, nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("swapped", sa.Boolean(), nullable=False),
        sa.Column("rater", _Id, nullable=True),
        sa.Column("leased_until", sa.Double(), nullable=True),
        sa.Column("answered", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["rater"], ["raters.id"], name=op.f("slots_rater_fk")),
        sa.ForeignKeyConstraint(["seat"], ["seats.id"], name=op.f("slots_seat_fk")),
        sa.ForeignKeyConstraint(["study"], ["studies.id"], name=op.f("slots_study_fk")),
        sa.ForeignKeyConstraint(["task"], ["tasks.id"], name=op.f("slots_task_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("slots_pk")),
        sa.UniqueConstraint("code", name=op.f("slots_code")),
        sa.UniqueConstraint("seat", "position", name=op.f("slots_seat_position")),
    )
    op.create_index("slots_open", "slots", ["study", "answered", "position"], unique=False)
    op.create_index("slots_rater_task", "slots", ["rater", "task", "kind"], unique=True)
    op.create_index("slots_task", "slots", ["task"], unique=False)
    op.create_table(
        "leases",
        sa.Column("slot", _Id, nullable=False),
        sa.Column("rater", _Id, nullable=False),
        sa.Column("given", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["rater"], ["raters.id"], name=op.f("leases_rater_fk")),
        sa.ForeignKeyConstraint(["slot"], ["slots.id"], name=op.f("leases_slot_fk")),
        sa.PrimaryKeyConstraint("slot", "rater", name=op.f("leases_pk")),
    )
    op.create_index("leases_rater", "leases", ["rater"], unique=False)
    op.create_table(
        "votes",
        sa.Column("number", _Id, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("slot", _Id, nullable=False),
        sa.Column("rater", _Id, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["rater"], ["raters.id"], name=op.f("votes_rater_fk")),
        sa.ForeignKeyConstraint(["slot"], ["slots.id"], name=op.f("votes_slot_fk")),
        sa.PrimaryKeyConstraint("number", name=op.f("votes_pk")),
        sa.UniqueConstraint("id", name=op.f("votes_id")),
        sa.UniqueConstraint("slot", "rater", "revision", name=op.f("votes_slot_rater_revision")),
    )
    op.create_index("votes_rater", "votes", ["rater"], unique=False)
    op.create_table(
        "exclusions",
        sa.Column("id", _Id, nullable=False),
        sa.Column("study", _Id, nullable=False),
        sa.Column("rater", _Id, nullable=False),
        sa.Column("vote", sa.String(length=36), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("lifted", sa.Double(), nullable=True),
        sa.Column("lifted_by", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["rater"], ["raters.id"], name=op.f("exclusions_rater_fk")),
        sa.ForeignKeyConstraint(["study"], ["studies.id"], name=op.f("exclusions_study_fk")),
        sa.ForeignKeyConstraint(["vote"], ["votes.id"], name=op.f("exclusions_vote_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("exclusions_pk")),
    )
    op.create_index("exclusions_study", "exclusions", ["study"], unique=False)
