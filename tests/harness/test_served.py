"""The chat client against real servers on loopback, well and badly behaved."""

import json
from dataclasses import replace
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from hebench.board.read import read_run
from hebench.errors import ConfigError, HebenchError, TaskError
from hebench.harness import served
from hebench.harness.run import EvalConfig, evaluate
from hebench.harness.served import ServedModel
from hebench.harness.tasks import prompts
from hebench.records import MANIFEST_NAME
from tests import chat_server
from tests.chat_server import HALF_STATUS, Reply
from tests.chat_server import chat_server as server


def completion(text: str | None) -> Reply:
    """What this model's server says; it answers under a path of its machine."""
    return chat_server.completion(text, model="/srv/models/he-1@main")


@pytest.fixture(autouse=True)
def _few_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "_RETRIES", 1)
    monkeypatch.setattr(served, "_TIMEOUT_SECONDS", 5)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")


def ask(url: str, count: int = 1, **settings: Any) -> list[str]:
    """The answers to `count` questions."""
    model = ServedModel("he-1", url, concurrency=2, seed=7)
    requests = [
        Instance(
            request_type="generate_until",
            doc={},
            arguments=(
                json.dumps([{"role": "user", "content": f"שאלה {number}"}]),
                settings or {"until": ["</s>"], "max_gen_toks": 9},
            ),
            idx=0,
        )
        for number in range(count)
    ]
    return model.generate_until(requests)


def test_answers_come_back_in_order() -> None:
    with server(lambda _, body: completion(body["messages"][-1]["content"][::-1])) as (url, asked):
        assert ask(url, 9) == [f"שאלה {number}"[::-1] for number in range(9)]
    sent = asked[0]
    assert (sent["model"], sent["temperature"], sent["seed"]) == ("he-1", 0, 7)
    assert (sent["max_tokens"], sent["stop"]) == (9, ["</s>"])


@pytest.mark.parametrize(
    ("settings", "stop", "limit"),
    [
        ({"until": "###", "max_new_tokens": 512}, ["###"], 512),
        ({"until": list("abcdef"), "max_tokens": 7}, list("abcd"), 7),
        ({"until": [""], "temperature": 0}, None, None),
    ],
)
def test_settings_are_read_as_lm_eval_reads_them(
    settings: dict[str, Any], stop: list[str] | None, limit: int | None
) -> None:
    with server(lambda *_: completion("א")) as (url, asked):
        ask(url, **settings)
    assert (asked[0].get("stop"), asked[0].get("max_tokens")) == (stop, limit)


def test_half_a_character_is_kept_as_a_question_mark(tmp_path: Path) -> None:
    with server(lambda *_: completion("7 \ud83d")) as (url, _):
        evaluate(config(url, tmp_path))
    assert "7 ?" in (tmp_path / "answers.jsonl").read_text(encoding="utf-8")


def test_a_limited_request_is_tried_again() -> None:
    def answer(number: int, _: dict[str, Any]) -> Reply:
        return (429, {"Retry-After": "0"}, b"{}") if number == 1 else completion("שלום")

    with server(answer) as (url, asked):
        assert ask(url) == ["שלום"]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((500, {}, b"oops"), "status 500"),
        ((401, {}, b'{"error": {"message": "bad key"}}'), "status 401"),
        ((200, {"Content-Type": "text/html"}, b"<html>hello</html>"), "no chat completion came"),
        ((200, {"Content-Type": "application/json"}, b'{"choices": []}'), "no chat completion"),
        ((200, {"Content-Type": "application/json"}, b'{"choices": [{}]}'), "no chat completion"),
        (
            (200, {"Content-Type": "application/json"}, b'{"choices": {"a": 1}}'),
            "no chat completion",
        ),
        ((200, {"Content-Type": "application/json"}, b'{"choices": ["a"]}'), "no chat completion"),
        (
            (200, {"Content-Type": "application/json"}, b'{"choices": [{"message": "hi"}]}'),
            "no chat completion",
        ),
        (chat_server.completion([{"type": "image"}], model="m"), "expected a text, found"),
        ((200, {"Content-Type": "application/json"}, b"[" * 200_000), "failed after"),
        ((200, {"Content-Type": "application/json"}, b'{"choices": [{"mess'), "failed after"),
        ((HALF_STATUS, {"Content-Type": "application/json"}, b'{"choices"'), "failed after"),
    ],
)
def test_a_server_that_fails_is_one_line(reply: Reply, reason: str) -> None:
    with server(lambda *_: reply) as (url, _), pytest.raises(HebenchError, match=reason) as info:
        ask(url)
    assert "\n" not in str(info.value) and "sk-secret" not in str(info.value)


def test_the_text_among_parts_of_an_answer_is_the_answer(tmp_path: Path) -> None:
    parts = [{"type": "thinking", "thinking": "?"}, *({"type": "text", "text": t} for t in "שב")]
    with server(lambda *_: chat_server.completion(parts, model="e\x1b[2Jvil")) as (url, _):
        assert ask(url) == ["שב"]
        evaluate(config(url, tmp_path))
    assert "\\u001b" not in (tmp_path / "answers.jsonl").read_text("utf-8")


@pytest.mark.parametrize("url", ["http://localhost:80a/v1", "http://[::1/v1"])
def test_what_is_no_url_is_one_line(url: str) -> None:
    with pytest.raises(ConfigError, match="--base-url: expected a URL"):
        ask(url)


