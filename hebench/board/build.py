"""Build the site: a folder of static files, Hebrew and English, from the leaderboard's records.

    >>> build_site(Path("leaderboard"), Path("leaderboard/site"))

The same records give the same bytes. The site works from a plain folder (`file:`), without
JavaScript, and asks for nothing outside itself. All text from records is escaped by the
templates and bounded.
"""

import functools
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import rjsmin
from tqdm import tqdm

from hebench.board import api, packed, show, tabledata
from hebench.board.page import Page, Site
from hebench.board.pages import changes, checkpoints, compare, items, method, models, table, tasks
from hebench.board.pages import votes as votes_pages
from hebench.board.standings import standings
from hebench.board.store import read_store
from hebench.board.votes import read_votes
from hebench.catalogue import DIRECTIONS, LANGUAGES, Texts, code, isolated, ltr
from hebench.errors import ConfigError, DataError

_PACKAGE = "hebench.board"
MARKER = "api/v1/board.json"  # a folder that holds it is an earlier site and may be replaced
_PAGES = (table, models, tasks, compare, items, checkpoints, votes_pages, method, changes)
_PRINTED = {"chance", "percent", "bounds", "interval", "ranks", "size", "shown", "visible"}


@dataclass(frozen=True)
class File:
    """One file of the site."""

    path: str
    content: bytes


def load_site(folder: Path) -> Site:
    """Return what the pages are made of.

    Raises DataError as `read_store` and `read_votes`, and where there is nothing to show.
    """
    entries, stored = read_store(folder)
    votes = read_votes(folder, entries)
    if not stored and not votes:
        raise DataError(
            f"{folder}: expected run records under results/ or people's votes under votes/, found "
            "neither; add a run or an export of votes with hebench board add"
        )
    return Site(
        board=standings(entries, stored),
        votes=votes,
        version=_version(folder),
        date=max(
            [item.record.added for item in stored]
            + [item.withdrawn.date for item in stored if item.withdrawn]
            + [study.closed for study in votes]
        ),
    )


def site_files(site: Site) -> Iterator[File]:
    """Yield every file of the site."""
    yield from _static()
    yield File("index.html", _render_entry(site))
    for module in _PAGES:
        for page in module.pages(site):
            for language in LANGUAGES:
                yield File(f"{language}/{page.path}", _render(page, site, language))
    for path, content in (*packed.files(site), *tabledata.files(site), *api.files(site)):
        yield File(path, content)


def build_site(folder: Path, out: Path) -> Path:
    """Write the site of a leaderboard folder to `out`, in place of an earlier one; return `out`.

    The old site stays until the new one is whole. Raises ConfigError if `out` holds anything
    but a site, DataError as `load_site` does.
    """
    out = out.resolve()  # of "." or of a link there is no neighbour
    if Path.cwd().is_relative_to(out):
        raise ConfigError(f"{out}: this command runs there; choose a folder that may be replaced")
    if out.exists() and not (out.is_dir() and ((out / MARKER).exists() or not any(out.iterdir()))):
        raise ConfigError(f"{out}: expected an empty folder or an earlier site; choose another")
    site = load_site(folder)
    new, old = (out.with_name(f".{out.name}.{state}") for state in ("new", "old"))
    for stale in (new, old):
        shutil.rmtree(stale, ignore_errors=True)
    for file in tqdm(site_files(site), desc="site", unit="file", disable=None):
        path = new / file.path
        if path.exists():
            raise DataError(f"{file.path}: two pages want this place; rename the task or run")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    return out


def _static() -> Iterator[File]:
    """Yield styles, fonts and scripts; scripts go without their comments and indentation."""
    root = Path(str(resources.files(_PACKAGE))) / "static"
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".js":
            content = rjsmin.jsmin(content.decode("utf-8")).encode("utf-8")
        yield File(f"assets/{path.relative_to(root).as_posix()}", content)
    for font in sorted((Path(str(resources.files("hebench"))) / "fonts").iterdir()):
        yield File(f"assets/fonts/{font.name}", font.read_bytes())


def _render(page: Page, site: Site, language: str) -> bytes:
    depth = page.path.count("/")
    texts = Texts(_PACKAGE, language)
    other = next(name for name in LANGUAGES if name != language)
    html = (
        environment()
        .get_template(page.template)
        .render(
            t=texts.text,
            p=texts.plain,
            known=texts.__contains__,
            language=language,
            direction=DIRECTIONS[language],
            other=other,
            other_texts=Texts(_PACKAGE, other),
            root="../" * (depth + 1),
            home="../" * depth,
            page=page,
            site=site,
            board=site.board,
            title=texts.plain(page.title, **page.title_values),
            scripts=texts.subset("js."),
            **page.context,
        )
    )
    return html.encode("utf-8")


def _render_entry(site: Site) -> bytes:
    texts = [Texts(_PACKAGE, language) for language in LANGUAGES]
    html = environment().get_template("entry.html").render(texts=texts)
    return html.encode("utf-8")


@functools.cache
def environment() -> jinja2.Environment:
    """Return the templates' environment: escaping, strict, with the functions of `show`."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    printed: dict[str, Any] = {name: getattr(show, name) for name in _PRINTED}
    found.globals |= printed | {"ltr": ltr, "code": code, "isolated": isolated}
    return found


def _version(folder: Path) -> str:
    """Return a hash of everything that the site is made from, twelve hexadecimal digits."""
    digest = hashlib.sha256()
    sources = [folder / "models.yaml", *folder.glob("results/*/*"), *folder.glob("votes/*")]
    for path in sorted(path for path in sources if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
