"""The study card: who was asked what, when, how well they agree, and what came out. Markdown.

>>> print(study_card(found, study_results(found)).splitlines()[0])
# Summaries (תקצירים)
"""

import math
from collections.abc import Iterable, Sequence

from hebench.errors import DataError
from hebench.human.blinding import Reveal
from hebench.human.collected import Collected
from hebench.human.export import moment
from hebench.human.ranking import Ranking
from hebench.human.raters import RaterRow
from hebench.human.results import ShareSummary, StudyResults
from hebench.stats.agreement import Agreement

_TYPES = {
    "pairwise": "blind pairs",
    "pairwise_dimensions": "blind pairs, overall and by dimension",
    "likert": "scores on scales",
    "spans": "unsupported claims marked against the source",
    "review": "item review: accept, fix or reject",
}

_REVEALS = {
    "dashboard": "names were shown on the dashboard",
    "status": "names were shown on the command line",
    "reopened": "the study was opened again after a close",
}


def study_card(found: Collected, results: StudyResults) -> str:
    """Return a study's card. Raises DataError for an open study, since the card names models."""
    if found.closed is None:
        raise DataError(f"study {found.study.name} is open: close it, then write its card")
    study = found.study
    parts = [
        [f"# {study.title['en']} ({study.title['he']})", "", f"Question: {study.question['en']}"],
        _who(found, results),
        _unblinded(found),
        _how(found),
        _agreement(results),
        _findings(results),
        _raters(results.raters),
        [
            "## Instructions as shown",
            "",
            *_quoted(study.instructions["he"]),
            "",
            *_quoted(study.instructions["en"]),
        ],
        [f"## Consent, version {study.consent.version}", "", *_quoted(study.consent.text["he"])],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _who(found: Collected, results: StudyResults) -> list[str]:
    counts, coverage = results.counts, results.coverage
    rows = [
        ("Dates", f"{moment(found.published)} to {moment(found.closed or 0.0)}"),
        ("Raters", f"{counts.raters} voted, of {counts.joined} who came in"),
        ("Votes that count", f"{counts.votes:,} on {counts.items:,} items"),
        ("Excluded votes", f"{counts.excluded:,}" + _in_words(counts.exclusions)),
        ("Corrections", f"{counts.corrections:,}"),
        ("Erased at raters' wish", f"{counts.forgotten:,} votes"),
        (
            "Plan",
            f"{coverage.questions:,} questions, {coverage.begun:,} with a vote, "
            f"{coverage.complete:,} with all planned",
        ),
        ("Stop rule", f"{found.study.stop.rule}: {results.stop.words}"),
    ]
    return ["## Who and how many", "", *_table(("", ""), rows)]


def _unblinded(found: Collected) -> list[str]:
    """Return when models could be told before the end, and how many votes came after that."""
    if not found.reveals:
        return ["## Blinding", "", "Nobody was shown the models' names before the study closed."]
    later = sum(vote.at >= found.reveals[0].at for vote in found.counted())
    rows = [
        (moment(one.at), f"{one.votes:,}", _REVEALS[one.what], _by(one), one.why or "-")
        for one in found.reveals
    ]
    head = ("When", "votes by then", "what happened", "by", "reason given")
    return [
        "## Blinding",
        "",
        "Owners could tell the models before the study closed; raters could not. Of the votes "
        f"that count, {later:,} came after the first time.",
        "",
        *_table(head, rows),
    ]


def _by(reveal: Reveal) -> str:
    return reveal.by if reveal.link is None else f"owner {reveal.by} (link {reveal.link})"


def _in_words(reasons: Sequence[tuple[str, int]]) -> str:
    listed = ", ".join(f"{reason} {count:,}" for reason, count in reasons)
    return f" ({listed})" if listed else ""


def _how(found: Collected) -> list[str]:
    study, plan = found.study, found.study.plan
    # Reviews that were published by an earlier version have masks.
    bare = study.type == "review" and not any(any(task.masked) for task in found.tasks)
    shown = "Texts were shown as they are" if bare else "Models' names were masked in the texts"
    return [
        "## How",
        "",
        f"{_TYPES[study.type].capitalize()}. Planned: {plan.raters} raters with "
        f"{plan.votes_each} votes each; {_percent(plan.overlap_share)} of the questions asked of "
        f"{plan.overlap} raters; in each seat {plan.repeats} hidden repeats, {plan.gold} gold "
        f"questions and {plan.attention} attention checks. Seed {study.seed}. {shown}; sides and "
        "order were balanced for each rater.",
    ]


def _agreement(results: StudyResults) -> list[str]:
    rows = [
        (name, _coefficient(found), _coefficient(results.agreement_ac1[name]), f"{found.units:,}")
        for name, found in results.agreement.items()
    ]
    head = ("Answer", "Krippendorff's alpha [95 %]", "Gwet's AC1", "questions with two and more")
    return ["## Agreement", "", *_table(head, rows)]


def _coefficient(found: Agreement) -> str:
    if found.value is None:
        return f"undefined: {found.reason}"
    bounds = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.value:.2f}{bounds}"