def test_no_server_at_all_is_one_line() -> None:
    with pytest.raises(HebenchError, match="failed after 1 retries: Connection error"):
        ask("http://127.0.0.1:9/v1")


def config(url: str, out: Path) -> EvalConfig:
    return EvalConfig(
        model="/srv/models/he-1",
        tasks=("hebench_mini_chat_sentiment", "hebench_mini_chat_math"),
        out=out,
        limit=3,
        track="chat",
        backend="openai",
        base_url=url,
        concurrency=1,
    )


def test_an_evaluation_that_the_server_cuts_short_goes_on(tmp_path: Path) -> None:
    def answer(number: int, _: dict[str, Any]) -> Reply:
        return completion("הרגש חיובי." if number <= 4 else "התשובה: 7")

    def dies(number: int, body: dict[str, Any]) -> Reply:
        return answer(number, body) if number <= 4 else (503, {}, b"")

    with server(dies) as (url, _), pytest.raises(HebenchError, match="status 503"):
        evaluate(config(url, tmp_path))
    assert not (tmp_path / MANIFEST_NAME).exists()
    with server(answer) as (url, asked):
        # The same server on another port: the address is a setting, so it is written over here.
        log = tmp_path / "answers.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines()
        head = json.loads(lines[0])
        head["settings"]["base_url"] = url
        log.write_text("\n".join([json.dumps(head), *lines[1:]]) + "\n", encoding="utf-8")
        manifest = evaluate(config(url, tmp_path))
        assert len(asked) == 2
    assert (manifest.requests, manifest.requests_reused) == (6, 4)
    assert (manifest.track, manifest.backend) == ("chat", "openai")
    assert manifest.model.revision == "he-1@main"
    assert manifest.model.source == manifest.model.name == "he-1"
    text = (tmp_path / MANIFEST_NAME).read_text(encoding="utf-8")
    assert "/srv/" not in text and "sk-secret" not in text
    assert set(read_run(tmp_path).tasks) == set(manifest.tasks)
    assert read_run(tmp_path).track == "chat"


def test_answers_that_came_are_kept_when_another_fails(tmp_path: Path) -> None:
    failing = prompts("hebench_mini_chat_sentiment", 1)[0]
    others = Semaphore(0)
    recovered = Event()

    def answer(_: int, body: dict[str, Any]) -> Reply:
        if recovered.is_set():
            return completion("התשובה: 7")
        if body["messages"][-1]["content"] != failing:
            others.release()
            return completion(None)
        for _ in range(5):  # until the others are answered
            others.acquire(timeout=4)
        return (401, {}, b"")

    with server(answer) as (url, _):
        start = replace(config(url, tmp_path), concurrency=2)
        with pytest.raises(HebenchError, match="status 401"):
            evaluate(start)
        recovered.set()
        manifest = evaluate(start)
    assert (manifest.requests, manifest.requests_reused, manifest.requests_failed) == (6, 5, 5)
    assert manifest.model.revision == "he-1@main"


def test_a_resumed_run_counts_and_names_what_an_earlier_one_was_given(tmp_path: Path) -> None:
    def dies(number: int, _: dict[str, Any]) -> Reply:
        return completion(None) if number <= 6 else (503, {}, b"")

    with server(dies) as (url, _):
        evaluate(config(url, tmp_path))
        (tmp_path / MANIFEST_NAME).unlink()  # it was cut short while it wrote its results
        manifest = evaluate(config(url, tmp_path))
    assert (manifest.requests_reused, manifest.requests_failed) == (6, 6)
    assert manifest.model.revision == "he-1@main"


def test_a_finished_folder_is_not_returned_for_another_server(tmp_path: Path) -> None:
    with server(lambda *_: completion("א")) as (url, _):
        evaluate(config(url, tmp_path))
    with pytest.raises(ConfigError, match="base_url = .*choose another folder"):
        evaluate(config("http://127.0.0.1:9/v1", tmp_path))


def test_withheld_answers_are_counted_and_score_nothing(tmp_path: Path) -> None:
    with server(lambda *_: completion(None)) as (url, _):
        manifest = evaluate(config(url, tmp_path))
    assert manifest.requests_failed == 6
    for task in read_run(tmp_path).tasks.values():
        assert task.scores == (0.0, 0.0, 0.0) and task.metrics["unparseable"] == 1.0


def test_tasks_that_need_likelihoods_are_refused(tmp_path: Path) -> None:
    with (
        server(lambda *_: completion("א")) as (url, _),
        pytest.raises(TaskError, match="needs log-likelihoods.*hebench_mini_chat"),
    ):
        evaluate(replace(config(url, tmp_path), tasks=("hebench_mini_sentiment",)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": None}, "go together"),
        ({"backend": "hf"}, "go together"),
        ({"track": "base"}, "add --track chat"),
        ({"track": "arena"}, "--track: expected base, chat, thinking"),
        ({"backend": "tgi"}, "--backend: expected prefix, hf, vllm, openai"),
        ({"concurrency": 0}, "--concurrency"),
        ({"revision": "main"}, "--revision: a chat server chooses it"),
    ],
)
def test_options_that_contradict_each_other(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(config("http://127.0.0.1:9/v1", tmp_path), **changes)
