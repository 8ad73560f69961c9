"""People's votes on the board: `leaderboard/votes/<study>.jsonl`, read and believed in nothing.

`hebench human export` writes such a file, `hebench board add` puts it there. The first line
describes the study, each further line is one vote:

    {"schema": 1, "study": "summaries-1", "title": {"he": "תקצירים", "en": "Summaries"},
     "question": {"he": "איזה תקציר טוב יותר?", "en": "Which summary is better?"},
     "closed": "2026-12-01"}
    {"item": "he-17", "rater": "r4", "first": "model-a", "second": "model-b",
     "outcome": "tie", "excluded": null}

`first` is the model whose answer was shown first (in Hebrew: the right card), `rater` a
pseudonym. A vote that should not count stays in the file with the reason in `excluded`. Where the
study's owners could see models' names before it closed, the first line says how often, and after
how many votes first: `"unblinded": {"times": 2, "votes": 57}`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hebench.board.models_file import SLUG
from hebench.board.require import is_date, is_text, read_plain, require, require_keys
from hebench.catalogue import LANGUAGES
from hebench.errors import DataError
from hebench.records import ModelEntry
from hebench.stats.ballots import OUTCOMES

VOTES_SCHEMA = 1
MAX_VOTES = 1_000_000
MAX_BYTES = 500_000_000  # of a file
MAX_LINE = 10_000  # characters
MAX_ID = 200  # of an item or a rater
MAX_TITLE = 200
MAX_QUESTION = 500  # of a question, or the reason of an exclusion


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One comparison that one rater made."""

    item: str
    rater: str
    first: str  # slug of the model shown first
    second: str
    outcome: str  # a key of `OUTCOMES`
    excluded: str | None  # why it does not count; None: it counts


@dataclass(frozen=True, kw_only=True)
class Unblinded:
    """That a study's owners could see models' names before it closed."""

    times: int
    votes: int  # given by the first time


