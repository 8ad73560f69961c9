"""How long raters wait: 200 of them at one vote every 20 seconds, over HTTP, and a page's weight.

    python benchmarks/votes_latency.py [--raters 200] [--seconds 60] [--database URL]

A real server in its own process, SQLite unless a PostgreSQL URL is given. Each rater is a session
that does what the page's script does: send a vote, then fetch pages ahead; votes of all raters
are spread evenly. Reported: what was sent and acknowledged, the percentiles of a vote and of a
fetch against 250 ms, votes in the database, and a first page's size against 60 kB.
"""

import argparse
import multiprocessing
import re
import socket
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

from hebench.human.access import enter, invite
from hebench.human.assets import assets
from hebench.human.collected import collected
from hebench.human.database import Database, open_database
from hebench.human.material import Answer, Item, Material
from hebench.human.publish import publish
from hebench.human.serve import serve
from hebench.human.study import Consent, Plan, Source, Study

PAUSE = 20.0  # seconds between the votes of one rater
BUDGET_MS, BUDGET_BYTES = 250, 60_000
NAME = "latency"
MODELS = ("a", "b", "c")
TEXT = {"he": "איזה תקציר טוב יותר?", "en": "Which summary is better?"}
PARAGRAPH = "ספריית העירייה תיסגר לשיפוץ ב־1 ביולי ותיפתח מחדש באוקטובר, אמרה מנהלת הספרייה. " * 6


def publish_study(database: Database, raters: int, votes: int) -> None:
    """Publish a pairwise study with work for all raters."""
    study = Study(
        name=NAME,
        type="pairwise",
        title=TEXT,
        instructions=TEXT,
        question=TEXT,
        consent=Consent(version="1", text=TEXT),
        models={name: Source(answers=Path(f"{name}.jsonl")) for name in MODELS},
        plan=Plan(raters=raters, votes_each=votes, repeats=0),
        seed=1,
    )
    items = tuple(
        Item(
            name=f"item-{number:04}",
            source=PARAGRAPH * 3,
            prompt=PARAGRAPH,
            reference=None,
            cluster=f"item-{number:04}",
            answers={
                m: Answer(model=m, text=PARAGRAPH + m, shown=PARAGRAPH + m, masked=False)
                for m in MODELS
            },
        )
        for number in range(400)
    )
    publish(database, study, Material(items=items, checks=(), left_out={}))


class Rater:
    """One browser."""

    def __init__(self, database: Database, address: str) -> None:
        """Come in, and load the page as a browser does."""
        token = invite(database, NAME).token
        session = enter(database, token, consent="1").session
        self.client = httpx.Client(
            base_url=address,
            cookies={f"hebench_session_{NAME}": session},
            headers={"accept": "application/json"},
            timeout=60,
        )
        page = self.client.get("/work").text
        found = re.search(r'data-token="([^"]+)"', page)
        if found is None:
            raise RuntimeError(f"expected a page to judge, found {page[:200]!r}")
        self.client.headers["x-form-token"] = found[1]
        self.slots: list[str] = []
        self.slots = self.fetch()

    def fetch(self) -> list[str]:
        """Return the slots of the pages ahead."""
        answer = self.client.post("/claim", data={"held": self.slots[1:], "ahead": "yes"})
        answer.raise_for_status()
        return [page["slot"] for page in answer.json()["pages"]]

    def turn(self) -> tuple[float, float]:
        """Send a vote and fetch pages; return the milliseconds of each."""
        body = {"id": str(uuid.uuid4()), "slot": self.slots[0], "seconds": "20", "outcome": "tie"}
        began = time.perf_counter()
        answer = self.client.post("/vote", data=body)
        voted = time.perf_counter()
        answer.raise_for_status()
        self.slots = self.fetch()
        return 1000 * (voted - began), 1000 * (time.perf_counter() - voted)


def page_weight(address: str, rater: Rater) -> int:
    """Return the compressed bytes of a first visit: page, styles, scripts, fonts."""
    asked = {"accept": "text/html", "accept-encoding": "gzip"}
    page = rater.client.get("/work", headers=asked)
    folder = re.search(r'href="(/static/[^"]+/)human\.css"', page.text)
    if folder is None:
        raise RuntimeError("expected a style sheet")
    total = int(page.headers["content-length"])
    for name in assets():
        total += int(rater.client.get(folder[1] + name, headers=asked).headers["content-length"])
    return total


def run(raters: list[Rater], seconds: float) -> tuple[list[tuple[float, float]], float]:
    """Let everyone vote at their pace; return the milliseconds, and how late turns began."""
    done: list[tuple[float, float]] = []
    late = [0.0]
    lock = threading.Lock()
    start = time.perf_counter() + 1

    def one(number: int) -> None:
        at = start + PAUSE * number / len(raters)
        while at < start + seconds:
            time.sleep(max(0.0, at - time.perf_counter()))
            lateness = time.perf_counter() - at
            found = raters[number].turn()
            with lock:
                done.append(found)
                late[0] = max(late[0], lateness)
            at += PAUSE

    with ThreadPoolExecutor(len(raters)) as pool:
        for future in [pool.submit(one, number) for number in range(len(raters))]:
            future.result()
    return done, late[0]


def main() -> None:
    """Run the load and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--database", help="a postgresql:// URL of an empty database")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        url = asked.database or str(Path(folder) / "study.sqlite")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        with open_database(url) as database:
            publish_study(database, asked.raters, int(asked.seconds / PAUSE) + 8)
            server = multiprocessing.get_context("spawn").Process(
                target=serve, kwargs={"database_url": url, "study": NAME, "port": port}
            )
            server.start()
            try:
                address = f"http://127.0.0.1:{port}"
                _wait_for(port)
                raters = [Rater(database, address) for _ in range(asked.raters)]
                weight = page_weight(address, raters[0])
                done, late = run(raters, asked.seconds)
            finally:
                server.terminate()
                server.join()
            _report(database, asked.raters, done, late, weight)


def _wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit("the server did not start within a minute")


def _report(
    database: Database, raters: int, done: list[tuple[float, float]], late: float, weight: int
) -> None:
    stored = len(collected(database, NAME).votes)
    print(f"{raters} raters, a vote every {PAUSE:g} s, {database.engine.dialect.name}")
    print(f"votes acknowledged {len(done)}, in the database {stored}, lost {len(done) - stored}")
    print(f"turns began at most {1000 * late:.0f} ms late (the load generator's own delay)")
    for name, times in zip(("vote", "fetch"), np.array(done).T, strict=True):
        p50, p95, p99 = np.percentile(times, (50, 95, 99))
        print(f"{name}: median {p50:.0f} ms, p95 {p95:.0f}, p99 {p99:.0f} (budget {BUDGET_MS})")
    print(f"a first page, compressed, with fonts: {weight / 1000:.1f} kB (budget 60)")


if __name__ == "__main__":
    main()
