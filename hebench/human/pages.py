"""Pages as HTML: the templates, the reader's language, and how the reader wants to see them.

`render` fills a template of `templates/` and gives it, beside its own values: `t` and `p`
(strings of `strings/`, as HTML and as plain text), `language`, `direction`, `view`, `study`,
`asset(name)`, `typeset(text)` and `line(text)`. Nothing that names a model reaches a template but
by way of `hebench.human.dashboard`.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from hebench.catalogue import DIRECTIONS, LANGUAGES, Texts, code, ltr
from hebench.human.assets import version
from hebench.human.study import Study
from hebench.human.typeset import sentences, typeset, typeset_line
from hebench.human.visitors import Visitor, site_of, token_for

PACKAGE = "hebench.human"
SWITCHES = ("large", "plain", "quiet")  # large text, no points, no keys
VIEW_COOKIE = "hebench_view"
LANGUAGE_COOKIE = "hebench_language"
# What a rater may do next to two answers, in the order of the buttons and of the digit keys.
_ORDER = ("first", "second", "tie", "both_good", "both_bad", "cannot_judge")


@dataclass(frozen=True, kw_only=True)
class View:
    """How a reader wants pages: language, and switches that are on."""

    language: str
    switches: frozenset[str]

    @property
    def classes(self) -> str:
        """Return the classes of the page's root."""
        return " ".join(name for name in SWITCHES if name in self.switches)


def view_of(request: Request) -> View:
    """Return a reader's view: as chosen, else the browser's language, else Hebrew."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen not in LANGUAGES:
        wanted = request.headers.get("accept-language", "").lower().split(",")
        known = (part.strip()[:2] for part in wanted)
        chosen = next((name for name in known if name in LANGUAGES), "he")
    on = request.cookies.get(VIEW_COOKIE, "").split(".")
    return View(language=chosen, switches=frozenset(name for name in SWITCHES if name in on))


def page(
    request: Request,
    template: str,
    *,
    visitor: Visitor | None = None,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """Return a whole page."""
    html = render(
        request,
        template,
        visitor=visitor,
        token=values.pop("token", token_for(request, visitor) if visitor else ""),
        path=values.pop("path", request.url.path),
        **values,
    )
    return HTMLResponse(html, status_code=status)


def render(request: Request, template: str, **values: Any) -> str:
    """Return a filled template."""
    view = view_of(request)
    texts = Texts(PACKAGE, view.language)
    other = next(name for name in LANGUAGES if name != view.language)
    study = site_of(request).study
    return (
        environment()
        .get_template(template)
        .render(
            t=texts.text,
            p=texts.plain,
            view=view,
            language=view.language,
            direction=DIRECTIONS[view.language],
            other=other,
            other_name=Texts(PACKAGE, other).text("language.name"),
            study=study,
            outcomes=outcomes(study),
            strings=texts.subset("js."),
            typeset=functools.partial(typeset, masked=texts.plain("rating.masked")),
            line=functools.partial(typeset_line, masked=texts.plain("rating.masked")),
            **values,
        )
    )


def outcomes(study: Study) -> tuple[str, ...]:
    """Return the outcomes of a study in the order of their buttons."""
    return tuple(name for name in _ORDER if name in study.outcomes)


@functools.cache
def environment() -> jinja2.Environment:
    """Return the templates' environment: escaping, strict."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader(PACKAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    found.globals |= {
        "asset": _asset,
        "code": code,
        "ltr": ltr,
        "name": _name,
        "percent": _percent,
        "sentences": sentences,
        "switches": SWITCHES,
    }
    return found


def _asset(name: str) -> str:
    return f"/static/{version()}/{name}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _name(text: str) -> Markup:
    return Markup("<bdi>{}</bdi>").format(text)
