"""The tables of human evaluation, the same on SQLite and PostgreSQL.

    studies   what the owner decided            seats     one planned rater's share of the work
    items     sources                           slots     one question on one page of one seat
    answers   models' texts                     leases    which rater was ever given which slot
    tasks     questions of the plan             votes     what was answered; rows are only added
    raters    people, by pseudonym              exclusions  why a vote or rater does not count
    invites   links, hashed                     limits    how often something was tried
    sessions  browsers that came in, hashed
    reveals   when models could be told before the end; rows are only added

A vote is one row; a correction is a further row with the next `revision`, and taking a vote back
is one whose `answer` is null. Only delete-my-data removes rows. Times are seconds since 1970.

What keeps quotas is here and not in code: a question has as many slots as it may have votes, a
slot one holder, and a rater no question twice (`slots_rater_task`).
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s",
        "fk": "%(table_name)s_%(column_0_name)s_fk",
        "pk": "%(table_name)s_pk",
    }
)

_Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only INTEGER keys


def _key() -> Column[int]:
    return Column("id", _Id, primary_key=True)


def _to(table: str, name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, _Id, ForeignKey(f"{table}.id"), nullable=nullable)


studies = Table(
    "studies",
    metadata,
    _key(),
    Column("name", String(64), nullable=False, unique=True),
    Column("config", JSON, nullable=False),
    Column("secret", String(64), nullable=False),  # signs links; hexadecimal
    Column("published", Double, nullable=False),
    Column("closed", Double),
    Column("forgotten", Integer, nullable=False),  # votes erased at their raters' wish
)

items = Table(
    "items",
    metadata,
    _key(),
    _to("studies", "study"),
    Column("name", String(200), nullable=False),
    Column("source", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("reference", Text),
    Column("cluster", Text, nullable=False),
    UniqueConstraint("study", "name"),
)

answers = Table(
    "answers",
    metadata,
    _key(),
    _to("items", "item"),
    Column("model", String(64)),  # null in a check
    Column("text", Text, nullable=False),
    Column("shown", Text, nullable=False),
    Column("masked", Boolean, nullable=False),
    Index("answers_item", "item"),
)

tasks = Table(
    "tasks",
    metadata,
    _key(),
    _to("studies", "study"),
    _to("items", "item"),
    Column("kind", String(16), nullable=False),  # main, gold or attention
    _to("answers", "first"),
    _to("answers", "second", nullable=True),  # null where one answer is judged
    Column("expected", JSON(none_as_null=True)),  # of a check
    Index("tasks_study", "study"),
)

raters = Table(
    "raters",
    metadata,
    _key(),
    _to("studies", "study"),
    _to("invites", "invite"),
    Column("pseudonym", String(16), nullable=False),
    Column("role", String(16), nullable=False),
    Column("consent", String(200), nullable=False),  # version agreed to
    Column("joined", Double, nullable=False),
    Column("seen", Double, nullable=False),
    Column("erased", Double),
    UniqueConstraint("study", "pseudonym"),
)

invites = Table(
    "invites",
    metadata,
    _key(),
    _to("studies", "study"),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("people", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("expires", Double, nullable=False),
    Column("revoked", Double),
)

sessions = Table(
    "sessions",
    metadata,
    _key(),
    _to("raters", "rater"),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("started", Double, nullable=False),
    Index("sessions_rater", "rater"),
)

seats = Table(
    "seats",
    metadata,
    _key(),
    _to("studies", "study"),
    Column("number", Integer, nullable=False),
    _to("raters", "rater", nullable=True),
    UniqueConstraint("study", "number"),
    UniqueConstraint("rater"),
)

slots = Table(
    "slots",
    metadata,
    _key(),
    _to("studies", "study"),
    Column("code", String(22), nullable=False, unique=True),  # the only name a browser sees
    _to("tasks", "task"),
    _to("seats", "seat", nullable=True),  # null for adjudication
    Column("position", Integer, nullable=False),
    Column("kind", String(16), nullable=False),  # of its task, or repeat or adjudication
    Column("swapped", Boolean, nullable=False),
    _to("raters", "rater", nullable=True),
    Column("leased_until", Double),
    Column("answered", Double),
    UniqueConstraint("seat", "position"),
    Index("slots_rater_task", "rater", "task", "kind", unique=True),
    Index("slots_open", "study", "answered", "position"),
    Index("slots_task", "task"),
)

leases = Table(
    "leases",
    metadata,
    Column("slot", _Id, ForeignKey("slots.id"), primary_key=True),
    Column("rater", _Id, ForeignKey("raters.id"), primary_key=True),
    Column("given", Double, nullable=False),  # when the page was first handed out
    Index("leases_rater", "rater"),
)

votes = Table(
    "votes",
    metadata,
    Column("number", _Id, primary_key=True),  # order of arrival
    Column("id", String(36), nullable=False, unique=True),  # made by the browser
    _to("slots", "slot"),
    _to("raters", "rater"),
    Column("revision", Integer, nullable=False),
    Column("answer", JSON(none_as_null=True)),  # sides as shown; null: taken back
    Column("seconds", Double, nullable=False),
    Column("note", Text, nullable=False),
    Column("at", Double, nullable=False),
    UniqueConstraint("slot", "rater", "revision"),
    Index("votes_rater", "rater"),
)

exclusions = Table(
    "exclusions",
    metadata,
    _key(),
    _to("studies", "study"),
    _to("raters", "rater"),
    Column("vote", String(36), ForeignKey("votes.id")),  # null: all of the rater's
    Column("reason", String(64), nullable=False),
    Column("detail", Text, nullable=False),
    Column("by", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("lifted", Double),
    Column("lifted_by", String(64)),
    Index("exclusions_study", "study"),
)

reveals = Table(
    "reveals",
    metadata,
    _key(),
    _to("studies", "study"),
    _to("raters", "rater", nullable=True),  # an owner; null: the command line
    Column("what", String(16), nullable=False),  # dashboard, status or reopened
    Column("why", Text, nullable=False),
    Column("votes", Integer, nullable=False),  # answered questions of the plan by then
    Column("at", Double, nullable=False),
    Index("reveals_study", "study"),
)

limits = Table(
    "limits",
    metadata,
    Column("key", String(64), primary_key=True),  # a keyed hash
    Column("window", BigInteger, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("ends", Double, nullable=False),
)

# The same tables a second time in one statement; made once, since making one takes milliseconds.
first_answers, second_answers = answers.alias("first_answers"), answers.alias("second_answers")
other_slots = slots.alias("other_slots")
later_votes = votes.alias("later_votes")
