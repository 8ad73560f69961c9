"""The site at the size of a large board: 300 models, 30 tasks, 20,000 items with their scores.

    python benchmarks/site.py            (a few minutes; Chromium is asked, if there is one)

Scores are made up and seeded. Reported: seconds and memory of `hebench board build`, what a
reader downloads for the first page (gzip), and, in Chromium, the time of a sort, a filter and a
comparison of two models over all items, each against its budget.
"""

import gzip
import hashlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from hebench.board.extract import SETTINGS
from hebench.board.record_file import write_record
from hebench.board.suite import suite
from hebench.records import RECORD_SCHEMA, RunRecord, TaskRecord

MODELS, TASKS, ITEMS = 300, 30, 20_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def make_board(folder: Path) -> None:
    """Write the records and models.yaml of a made-up board."""
    made = np.random.default_rng(0)
    ours = [name for name in suite() if "_chat_" not in name]
    names = [*ours, *(f"other_task_{n}" for n in range(TASKS))][:TASKS]
    size = ITEMS // TASKS
    hard = made.normal(0, 1.5, (TASKS, size))
    items = {name: tuple(f"{name}-{n:04}" for n in range(size)) for name in names}
    entries = {}
    for number in range(MODELS):
        slug = f"model-{number:03}"
        entries[slug] = {
            "name": f"Model {number:03}",
            "kind": "model",
            "track": "base",
            "organisation": f"Lab {number % 17}",
            "parameters": int(10 ** made.uniform(8, 11)),
            "licence": ("Apache-2.0", "MIT", "other")[number % 3],
            "open_weights": number % 5 != 0,
            "released": f"2026-{1 + number % 12:02}-01",
        }
        skill = made.normal(0, 1)
        tasks = {}
        for place, name in enumerate(names):
            right = 1 / (1 + np.exp(hard[place] - skill - made.normal(0, 0.3)))
            scores = (made.random(size) < right).astype(float)
            if place % 3 == 0:  # a third of the tasks score in shares
                scores = np.round(np.clip(right + made.normal(0, 0.1, size), 0, 1), 4)
            tasks[name] = TaskRecord(
                version="1.0",
                split=None,
                shots=0,
                total=size,
                chance=None,
                data_sha256=hashlib.sha256(name.encode()).hexdigest(),
                prompt_sha256=hashlib.sha256(name.encode()).hexdigest(),
                items=items[name],
                clusters=None,
                metrics={"score": tuple(map(float, scores))},
                parts={},
                answers=None,
            )
        record = RunRecord(
            schema=RECORD_SCHEMA,
            model=slug,
            track="base",
            added=f"2026-{1 + number % 10:02}-{1 + number % 2:02}",
            settings=dict.fromkeys(SETTINGS) | {"name": slug, "source": slug},
            tasks=tasks,
        )
        write_record(folder / "results" / slug / f"{record.added}-{number:012x}.json.gz", record)
    (folder / "models.yaml").write_text(yaml.safe_dump(entries, sort_keys=False), encoding="utf-8")


def first_page_bytes(site: Path) -> tuple[int, int]:
    """Return the compressed size of all that the first page loads, and its scripts' own size.

    stats.js counts as its script: it is loaded when a reader chooses other columns.
    """
    page = site / "he" / "index.html"
    text = page.read_text(encoding="utf-8")
    found = {page}
    for name in re.findall(r'(?:src|href)="([^"#]+\.(?:css|js))"', text):
        found.add((page.parent / name).resolve())
    for style in [path for path in found if path.suffix == ".css"]:
        for name in re.findall(r"url\(\"?([^)\"]+)", style.read_text(encoding="utf-8")):
            found.add((style.parent / name).resolve())
    compressed = sum(
        path.stat().st_size if path.suffix == ".woff2" else len(gzip.compress(path.read_bytes()))
        for path in found
    )
    scripts = {path for path in found if path.suffix == ".js"} | {site / "assets" / "stats.js"}
    return compressed, sum(path.stat().st_size for path in scripts)


# Script and layout of an action, without waiting for the screen.
SORT = """() => {
  const button = document.querySelectorAll(".track thead button.sort")[10];
  const start = performance.now();
  button.click();
  document.querySelector("table").getBoundingClientRect();
  return performance.now() - start;
}"""
FILTER = """(words) => {
  const field = document.querySelector("input[name=q]");
  const start = performance.now();
  field.value = words;
  field.dispatchEvent(new Event("input", {bubbles: true}));
  document.querySelector("table").getBoundingClientRect();
  return performance.now() - start;
}"""
# From the files' text to the result: unpacking, every column's test, and the mean over them.
COMPARE = """async () => {
  const [columns, a, b] = await Promise.all(
    ["columns", "scores/model-000", "scores/model-001"].map(hebenchLoad));
  const start = performance.now();
  const results = columns.map(({key, n, codes}) => hebenchStats.pairedDifference(
    hebenchScores(a[key], n), hebenchScores(b[key], n), null));
  hebenchStats.macroDifference(results);
  hebenchStats.holm(results.map((result) => result.p));
  return [performance.now() - start, results.reduce((sum, result) => sum + result.n, 0)];
}"""


def time_page(site: Path, chromium: str) -> None:
    """Print the times of a sort, a filter and a comparison, medians of nine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto((site / "en" / "index.html").as_uri())
        tab.wait_for_load_state("networkidle")
        sort = np.median([tab.evaluate(SORT) for _ in range(9)])
        print(f"| sort of {MODELS} rows | {sort:.0f} ms | 100 ms |")
        words = ["model 1", "", "29", "", "model 0", "", "12", "", "7"]
        found = np.median([tab.evaluate(FILTER, word) for word in words])
        print(f"| filter of {MODELS} rows | {found:.0f} ms | 100 ms |")
        tab.goto((site / "en" / "compare.html").as_uri())
        tab.wait_for_load_state("networkidle")
        times = [tab.evaluate(COMPARE) for _ in range(9)]
        assert times[0][1] == TASKS * (ITEMS // TASKS), "every item is compared"
        middle = np.median([milliseconds for milliseconds, _ in times])
        print(f"| compare of two models, {times[0][1]:,} items | {middle:.0f} ms | 300 ms |")
        browser.close()


def main() -> None:
    """Build, measure, print."""
    with tempfile.TemporaryDirectory() as name:
        board = Path(name) / "leaderboard"
        make_board(board)
        print(f"{MODELS} models, {TASKS} tasks, {ITEMS:,} items, seed 0\n")
        print("| what | measured | budget |\n|---|--:|--:|")
        start = time.perf_counter()
        command = [sys.executable, "-m", "hebench", "board", "build", "--board", str(board)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f"| build | {seconds:.0f} s | 60 s |\n| its memory | {memory:.2f} GB | 2 GB |")
        compressed, script = first_page_bytes(board / "site")
        print(f"| first page, compressed, with fonts | {compressed / 1e3:.0f} kB | 150 kB |")
        print(f"| its JavaScript, with what it loads later | {script / 1e3:.1f} kB | 25 kB |")
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        if chromium is None:
            print("\nNo Chromium here: the page itself was not timed.")
        else:
            time_page(board / "site", chromium)


if __name__ == "__main__":
    main()
