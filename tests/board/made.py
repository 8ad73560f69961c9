"""A made-up leaderboard for tests: seeded scores on the packaged sets, no real model."""

import dataclasses
from pathlib import Path

import numpy as np
import yaml

from hebench.board.extract import SETTINGS
from hebench.board.record_file import content_hash, write_record
from hebench.board.suite import packaged_docs, task_info
from hebench.files import sha256_of_json
from hebench.records import RECORD_SCHEMA, Answer, RunRecord, TaskRecord

MINI = (
    "hebench_mini_qa",
    "hebench_mini_sentiment",
    "hebench_mini_winograd",
    "hebench_mini_translation_en_he",
    "hebench_mini_nli",
    "hebench_mini_grammar",
)
CHAT = ("hebench_mini_chat_sentiment", "hebench_mini_chat_trivia")
WORDS = ("תשובה", "אין תשובה", "the answer", "שבע", "בית הספר", "ירושלים")


def made_task(key: str, skill: float, seed: int, *, limit: int | None = None) -> TaskRecord:
    """A task record on the real items of a packaged set with made-up answers."""
    docs = list(packaged_docs(key).values())
    shown = docs[: limit or len(docs)]
    made = np.random.default_rng((seed, len(key)))
    hard = np.random.default_rng(len(key)).normal(0, 1.5, len(docs))[: len(shown)]
    right = 1 / (1 + np.exp(hard - 3 * (skill - 0.5)))
    choice = "choices" in docs[0] and task_info(key).output_type == "multiple_choice"
    if "choices" in docs[0]:
        scores = (made.random(len(shown)) < right).astype(float)
    else:
        scores = np.round(np.clip(right + made.normal(0, 0.1, len(shown)), 0, 1), 4)
    answers: list[Answer] = []
    for doc, score in zip(shown, scores, strict=True):
        if choice:
            gold, size = doc["label"], len(doc["choices"])
            best = gold if score else (gold + 1) % size
            answers.append(tuple(-1.0 if place == best else -2.5 for place in range(size)))
        else:
            answers.append(str(made.choice(WORDS)))
    codes: dict[str, int] = {}
    clusters = tuple(codes.setdefault(doc["cluster"], len(codes)) for doc in shown)
    return TaskRecord(
        version=task_info(key).version,
        split=None,
        shots=task_info(key).shots,
        total=len(docs),
        chance=1 / len(docs[0]["choices"]) if "choices" in docs[0] else None,
        data_sha256=sha256_of_json([doc["id"] for doc in shown]),
        prompt_sha256=sha256_of_json([doc["id"] for doc in shown]),
        items=tuple(doc["id"] for doc in shown),
        clusters=clusters if len(codes) < len(shown) else None,
        metrics={"score": tuple(float(score) for score in scores)},
        parts={},
        answers=tuple(answers),
    )


def made_record(
    slug: str,
    tasks: dict[str, TaskRecord],
    *,
    track: str = "base",
    added: str = "2026-11-01",
    name: str | None = None,
) -> RunRecord:
    """A record with plausible settings."""
    settings = dict.fromkeys(SETTINGS) | {
        "name": name or slug,
        "source": f"owner/{slug}",
        "dtype": "bfloat16",
        "backend": "hf",
        "batch_size": 8,
        "device": "cpu",
        "seed": 1234,
        "versions": {"hebench": "0.1.0", "lm_eval": "0.4.13"},
        "hardware": {"machine": "x86_64"},
        "requests": 10,
        "requests_truncated": 0,
        "requests_failed": 0,
    }
    return RunRecord(
        schema=RECORD_SCHEMA, model=slug, track=track, added=added, settings=settings, tasks=tasks
    )


def store(folder: Path, record: RunRecord) -> Path:
    """Write a record where the board looks for it."""
    name = f"{record.added}-{content_hash(record)[:12]}.json.gz"
    path = folder / "results" / record.model / name
    write_record(path, record)
    return path


def made_board(folder: Path, *, hostile: bool = False) -> Path:
    """Write models, checkpoints of a run with two seeds, baselines and a chat track."""
    entries: dict[str, dict[str, object]] = {}
    for number, skill in enumerate((0.75, 0.72, 0.6, 0.45)):
        slug = f"model-{'abcd'[number]}"
        entries[slug] = {
            "name": f"Model {'ABCD'[number]} דגם",
            "kind": "model",
            "track": "base",
            "organisation": "Lab",
            "parameters": 10 ** (8 + number // 2) * (number + 1),
            "licence": ("Apache-2.0", "MIT", "CC-BY-NC-4.0", None)[number],
            "open_weights": (True, True, True, None)[number],
            "released": f"2026-0{number + 1}-01",
            "link": f"https://example.org/{slug}",
        }
        tasks = {key: made_task(key, skill, number) for key in MINI}
        if number == 3:
            tasks["hebench_mini_qa"] = made_task("hebench_mini_qa", skill, number, limit=50)
        added = f"2026-11-{number + 1:02}"
        store(folder, made_record(slug, tasks, added=added))
    for seed in (0, 1):
        for place, step in enumerate((100, 200, 300, 400)):
            slug = f"run-x-s{seed}-{step}"
            entries[slug] = {
                "name": f"Run X, seed {seed}, step {step}",
                "kind": "model",
                "track": "base",
                "parameters": 135_000_000,
                "checkpoint": {
                    "run": "run-x",
                    "step": step,
                    "tokens": step * 2048,
                    "seed": seed,
                    "loss": 3.0 - place / 5,
                    "chosen": seed == 0 and step == 300,
                },
            }
            skill = 0.4 + 0.08 * place
            tasks = {key: made_task(key, skill, 10 + 7 * seed + place) for key in MINI}
            store(folder, made_record(slug, tasks, added="2026-11-10"))
    entries["baseline-random"] = {
        "name": "Baseline: random", "kind": "baseline", "track": "base",
    }  # fmt: skip
    tasks = {key: made_task(key, 0.2, 99) for key in MINI}
    record = made_record("baseline-random", tasks)
    store(folder, dataclasses.replace(record, settings=record.settings | {"backend": "baseline"}))
    for number, skill in enumerate((0.8, 0.5)):
        slug = f"chat-{'ab'[number]}"
        entries[slug] = {"name": f"Chat {'AB'[number]}", "kind": "model", "track": "chat"}
        tasks = {key: made_task(key, skill, 40 + number) for key in CHAT}
        store(folder, made_record(slug, tasks, track="chat"))
    if hostile:
        entries |= _hostile(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models.yaml").write_text(
        yaml.safe_dump(entries, allow_unicode=True, sort_keys=False), encoding="utf-8"
    )
    return folder


EVIL = '<script>window.hacked=1</script>\u202e=HYPERLINK("x")\'"&../..\u2066'


def _hostile(folder: Path) -> dict[str, dict[str, object]]:
    task = made_task("hebench_mini_qa", 0.5, 77)
    answers = [EVIL + "א" * 3000, *(EVIL for _ in task.items[1:])]
    task = dataclasses.replace(task, answers=tuple(answers))
    record = made_record("hostile", {"hebench_mini_qa": task}, name=EVIL)
    settings = {"source": "../../" + EVIL, "device": EVIL, "revision": "x" * 400}
    store(folder, dataclasses.replace(record, settings=record.settings | settings))
    return {
        "hostile": {
            "name": EVIL + "x" * 100_000,
            "kind": "model",
            "track": "base",
            "organisation": EVIL,
            "licence": EVIL,
            "note": EVIL,
            "training_data": EVIL * 100,
        }
    }