@dataclass(frozen=True, kw_only=True)
class Study:
    """The votes of one study, and what raters were asked."""

    name: str
    title: dict[str, str]  # by language
    question: dict[str, str]
    closed: str  # ISO date
    unblinded: Unblinded | None = None
    votes: tuple[Vote, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Return the slugs that the votes are about, in the order of the alphabet."""
        return tuple(sorted({slug for vote in self.votes for slug in (vote.first, vote.second)}))

    @property
    def counted(self) -> tuple[Vote, ...]:
        """Return the votes that were not excluded."""
        return tuple(vote for vote in self.votes if vote.excluded is None)


def read_votes(folder: Path, models: Mapping[str, ModelEntry]) -> tuple[Study, ...]:
    """Return the studies of a leaderboard folder, by name.

    Raises DataError as `read_study` and `require_models`.
    """
    found = []
    for path in sorted((folder / "votes").glob("*.jsonl")):
        study = read_study(path)
        require_models(study, models, path)
        found.append(study)
    return tuple(found)


def require_models(study: Study, models: Mapping[str, ModelEntry], path: Path) -> None:
    """Raise DataError, with file and line, for an unknown model or two tracks in one study."""
    for number, vote in enumerate(study.votes, start=2):
        for key, slug in (("first", vote.first), ("second", vote.second)):
            require(
                slug in models,
                f"{path} line {number}: expected {key} to be a model of models.yaml, found "
                f"{slug!r}; hebench board add {path} appends its entry",
            )
    tracks = sorted({models[slug].track for slug in study.models})
    require(
        len(tracks) == 1, f"{path}: models of tracks {tracks}; tracks are never mixed in a ranking"
    )


def read_study(path: Path) -> Study:
    """Return a study as its file holds it.

    Raises DataError, with file and line, for anything that is not as this module describes: a
    rater who judged the same pair of an item twice, no vote that was judged.
    """
    try:
        lines = read_plain(path, MAX_BYTES).decode("utf-8").rstrip("\n").split("\n")
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: expected people's votes, found nothing; hebench human export writes them"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8, found {error}") from error
    require(len(lines) <= MAX_VOTES, f"{path}: expected at most {MAX_VOTES:,} lines")
    header = _header(_object(lines[0], f"{path} line 1"), path)
    votes, seen = [], set()
    for number, line in enumerate(lines[1:], start=2):
        where = f"{path} line {number}"
        vote = _vote(_object(line, where), where)
        if vote.excluded is None:
            place = (vote.item, vote.rater, frozenset((vote.first, vote.second)))
            require(
                place not in seen,
                f"{where}: rater {vote.rater!r} judged this pair of item {vote.item!r} already; "
                "exclude one of the votes, with the reason",
            )
            seen.add(place)
        votes.append(vote)
    study = Study(votes=tuple(votes), **header)
    require(
        any(OUTCOMES[vote.outcome] >= 0 for vote in study.counted),
        f"{path}: expected at least one vote that counts and was judged, found none",
    )
    return study


def _object(line: str, where: str) -> dict[str, Any]:
    require(len(line) <= MAX_LINE, f"{where}: expected at most {MAX_LINE:,} characters")
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: expected JSON, found {error}") from error
    require(isinstance(content, dict), f"{where}: expected an object")
    found: dict[str, Any] = content
    return found


def _header(content: dict[str, Any], path: Path) -> dict[str, Any]:
    where = f"{path} line 1"
    keys = {"schema", "study", "title", "question", "closed", "unblinded"}
    require_keys({"unblinded": None} | content, keys, where)
    schema = content["schema"]
    require(
        schema == VOTES_SCHEMA,
        f"{where}: expected schema {VOTES_SCHEMA}, found {repr(schema)[:40]}",
    )
    name = content["study"]
    require(
        name == path.stem and SLUG.fullmatch(path.stem),
        f"{where}: expected the study to be named as its file, by a slug, found {repr(name)[:80]}",
    )
    for key, limit in (("title", MAX_TITLE), ("question", MAX_QUESTION)):
        texts = content[key]
        require(
            isinstance(texts, dict)
            and set(texts) == set(LANGUAGES)
            and all(is_text(text, limit) for text in texts.values()),
            f"{where}: expected {key} in {LANGUAGES}, each of 1 to {limit} characters",
        )
    require(is_date(content["closed"]), f"{where}: expected an ISO date in 'closed'")
    found = {key: content[key] for key in ("title", "question", "closed")} | {"name": name}
    return found | {"unblinded": _unblinded(content.get("unblinded"), where)}


def _unblinded(content: Any, where: str) -> Unblinded | None:
    if content is None:
        return None
    require(
        isinstance(content, dict)
        and set(content) == {"times", "votes"}
        and all(type(value) is int and 0 <= value <= MAX_VOTES for value in content.values()),
        f"{where}: expected counts of times and votes in 'unblinded'",
    )
    return Unblinded(**content)


def _vote(content: dict[str, Any], where: str) -> Vote:
    require_keys(content, {field.name for field in fields(Vote)}, where)
    for key in ("item", "rater"):
        require(
            is_text(content[key], MAX_ID), f"{where}: expected {key} of 1 to {MAX_ID} characters"
        )
    for key in ("first", "second"):
        slug = content[key]
        require(
            isinstance(slug, str) and SLUG.fullmatch(slug),
            f"{where}: expected {key} to be a model's slug, found {str(slug)[:80]!r}",
        )
    require(content["first"] != content["second"], f"{where}: a model against itself")
    outcome = content["outcome"]
    require(
        isinstance(outcome, str) and outcome in OUTCOMES,
        f"{where}: expected an outcome of {tuple(OUTCOMES)}, found {str(outcome)[:80]!r}",
    )
    require(
        content["excluded"] is None or is_text(content["excluded"], MAX_QUESTION),
        f"{where}: expected null or a reason of 1 to {MAX_QUESTION} characters in 'excluded'",
    )
    return Vote(**content)
