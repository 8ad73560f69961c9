"""Is every number of a built site what the records say? `hebench board verify`.

Two ways, since each would miss what the other finds. The site is built anew from the records
and compared file by file, which finds any page that was changed by hand. And the scores that it
publishes are computed once more by a few lines of plain Python that share nothing with the code
that builds it, which finds a builder that computes something else than it says.
"""

import csv
import functools
import gzip
import io
import itertools
import json
import math
import re
from pathlib import Path

from hebench.board.build import load_site, site_files
from hebench.board.models_file import SLUG
from hebench.board.store import FILE_NAME
from hebench.errors import DataError

_TEXT = {".html", ".js", ".json", ".csv", ".css", ".bib"}
_TOLERANCE = 5e-7  # of a mean that was computed in another order


def verify(folder: Path, site: Path) -> tuple[int, int]:
    """Return how many files and scores agree with the records of a leaderboard folder.

    Raises DataError at the first that does not: the page, and the first line that differs.
    """
    if not site.is_dir():
        raise DataError(f"expected a built site, found none at {site}; run hebench board build")
    built = load_site(folder)  # which finds damaged records
    scores = _verify_scores(folder, site / "api" / "v1" / "scores.csv")
    expected = set()
    for file in site_files(built):
        expected.add(file.path)
        path = site / file.path
        if not path.is_file():
            raise DataError(f"{path}: expected this page, found nothing; build the site anew")
        found = path.read_bytes()
        if found != file.content:
            raise DataError(f"{path}: {_difference(file.path, file.content, found)}")
    extra = sorted(
        path.relative_to(site).as_posix()
        for path in site.rglob("*")
        if path.is_file() and path.relative_to(site).as_posix() not in expected
    )
    if extra:
        raise DataError(f"{site / extra[0]}: no record accounts for this file; remove it")
    return len(expected), scores


def _difference(name: str, expected: bytes, found: bytes) -> str:
    if Path(name).suffix not in _TEXT:
        return "the file is not the one that is built; build the site anew"
    wanted, shown = (_pieces(content.decode("utf-8", "replace")) for content in (expected, found))
    for right, wrong in itertools.zip_longest(wanted, shown, fillvalue="nothing"):
        if right != wrong:
            return f"the records give {right[:160]!r}, the page shows {wrong[:160]!r}"
    return "the file differs in white space; build the site anew"


def _pieces(text: str) -> list[str]:
    """Return the pieces of a page between tags and line ends, so that a number stands alone."""
    return [piece for piece in re.split(r"(<[^>]*>)|[\n,]", text) if piece and piece.strip()]


def _verify_scores(folder: Path, table: Path) -> int:
    """Compare the mean and n of every row of scores.csv with the record it names."""
    if not table.is_file():
        raise DataError(f"expected the table of scores, found nothing at {table}")
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: expected a table, found {error}; build the site anew") from error
    judged_scores = functools.cache(_judged_scores)  # a record has many rows
    for number, row in enumerate(rows, start=2):
        try:
            slug, name = row["slug"], row["record"].rpartition("/")[2]
            if not (SLUG.fullmatch(slug) and FILE_NAME.fullmatch(f"{name}.json.gz")):
                raise ValueError(row["record"])
            key = f"{row['task']}.{row['split']}" if row["split"] else row["task"]
            judged = judged_scores(folder / "results" / slug / f"{name}.json.gz")[key]
            mean, count = float(row["score"]), int(row["n"])
        except (KeyError, ValueError, TypeError, AttributeError, OSError) as error:
            raise DataError(f"{table} line {number}: cannot be checked: {error!r}") from error
        if count != len(judged) or not math.isclose(
            mean, math.fsum(judged) / len(judged), abs_tol=_TOLERANCE
        ):
            raise DataError(
                f"{table} line {number}: the record gives {math.fsum(judged) / len(judged):.6f} of "
                f"{len(judged)} items, the table shows {mean} of {count}"
            )
    return len(rows)


def _judged_scores(record: Path) -> dict[str, list[float]]:
    """Return the scores of a record's items by task, without those that were not judged."""
    with gzip.open(record) as stream:
        tasks = json.load(stream)["tasks"]
    return {
        key: [score for score in task["metrics"]["score"] if score is not None]
        for key, task in tasks.items()
    }
