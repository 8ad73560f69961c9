"""Votes under load: 24 writers, 10,000 votes an engine, everything killed in the middle.

    python -m benchmarks.votes_load [--votes 10000] [--writers 24] [--engine sqlite]

Each writer is a process that claims pages and votes for one rater after another, sends some votes
twice and corrects some. When 40 % of the votes are there, all writers are killed (SIGKILL), and
on PostgreSQL the server, too; then new writers finish the study. A vote is acknowledged when
`vote` returned; its id is written down only then. Printed for each engine: acknowledged votes
that the database does not have, votes that are there twice, slots, questions and raters beyond
their quota (all must be 0), and how long a page takes (claim and vote).
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import signal
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from hebench.human import schema
from hebench.human.access import enter, invite
from hebench.human.collected import collected
from hebench.human.database import Database, open_database
from hebench.human.material import Answer, Item, Material
from hebench.human.publish import publish, study_state
from hebench.human.store import Ballot, claim, vote
from hebench.human.study import Consent, Plan, Source, Study
from tests.human.postgres import BINARIES, MISSING, running

MODELS = ("aleph", "bet", "gimel", "dalet")
VOTES_EACH = 50
NAME = "load"
_KILL_AT = 0.4  # of the votes


@dataclass(frozen=True)
class Load:
    """What a writer is told."""

    url: str
    raters: tuple[int, ...]
    log: Path  # a line for each acknowledged vote: id, seconds
    seed: int


def study(votes: int) -> Study:
    """Return a study of so many votes on pairs."""
    text = {"he": "איזו תשובה טובה יותר?", "en": "Which answer is better?"}
    return Study(
        name=NAME,
        type="pairwise",
        title=text,
        instructions=text,
        question=text,
        consent=Consent(version="1", text=text),
        models={name: Source(answers=Path(name)) for name in MODELS},
        plan=Plan(raters=votes // VOTES_EACH, votes_each=VOTES_EACH, repeats=0),
        seed=1,
    )


def material(items: int) -> Material:
    """Return items with answers of about a paragraph."""
    text = "הוועדה אישרה את התוכנית לאחר דיון ארוך, והעבודות יחלו בקיץ. " * 5
    return Material(
        items=tuple(
            Item(
                name=f"i-{number}",
                source=text,
                prompt=text,
                reference=None,
                cluster=str(number),
                answers={
                    name: Answer(model=name, text=text + name, shown=text, masked=False)
                    for name in MODELS
                },
            )
            for number in range(items)
        ),
        checks=(),
        left_out={},
    )


def write_votes(load: Load) -> None:
    """Vote for one rater after another until each has no more to do."""
    chance = random.Random(load.seed)
    with open_database(load.url) as database, load.log.open("a", buffering=1) as log:
        for rater in load.raters:
            while True:
                started = time.perf_counter()
                claimed = claim(database, rater, ahead=chance.randint(1, 3))
                if not claimed.assignments:
                    if claimed.status != "wait":
                        break
                    time.sleep(0.2)
                    continue
                slot = claimed.assignments[0].slot
                answer = {"outcome": chance.choice(["first", "second", "tie", "both_bad"])}
                ballot = Ballot(id=str(uuid.uuid4()), slot=slot, answer=answer, seconds=20.0)
                vote(database, rater, ballot)
                log.write(f"{ballot.id} {time.perf_counter() - started:.6f}\n")
                if chance.random() < 0.1:
                    assert vote(database, rater, ballot).replayed
                if chance.random() < 0.05:
                    again = Ballot(id=str(uuid.uuid4()), slot=slot, answer=answer, seconds=2.0)
                    vote(database, rater, again)
                    log.write(f"{again.id} nan\n")


def run_writers(
    url: str, raters: list[int], writers: int, folder: Path, kill_at: int | None
) -> None:
    """Run the writers to their end, or kill them once `kill_at` votes are acknowledged."""
    context = multiprocessing.get_context("fork")
    number = len(list(folder.glob("acks-*")))
    processes = [
        context.Process(
            target=write_votes,
            args=(Load(url, tuple(raters[k::writers]), folder / f"acks-{number + k}", number + k),),
        )
        for k in range(writers)
    ]
    for process in processes:
        process.start()
    while kill_at is not None and _acknowledged(folder) < kill_at:
        time.sleep(0.2)
        assert any(process.is_alive() for process in processes), "the writers ended early"
    for process in processes:
        if kill_at is not None:
            process.kill()
    if kill_at is None:
        for process in processes:
            process.join()
        assert all(process.exitcode == 0 for process in processes), "a writer failed"


def _acknowledged(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("acks-*"))


def report(database: Database, engine: str, folder: Path, seconds: float) -> None:
    """Print what is in the database against what was acknowledged."""
    acknowledged, times = [], []
    for path in folder.glob("acks-*"):
        for line in path.read_text().splitlines():
            vote_id, took = line.split()
            acknowledged.append(vote_id)
            times.append(float(took))
    votes, slots = schema.votes, schema.slots
    with database.read() as connection:
        stored = Counter(connection.execute(select(votes.c.id)).scalars())
        by_slot = connection.execute(
            select(votes.c.slot, func.count(votes.c.rater.distinct())).group_by(votes.c.slot)
        ).all()
        by_rater = connection.execute(
            select(slots.c.rater, func.count())
            .where(slots.c.answered.is_not(None))
            .group_by(slots.c.rater)
        ).all()
    found = collected(database, NAME)
    by_task = Counter(standing.task.id for standing in found.counted())
    over = sum(by_task[task.id] > task.planned for task in found.tasks)
    page = 1000 * np.array([took for took in times if not np.isnan(took)])
    lost = sum(vote_id not in stored for vote_id in acknowledged)
    cells = [
        engine,
        f"{len(acknowledged):,}",
        f"{lost}",
        f"{sum(count > 1 for count in stored.values())}",
        f"{sum(count > 1 for _, count in by_slot)}",
        f"{over}",
        f"{sum(count > VOTES_EACH for _, count in by_rater)}",
        f"{found.answered:,} of {found.slots:,}",
        f"{len(acknowledged) / seconds:.0f}",
        f"{np.median(page):.0f} / {np.quantile(page, 0.99):.0f} ms",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


def measure(engine: str, url: str, arguments: argparse.Namespace, restart: object = None) -> None:
    """Publish, load, kill, restart, finish and report."""
    votes, writers = arguments.votes, arguments.writers
    with tempfile.TemporaryDirectory(prefix="hebench-load-") as temporary:
        folder = Path(temporary)
        url = url or f"sqlite:///{folder / 'load.sqlite'}"
        with open_database(url) as database:
            publish(database, study(votes), material(votes // 4))
            link = invite(database, NAME, people=votes // VOTES_EACH)
            raters = [
                enter(database, link.token, consent="1").person.rater
                for _ in range(votes // VOTES_EACH)
            ]
        started = time.perf_counter()
        run_writers(url, raters, writers, folder, int(_KILL_AT * votes))
        if callable(restart):
            restart()
        for process in multiprocessing.active_children():
            process.join()
        with open_database(url) as database:
            print(
                f"  {engine}: killed at {study_state(database, NAME).answered:,} votes", flush=True
            )
        run_writers(url, raters, writers, folder, None)
        seconds = time.perf_counter() - started
        with open_database(url) as database:
            report(database, engine, folder, seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Votes under load, killed in the middle.")
    parser.add_argument("--votes", type=int, default=10_000, help="of the plan, an engine")
    parser.add_argument("--writers", type=int, default=24, help="processes")
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), help="one of the two")
    arguments = parser.parse_args()
    print(
        "| engine | acknowledged | lost | twice | slots over | questions over | raters over "
        "| slots answered | votes a second | page p50 / p99 |"
    )
    print(f"|--|{'--:|' * 9}", flush=True)  # or each writer, being a fork, prints it once more
    if arguments.engine != "postgresql":
        measure("SQLite", "", arguments)
    if arguments.engine == "sqlite":
        return
    if not BINARIES.is_dir():
        print(MISSING)
        return
    with running(options="-c fsync=on") as server:

        def restart() -> None:
            os.kill(server.pid(), signal.SIGKILL)
            for _ in range(50):
                time.sleep(0.2)
                with contextlib.suppress(Exception):
                    server.start()
                    return
            raise SystemExit("the server did not start again")

        measure("PostgreSQL", server.url, arguments, restart)


if __name__ == "__main__":
    main()
