"""A study that looks like one, and a real server for it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from hebench.human.access import invite
from hebench.human.app import create_app
from hebench.human.database import Database, open_database
from hebench.human.material import Answer, Item, Material
from hebench.human.publish import publish
from hebench.human.serve import PatientProtocol
from hebench.human.study import Axis, Consent, Source, Study
from tests.human.made_study import MODELS, made_study

SOURCE = (
    "ספריית העירייה בחולון תיסגר לשיפוץ ב־1 ביולי ותיפתח מחדש באוקטובר. לדברי מנהלת הספרייה, "
    "ד״ר רות לוי, השיפוץ יכלול אולם קריאה חדש ומעלית, ועלותו 4.2 מיליון ש״ח.\n\n"
    "בתקופת השיפוץ יפעל סניף זמני במתנ״ס קוגל, בימים א׳–ה׳ בשעות 9:00–19:00."
)
ANSWERS = (
    "הספרייה בחולון נסגרת לשיפוץ עד אוקטובר. בינתיים פועל סניף זמני במתנ״ס קוגל.",
    "אני ▇▇▇. הספרייה תיסגר, ובעמדת ה־API מריצים `pip install books` ב־C++17.\n\n"
    "```python\nprint('שלום')\n```\n\nThe library will be closed.\n\nבְּרֵאשִׁית בָּרָא.",
    "השיפוץ יעלה 4.2 מיליון ש״ח, וייבנו בו אולם קריאה ומעלית. 😀 סוף.",
)
HOSTILE = (
    "<script>window.hacked=1</script><img src=x onerror=window.hacked=1> "
    "[קישור](javascript:window.hacked=1) ![](http://evil.example/x.png) </div></article>",
    "\u202e\u2066הפוך\u200f ␀ " + "אאאאאאאאאא" * 300 + " " + "W" * 3000,
    "<svg onload=window.hacked=1> &lt;b&gt; \" ' {{ 7*7 }} {% raw %} \x07\x1b[31m\u00ad\ufeff",
)
_TITLES = {
    "faithful": ("נאמנות למקור", "Faithful", "סותר", "contradicts", "נאמן", "faithful"),
    "fluent": ("עברית תקינה", "Fluent Hebrew", "קשה להבנה", "hard to follow", "טבעית", "natural"),
}


def looking_study(kind: str, *, votes: int = 10, raters: int = 4) -> Study:
    """A study of summaries with texts in both languages."""
    axes = tuple(
        Axis(
            name=name,
            title={"he": he, "en": en},
            low={"he": low, "en": low_en},
            high={"he": high, "en": high_en},
        )
        for name, (he, en, low, low_en, high, high_en) in _TITLES.items()
    )
    return replace(
        made_study(
            checks=None,
            type=kind,
            plan={"raters": raters, "votes_each": votes, "overlap": 3, "overlap_share": 0.5},
        ),
        title={"he": "תקצירים של כתבות", "en": "News summaries"},
        question={"he": "איזה תקציר טוב יותר?", "en": "Which summary is better?"},
        instructions={"he": "קראו את הכתבה.\nאורך אינו יתרון.", "en": "Read it.\nMind length."},
        consent=Consent(version="1", text={"he": "מרצון.", "en": "Voluntary."}),
        axes=axes if kind in ("likert", "pairwise_dimensions") else (),
    )


def looking_material(study: Study, texts: tuple[str, ...], source: str) -> Material:
    items = tuple(
        Item(
            name=f"item-{number}",
            source=source,
            prompt=source,
            reference=None,
            cluster=f"item-{number}",
            answers={
                model: Answer(model=model, text=text, shown=text, masked=False)
                for model, text in zip(study.models, texts, strict=True)
            },
        )
        for number in range(12)
    )
    return Material(items=items, checks=(), left_out={})


class Served:
    """A running server and its database."""

    def __init__(self, database: Database, study: Study, address: str) -> None:
        self.database, self.study, self.address = database, study, address

    def link(self, role: Any = "rater") -> str:
        return f"{self.address}/rate/{invite(self.database, self.study.name, role=role).token}"


@contextmanager
def served(
    folder: Path,
    kind: str = "pairwise",
    *,
    texts: tuple[str, ...] = ANSWERS,
    source: str = SOURCE,
    models: tuple[str, ...] = MODELS,
) -> Iterator[Served]:
    """Publish a study into a new SQLite file and serve it on a free port."""
    study = replace(
        looking_study(kind),
        models={name: Source(answers=folder / f"{name}.jsonl") for name in models},
    )
    with open_database(str(folder / "study.sqlite")) as database:
        publish(database, study, looking_material(study, texts, source))
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            create_app(database, study.name),
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            log_level="error",
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield Served(database, study, f"http://localhost:{listening.getsockname()[1]}")
        server.should_exit = True
        thread.join()
