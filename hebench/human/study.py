"""A study as its owner writes it: one YAML file, made into one frozen `Study`.

    name: summaries-1
    type: pairwise                     # or pairwise_dimensions, likert, spans, review
    title: {he: תקצירים, en: Summaries}
    instructions: {he: קראו את הכתבה ואת שני התקצירים., en: Read the article and both summaries.}
    question: {he: איזה תקציר טוב יותר?, en: Which summary is better?}
    consent: {version: "1", text: {he: ההשתתפות מרצון., en: Taking part is voluntary.}}
    models:
      smollm2: {answers: answers/smollm2.jsonl, names: [SmolLM2]}
      dicta: {answers: ../runs/dicta, names: [DictaLM, Dicta]}
    task: hebench_mini_summarization   # which task of the run folders, and
    source: article                    # which field of its documents is the source
    plan: {raters: 30, votes_each: 40}
    seed: 7

Paths are relative to the file. `hebench.human.material` reads what they name.

    >>> load_study(Path("study.yaml")).paired
    True
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hebench.config import build, read_yaml
from hebench.errors import ConfigError

LANGUAGES = ("he", "en")
OUTCOMES = ("first", "second", "tie", "both_good", "both_bad", "cannot_judge")
SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
PAIRED = ("pairwise", "pairwise_dimensions")

Type = Literal["pairwise", "pairwise_dimensions", "likert", "spans", "review"]
Text = dict[str, str]  # by language: all of LANGUAGES
_MAX_TEXT = 20_000  # characters of anything that the owner writes


@dataclass(frozen=True, kw_only=True)
class Consent:
    """What a rater agrees to; a changed text needs a new version."""

    version: str
    text: Text


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One scale: 1 to `steps`, or one dimension on which two answers are compared."""

    name: str
    title: Text
    low: Text = field(default_factory=dict)  # what 1 means; only on a scale
    high: Text = field(default_factory=dict)  # what `steps` means
    steps: int = 5

    def __post_init__(self) -> None:
        """Refuse a scale without steps."""
        if not 2 <= self.steps <= 11:
            raise ConfigError(f"steps: expected 2 to 11, found {self.steps}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a model's answers are, and what it may call itself in them."""

    answers: Path  # a run folder, or JSON Lines of {item, source, answer, ...}
    names: tuple[str, ...] | None = None  # masked but in a review; None: the model's key


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the work is shared out; numbers are votes unless said otherwise."""

    raters: int  # expected; each gets a seat with work of its own
    votes_each: int  # in one seat, checks and repeats not counted
    most_each: int | None = None  # with work that others left; None: `votes_each`
    overlap_share: float = 0.25  # of the questions, in [0, 1], asked of several raters
    overlap: int = 3  # raters for each of those; the others have one
    repeats: int = 2  # hidden repeats in a seat, sides swapped
    gold: int = 0  # questions with a known answer in a seat
    attention: int = 0  # attention checks in a seat
    lease_minutes: float = 30.0  # a page that is not answered by then may go to another rater
    idle_minutes: float = 1440.0  # a rater not seen for so long leaves the seat's work to others

    def __post_init__(self) -> None:
        """Refuse what cannot be planned."""
        for name in ("raters", "votes_each", "overlap"):
            _within(name, getattr(self, name), 1, 100_000)
        for name in ("repeats", "gold", "attention"):
            _within(name, getattr(self, name), 0, self.votes_each)
        _within("overlap_share", self.overlap_share, 0, 1)
        _within("most_each", self.most, self.votes_each, 100_000)
        _within("lease_minutes", self.lease_minutes, 0.05, 100_000)
        _within("idle_minutes", self.idle_minutes, self.lease_minutes, 1_000_000)
        if self.overlap > self.raters:
            raise ConfigError(
                f"overlap: expected at most one vote of each of the {self.raters} raters, "
                f"found {self.overlap}"
            )

    @property
    def most(self) -> int:
        """Return how many questions of the plan one rater may answer."""
        return self.votes_each if self.most_each is None else self.most_each


@dataclass(frozen=True, kw_only=True)
class Stop:
    """When there are enough votes, said before the first one.

    `all` and `votes` give out no page beyond their number. `precision` only advises: the
    dashboard and `status` say that it is met, and an owner closes the study.
    """

    rule: Literal["all", "votes", "precision"] = "all"
    votes: int | None = None  # for `votes`: answered questions of the plan
    half_width: float | None = None  # for `precision`: of every interval of a rate, mean or share

    def __post_init__(self) -> None:
        """Refuse a rule without its number, or a number without its rule."""
        for rule, key in (("votes", "votes"), ("precision", "half_width")):
            value = getattr(self, key)
            if (self.rule == rule) != (value is not None):
                raise ConfigError(f"stop: {key} belongs to `rule: {rule}`, and that needs it")
            if value is not None and value <= 0:
                raise ConfigError(f"stop: {key}: expected a positive number, found {value}")


@dataclass(frozen=True, kw_only=True)
class Quality:
    """When a rater, or a vote, is set aside (never deleted: `hebench.human.quality`)."""

    gold_share: float = 0.6  # fewer gold questions right than this: the rater is excluded
    attention_misses: int = 1  # as many attention checks missed: the rater is excluded
    repeat_share: float = 0.0  # fewer repeats answered alike than this: the rater is excluded
    characters_per_second: float = 60.0  # read faster than this: the vote is excluded
    floor_seconds: float = 1.0  # and no vote takes less than this
    fast_share: float = 0.5  # more votes of a rater too fast than this: the rater is excluded

    def __post_init__(self) -> None:
        """Refuse shares outside [0, 1] and speeds that nobody has."""
        for name in ("gold_share", "repeat_share", "fast_share"):
            _within(name, getattr(self, name), 0, 1)
        _within("attention_misses", self.attention_misses, 1, 1000)
        _within("characters_per_second", self.characters_per_second, 1, 10_000)
        _within("floor_seconds", self.floor_seconds, 0, 600)


@dataclass(frozen=True, kw_only=True)
class Study:
    """All that the owner decides before the first vote."""

    name: str
    type: Type
    title: Text
    instructions: Text
    question: Text
    consent: Consent
    models: dict[str, Source]
    plan: Plan
    seed: int
    outcomes: tuple[str, ...] = OUTCOMES  # offered where two answers are compared
    axes: tuple[Axis, ...] = ()
    task: str | None = None  # of run folders
    source: str | None = None  # field of a run's documents; None: the prompt is the source
    checks: Path | None = None  # JSON Lines of gold questions and attention checks
    stop: Stop = field(default_factory=Stop)
    quality: Quality = field(default_factory=Quality)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        _slug("name", self.name)
        for name in self.models:
            _slug("models", name)
        _bilingual("title", self.title, 200)  # as the board has it, like the question
        _bilingual("question", self.question, 500)
        _bilingual("instructions", self.instructions)
        _bilingual("consent", self.consent.text)
        _within("models", len(self.models), 2 if self.paired else 1, 200)
        _within("seed", self.seed, 0, 2**63 - 1)
        self._check_outcomes()
        self._check_axes()
        asked = self.plan.gold + self.plan.attention
        if asked and self.checks is None:
            raise ConfigError("checks: expected the file of gold and attention questions")

    @property
    def paired(self) -> bool:
        """Return whether a page shows two answers, not one."""
        return self.type in PAIRED

    def _check_outcomes(self) -> None:
        unknown = sorted(set(self.outcomes) - set(OUTCOMES))
        if unknown or not {"first", "second"} <= set(self.outcomes):
            raise ConfigError(
                f"outcomes: expected first, second and others of {', '.join(OUTCOMES)}, found "
                f"{', '.join(self.outcomes)}"
            )

    def _check_axes(self) -> None:
        wanted = self.type in ("likert", "pairwise_dimensions")
        if wanted != bool(self.axes):
            raise ConfigError(f"axes: type {self.type} has {'axes' if wanted else 'none'}")
        if len({axis.name for axis in self.axes}) < len(self.axes):
            raise ConfigError("axes: expected different names")
        for axis in self.axes:
            _slug("axes", axis.name)
            _bilingual(f"axes: {axis.name}: title", axis.title)
            if self.type == "likert":
                _bilingual(f"axes: {axis.name}: low", axis.low)
                _bilingual(f"axes: {axis.name}: high", axis.high)


def load_study(path: Path) -> Study:
    """Return the study that a YAML file describes, its paths made absolute.

    Raises ConfigError for an unknown, missing or mistyped key and for contradictions.
    """
    study = build(Study, read_yaml(path), str(path))
    folder = path.resolve().parent
    return replace(
        study,
        models={
            name: replace(source, answers=folder / source.answers)
            for name, source in study.models.items()
        },
        checks=folder / study.checks if study.checks else None,
    )


def _slug(key: str, value: str) -> None:
    if not isinstance(value, str) or not SLUG.fullmatch(value):
        raise ConfigError(
            f"{key}: expected 1 to 64 of a-z, 0-9, '.', '_' and '-', found {str(value)[:80]!r}"
        )


def _within(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN, too, is refused
        raise ConfigError(f"{key}: expected {low:g} to {high:g}, found {value:g}")


def _bilingual(key: str, text: Text, limit: int = _MAX_TEXT) -> None:
    if set(text) != set(LANGUAGES) or not all(
        value.strip() and len(value) <= limit for value in text.values()
    ):
        raise ConfigError(
            f"{key}: expected a text in each of {', '.join(LANGUAGES)}, at most {limit:,} "
            f"characters, found {', '.join(map(str, text)) or 'none'}"
        )