def _findings(results: StudyResults) -> list[str]:
    lines: list[str] = []
    if results.ranking is not None:
        lines += _ranking("Ranking", results.ranking)
        lines += _bends(results.ranking)
    if results.ranking_all is not None:
        lines += _ranking("Ranking with the excluded votes", results.ranking_all)
    if results.ranking_unclustered is not None:
        lines += _ranking("The same, votes taken as independent", results.ranking_unclustered)
    for axis, ranking in results.dimensions.items():
        lines += _ranking(f"Dimension: {axis}", ranking) if ranking else []
    for summary in results.axes:
        rows = [
            (row.model, f"{row.mean:.2f} [{row.low:.2f}, {row.high:.2f}]", _spread(row.counts))
            for row in summary.rows
        ]
        head = ("Model", "mean [95 %]", "scores, lowest first")
        lines += [f"## Scale: {summary.axis.title['en']}", "", *_table(head, rows), ""]
    lines += _shares("Answers with an unsupported claim", results.marked)
    lines += _shares("Items accepted as they are", results.accepted)
    return lines[:-1]


def _spread(counts: Iterable[int]) -> str:
    return " / ".join(f"{count:,}" for count in counts)


def _shares(title: str, rows: Sequence[ShareSummary]) -> list[str]:
    if not rows:
        return []
    cells = [(row.model, f"{row.share.text()} %", f"{row.share.n:,}") for row in rows]
    return [f"## {title}", "", *_table(("Model", "share [95 %]", "votes"), cells), ""]


def _ranking(title: str, ranking: Ranking) -> list[str]:
    rows = [
        (
            row.ranks,
            row.model,
            f"{_percent(row.win_rate)} [{_percent(row.low)}, {_percent(row.high)}]",
            _percent(row.tie),
            _percent(row.both_good),
            _percent(row.both_bad),
            f"{row.votes:,}",
        )
        for row in ranking.rows
    ]
    head = ("Rank", "Model", "win rate [95 %]", "tie", "both good", "both bad", "votes")
    notes = [f"- {note}" for note in ranking.notes.values()]
    method = f"{ranking.votes:,} votes; {ranking.method}."
    return [f"## {title}", "", *_table(head, rows), "", method, *notes, ""]


def _bends(ranking: Ranking) -> list[str]:
    """Return sentences on the side effect and on what would tell neighbours apart."""
    side, lines = ranking.side, []
    if side is not None:
        bounds = ""
        if side.low is not None and side.high is not None:
            bounds = f" [{_percent(side.low)}, {_percent(side.high)}]"
        lines.append(
            f"- Of two equal answers the one shown first is expected to get {_percent(side.rate)}"
            f"{bounds} of the preferences, half of each tie included."
        )
    for gap in ranking.gaps:
        if gap.separated:
            lines.append(f"- {gap.better} and {gap.worse} are told apart.")
        elif gap.needed.votes is None:
            lines.append(f"- {gap.better} and {gap.worse}: {gap.needed.reason}.")
        else:
            lines.append(
                f"- {gap.better} and {gap.worse}: about {gap.needed.votes:,} more votes of "
                f"{gap.needed.raters:,} more raters, if the difference is as it seems."
            )
    return [*lines, ""]


def _raters(rows: Sequence[RaterRow]) -> list[str]:
    cells = [
        (
            row.rater,
            f"{row.votes:,}",
            f"{row.excluded:,}",
            f"{row.seconds:.0f}",
            _maybe(row.first_share),
            _maybe(row.with_others),
            f"{row.check.gold_right} of {row.check.gold}",
            f"{row.check.repeats_alike} of {row.check.repeats}",
        )
        for row in rows
    ]
    head = ("Rater", "votes", "excluded", "seconds a page", "chose the first", "as others", "gold")
    return ["## Raters", "", *_table((*head, "repeats alike"), cells)] if cells else []


def _maybe(share: float | None) -> str:
    return "-" if share is None else _percent(share)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["--"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def _quoted(text: str) -> list[str]:
    return [f"> {line}" for line in text.splitlines()]
