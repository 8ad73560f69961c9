"""Judging run folders through real servers on loopback, well and badly behaved."""

import json
import math
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hebench.errors import ConfigError, DataError, HebenchError
from hebench.harness import judge
from hebench.harness.judge import JudgeConfig, judge_run
from hebench.metrics.judge import AXES, LONGEST_TEXT, prompt_sha256
from tests import chat_server
from tests.chat_server import HALF_STATUS, JSON, Reply

TASK = "hebench_mini_summarization"
STAMP = "2026-11-23T04-49-42.466761"


def completion(text: str | None, *, finish: str = "stop", model: str = "/srv/judge-7b") -> Reply:
    """What this judge's server says."""
    return chat_server.completion(text, model=model, finish=finish)


def rated(*scores: int) -> Reply:
    """A good reply with these scores, in the order of the axes."""
    return completion(json.dumps(dict(zip(AXES, scores, strict=True))))


LIMITED: Reply = (429, {"Retry-After": "0"}, b"{}")
HALF: Reply = (HALF_STATUS, JSON, b'{"choices": [{"mess')  # the server announces more than it sends


def server(
    answer: Callable[[int, str], Reply],
) -> AbstractContextManager[tuple[str, list[dict[str, Any]]]]:
    """A running server; `answer` gets (number, prompt)."""
    return chat_server.chat_server(
        lambda number, body: answer(number, body["messages"][0]["content"])
    )


@pytest.fixture(autouse=True)
def _few_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "_RETRIES", 1)
    monkeypatch.setattr(judge, "_TIMEOUT_SECONDS", 5)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")


def sample(number: int, summary: str, **doc: Any) -> dict[str, Any]:
    """A line of lm-eval's samples."""
    article = f"העירייה פתחה את גן מספר {number}. לטקס באו 120 תושבים."
    start = {
        "id": f"su-{number}",
        "title": f"גן {number} נפתח",
        "article": article,
        "target": f"גן {number} נפתח בטקס.",
    }
    return {"doc_id": number, "doc": start | doc, "resps": [[summary]], "filtered_resps": [summary]}


def write_run(folder: Path, samples: Sequence[dict[str, Any]], *, stamp: str = STAMP) -> Path:
    """A run folder as the plain lm_eval leaves it."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in samples]
    (folder / f"samples_{TASK}_{stamp}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four items with a summary each."""
    return write_run(
        tmp_path / "he-1", [sample(number, f"סיכום {number}") for number in range(1, 5)]
    )


def config(url: str, *runs: Path, **changes: Any) -> JudgeConfig:
    """One request at a time, so that the n-th request is known."""
    start = JudgeConfig(runs=runs, task=TASK, model="owner/judge", base_url=url, concurrency=1)
    return replace(start, **changes)


def log_of(run: Path) -> list[dict[str, Any]]:
    text = (run / f"judge_{TASK}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def summary_of(run: Path, name: str = f"judge_{TASK}.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / name).read_text(encoding="utf-8"))
    return found


def test_four_axes_with_their_intervals(run: Path) -> None:
    replies = [rated(10, 1, 5, 5), rated(10, 1, 6, 5), rated(1, 1, 7, 5), rated(1, 1, 8, 5)]
    with server(lambda number, _: replies[number - 1]) as (url, asked):
        summary = judge_run(config(url, run))
    assert summary.axes is not None
    means = {axis: interval.mean for axis, interval in summary.axes.items()}
    assert means == pytest.approx(
        {"relevance": 0.5, "coherence": 0.0, "consistency": 5.5 / 9, "fluency": 4 / 9}
    )
    assert summary.axes["relevance"].method == "wilson" and summary.axes["consistency"].n == 4
    assert 0 < summary.axes["consistency"].low < 5.5 / 9 < summary.axes["consistency"].high < 1
    assert (summary.n, summary.requests, summary.unparseable, summary.reused) == (4, 4, 0, 0)
    assert summary.verdicts["su-2"] == dict(zip(AXES, (10, 1, 6, 5), strict=True))
    assert (summary.judge, summary.served) == ("owner/judge", ("judge-7b",))
    assert summary.runs == ("he-1",) and summary.prompt_sha256 == prompt_sha256("axes", "he")
    written = summary_of(run)
    assert written["axes"]["relevance"]["mean"] == 0.5 and written["pair"] is None
    assert written["served"] == ["judge-7b"] and written["language"] == "he"
    sent = asked[0]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("owner/judge", 0, 2048)
    assert "<article>\nגן 1 נפתח\nהעירייה" in sent["messages"][0]["content"]
    everything = "".join(path.read_text(encoding="utf-8") for path in run.iterdir())
    assert "sk-secret" not in everything and "/srv/" not in everything


def test_the_same_command_twice_asks_nothing(run: Path) -> None:
    with server(lambda *_: rated(3, 4, 5, 6)) as (url, asked):
        first = judge_run(config(url, run))
        assert judge_run(config(url, run)) == replace(first, reused=4)
        assert len(asked) == 4
        # Whatever changes the question is asked anew: wording, judge, text.
        judge_run(config(url, run, language="en"))
        judge_run(config(url, run, model="owner/other"))
        assert len(asked) == 12
        lines = [sample(number, f"סיכום {number}") for number in range(1, 4)]
        write_run(run, [*lines, sample(4, "סיכום אחר")])
        assert judge_run(config(url, run)).reused == 3
        assert len(asked) == 13 and len(log_of(run)) == 13
    # Without a server at all, what is in the log is enough.
    assert judge_run(config("http://127.0.0.1:9/v1", run)).reused == 4


def test_the_reference_is_judged_beside(run: Path) -> None:
    def answer(_: int, prompt: str) -> Reply:
        return rated(9, 9, 9, 9) if "בטקס.\n</summary>" in prompt else rated(2, 2, 2, 2)

    with server(answer) as (url, asked):
        assert judge_run(config(url, run)).reference is None
        summary = judge_run(config(url, run, include_reference=True))
        assert len(asked) == 8 and summary.reused == 4
    assert summary.axes and summary.reference and summary.reference_verdicts
    assert summary.axes["fluency"].mean == pytest.approx(1 / 9)
    assert summary.reference["fluency"].mean == pytest.approx(8 / 9)
    assert summary.reference_verdicts["su-4"] == dict.fromkeys(AXES, 9)


@pytest.mark.parametrize(
    "text", ["הסיכום טוב מאוד, 9.", "", None, '{"relevance": 9}', "<html>oops</html>"]
)
def test_what_is_not_an_answer_is_counted_and_not_guessed(run: Path, text: str | None) -> None:
    with server(lambda number, _: completion(text) if number < 3 else rated(4, 4, 4, 4)) as (
        url,
        asked,
    ):
        summary = judge_run(config(url, run))
        assert judge_run(config(url, run)).unparseable == 2 and len(asked) == 4
    assert summary.unparseable == 2 and summary.axes
    interval = summary.axes["coherence"]
    assert (interval.n, interval.unscored) == (2, 2) and interval.mean == pytest.approx(3 / 9)
    assert summary.verdicts["su-1"] is None and summary_of(run)["verdicts"]["su-1"] is None


def test_no_readable_reply_at_all_is_no_number(run: Path) -> None:
    with server(lambda *_: completion("לא אדרג.")) as (url, _):
        summary = judge_run(config(url, run))
    assert summary.axes and math.isnan(summary.axes["fluency"].mean)
    assert summary_of(run)["axes"]["fluency"]["mean"] is None


@pytest.mark.parametrize("first", [LIMITED, HALF, (503, {"Retry-After": "0"}, b"busy")])
def test_a_reply_that_fails_once_is_asked_again(run: Path, first: Reply) -> None:
    with server(lambda number, _: first if number == 1 else rated(7, 7, 7, 7)) as (url, asked):
        summary = judge_run(config(url, run))
    assert len(asked) == 5 and summary.unparseable == 0
    assert len(log_of(run)) == 4


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((500, {}, b"oops"), "status 500"),
        ((401, {}, b'{"error": {"message": "bad key"}}'), "status 401"),
        (LIMITED, "status 429"),
        ((200, {"Content-Type": "text/html"}, b"<html>\nhello</html>"), "no chat completion came"),
        ((200, JSON, b'{"choices": []}'), "no chat completion came"),
        ((200, JSON, b'{"choices": {"message": "a"}}'), "no chat completion came"),
        ((200, JSON, b'{"choices": [{"message": "a"}]}'), "no chat completion came"),
        ((200, JSON, b'{"error": "overloaded"}'), "no chat completion came"),
        ((200, JSON, b"[]"), "no chat completion came"),
        ((200, JSON, b'{"choices": [{"mess'), "failed after 1 retries"),
        (HALF, "failed after 1 retries"),
    ],
)
def test_a_server_that_fails_is_one_line_and_loses_nothing(
    run: Path, reply: Reply, reason: str
) -> None:
    with (
        server(lambda number, _: rated(5, 5, 5, 5) if number < 3 else reply) as (url, _),
        pytest.raises(HebenchError, match=reason) as info,
    ):
        judge_run(config(url, run))
    assert "\n" not in str(info.value) and "sk-secret" not in str(info.value)
    assert len(log_of(run)) == 2 and not (run / f"judge_{TASK}.json").exists()
    with server(lambda *_: rated(5, 5, 5, 5)) as (url, asked):
        assert judge_run(config(url, run)).reused == 2
        assert len(asked) == 2


def test_replies_that_arrive_while_another_fails_are_kept(run: Path) -> None:
    all_asked = threading.Barrier(4, timeout=10)

    def answer(_: int, prompt: str) -> Reply:
        all_asked.wait()
        if "סיכום 1\n" in prompt:
            return 401, {}, b"{}"
        time.sleep(0.3)  # the others answer after the failure
        return rated(5, 5, 5, 5)

    with server(answer) as (url, _), pytest.raises(HebenchError, match="status 401"):
        judge_run(config(url, run, concurrency=4))
    assert {line["item"] for line in log_of(run)} == {"su-2", "su-3", "su-4"}


def test_many_at_a_time_give_what_one_at_a_time_does(run: Path) -> None:
    def answer(_: int, prompt: str) -> Reply:
        found = re.search(r"סיכום (\d)\n", prompt)
        return rated(*[int(found[1])] * 4) if found else completion("")

    with server(answer) as (url, _):
        many = judge_run(config(url, run, concurrency=4))
        (run / f"judge_{TASK}.jsonl").unlink()
        assert judge_run(config(url, run)) == many
    assert many.verdicts["su-3"] == dict.fromkeys(AXES, 3)


def test_a_line_that_a_crash_cut_short_is_asked_again(run: Path) -> None:
    with server(lambda *_: rated(5, 5, 5, 5)) as (url, asked):
        judge_run(config(url, run))
        log = run / f"judge_{TASK}.jsonl"
        log.write_bytes(log.read_bytes()[:-7])
        assert judge_run(config(url, run)).reused == 3
        assert len(asked) == 5 and len(log_of(run)) == 4
        log.write_text('{"judge": "x"}\n', encoding="utf-8")
        with pytest.raises(DataError, match="jsonl line 1: expected a judge's reply"):
            judge_run(config(url, run))


def test_a_reply_that_the_limit_cut_is_asked_again_under_another(run: Path) -> None:
    with server(lambda *_: completion("<think>הסיכום", finish="length")) as (url, asked):
        summary = judge_run(config(url, run, max_tokens=5))
        assert (summary.unparseable, summary.truncated) == (4, 4)
        assert judge_run(config(url, run, max_tokens=5)).reused == 4
        assert [body["max_tokens"] for body in asked] == [5] * 4
    with server(lambda *_: rated(5, 5, 5, 5)) as (url, asked):
        summary = judge_run(config(url, run, max_tokens=None))
        assert (summary.reused, summary.truncated, summary.unparseable) == (0, 0, 0)
        assert "max_tokens" not in asked[0]
        assert judge_run(config(url, run, max_tokens=7)).reused == 4  # whole ones stand


def test_thinking_is_not_judged_and_an_empty_summary_is_not_sent(tmp_path: Path) -> None:
    summaries = ["<think>מה כתוב כאן?</think>\nגן נפתח.", "<think>מה כתוב", "  "]
    run = write_run(tmp_path / "r", [sample(n, text) for n, text in enumerate(summaries)])
    with server(lambda *_: rated(10, 10, 10, 10)) as (url, asked):
        summary = judge_run(config(url, run))
    assert len(asked) == 1 and "מה כתוב" not in asked[0]["messages"][0]["content"]
    assert summary.unasked == 2 and summary.axes
    assert summary.axes["fluency"].mean == pytest.approx(1 / 3)
    assert summary.verdicts["su-1"] == dict.fromkeys(AXES, 1)


def test_two_runs_side_by_side(run: Path, tmp_path: Path) -> None:
    texts = ["ארוך 1", "ארוך 2", "ארוך 3", "סיכום 4"]  # the last one is that of the first run
    lines = [sample(number, text) for number, text in enumerate(texts, start=1)]
    other = write_run(tmp_path / "he-2", lines[::-1])

    def answer(_: int, prompt: str) -> Reply:
        first_is_own = "<summary_1>\nסיכום" in prompt
        if "גן 1 " in prompt:
            return completion("1" if first_is_own else "2")  # the first run's is better
        if "גן 2 " in prompt:
            return completion("1")  # whichever stands first
        return completion("2" if first_is_own else "1")

    with server(answer) as (url, asked):
        summary = judge_run(config(url, run, other))
        assert judge_run(config(url, run, other)).reused == 6 and len(asked) == 6
    pair = summary.pair
    assert pair and summary.axes is None
    assert (pair.wins, pair.ties, pair.inconsistent, pair.n) == ((1, 1), 2, 1, 4)
    assert pair.score.mean == pytest.approx((1 + 0.5 + 0 + 0.5) / 4)
    assert pair.score.low < 0.5 < pair.score.high
    assert summary.verdicts == {"su-1": 1, "su-2": 0, "su-3": 2, "su-4": 0}
    assert summary.unasked == 1 and summary.runs == ("he-1", "he-2")
    assert summary.prompt_sha256 == prompt_sha256("preference", "he")
    assert summary_of(run, f"judge_{TASK}_vs_he-2.json")["pair"]["wins"] == [1, 1]
    (tmp_path / "elsewhere").mkdir()
    namesake = write_run(tmp_path / "elsewhere" / "he-2", lines)
    with server(answer) as (url, _):
        judge_run(config(url, run, namesake))
        # Evaluated anew: that takes the place of the earlier one.
        write_run(other, lines, stamp=STAMP.replace("2026", "2027"))
        judge_run(config(url, run, other))
    found = [summary_of(run, f"judge_{TASK}_vs_he-2{end}.json") for end in ("", "-2")]
    assert [STAMP in one["samples"][1] for one in found] == [False, True]
    assert found[0]["place"] != found[1]["place"] and not list(run.glob("judge_*-3.json"))
    assert not list(other.glob("judge_*"))


def test_a_pair_without_two_readable_replies_has_no_verdict(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "b", [sample(1, "אחר"), sample(2, ""), sample(3, "א")])
    replies = ["1", "שניהם טובים", "tie", "tie"]
    with server(lambda number, _: completion(replies[number - 1])) as (url, asked):
        # Items 1 and 3 are asked in the first order, then in the second.
        summary = judge_run(config(url, run, other, limit=3))
    assert len(asked) == 4 and summary.pair
    assert summary.verdicts == {"su-1": 0, "su-2": 1, "su-3": None}
    assert (summary.pair.n, summary.unparseable, summary.unasked) == (2, 1, 1)
    assert (summary.pair.inconsistent, summary.pair.score.unscored) == (1, 1)


def test_runs_on_other_items_are_refused(run: Path, tmp_path: Path) -> None:
    lines = [sample(number, "א") for number in range(1, 5)]
    changed = write_run(tmp_path / "b", [*lines[:3], sample(4, "א", article="כתבה אחרת")])
    with pytest.raises(DataError, match=r"\(4\) and .* \(4\), found 3 in common"):
        judge_run(config("http://127.0.0.1:9/v1", run, changed))
    shorter = write_run(tmp_path / "c", lines[:3])
    with pytest.raises(DataError, match=r"\(4\) and .* \(3\), found 3 in common"):
        judge_run(config("http://127.0.0.1:9/v1", run, shorter))


def test_the_newest_samples_of_that_very_task_are_judged(run: Path) -> None:
    nested = run / "owner__model"
    newest = write_run(nested, [sample(1, "החדש ביותר")], stamp="2026-12-01T00-00-00.000001")
    write_run(run, [sample(1, "ישן")], stamp="2025-01-01T00-00-00")
    (newest / f"samples_{TASK}_long_2027-01-01T00-00-00.jsonl").write_text("{}\n")
    with server(lambda *_: rated(5, 5, 5, 5)) as (url, asked):
        summary = judge_run(config(url, run))
    assert "החדש ביותר" in asked[0]["messages"][0]["content"] and len(asked) == 1
    assert summary.samples == (f"samples_{TASK}_2026-12-01T00-00-00.000001.jsonl",)


def test_texts_that_are_hard_to_write_down(tmp_path: Path) -> None:
    lines = [sample(1, "חצי תו: \ud83d"), sample(2, "ב" * (LONGEST_TEXT + 1))]
    run = tmp_path / "r"
    run.mkdir()
    (run / f"samples_{TASK}_{STAMP}.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    with server(lambda *_: completion("\ud83d")) as (url, asked):
        summary = judge_run(config(url, run))
    assert (summary.unparseable, summary.shortened) == (2, 1)
    assert "חצי תו: ?" in asked[0]["messages"][0]["content"]
    assert log_of(run)[0]["reply"] == "?"


def test_lm_evals_nested_responses_are_read(tmp_path: Path) -> None:
    line = sample(1, "")
    line["filtered_resps"], line["resps"] = [], [["  תשובה גולמית "]]
    del line["doc"]["id"], line["doc"]["title"]
    run = write_run(tmp_path / "r", [line])
    with server(lambda *_: rated(5, 5, 5, 5)) as (url, asked):
        assert judge_run(config(url, run)).verdicts.keys() == {"1"}
    assert "<summary>\nתשובה גולמית\n</summary>" in asked[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "expected at least one sample, found none"),
        ([{"doc": {"question": "מי?"}, "resps": [["א"]]}], "line 1: .*no text in doc.article"),
        ([{"doc": None, "resps": [["א"]]}], "line 1: .*no text in doc.article"),
        ([sample(1, "א", article="")], "line 1: .*no text in doc.article"),
        ([sample(1, "א", title=7)], "line 1: .*doc.title or doc.target that is no text"),
        ([sample(1, "א"), {"doc": {"article": "א"}, "resps": []}], "line 2: .*no text in filt"),
        ([sample(1, "א"), sample(1, "ב")], "line 2: .*item su-1 for the second time"),
        ([sample(1, "א", target="")], "line 1: .*item su-1 without a reference"),
    ],
)
def test_samples_of_another_kind_are_one_line(
    tmp_path: Path, lines: list[dict[str, Any]], message: str
) -> None:
    run = write_run(tmp_path / "r", lines)
    with pytest.raises(DataError, match=message) as info:
        judge_run(config("http://127.0.0.1:9/v1", run, include_reference=True))
    assert "\n" not in str(info.value) and not list(run.glob("judge_*"))


def test_a_folder_without_that_task_says_what_it_has(run: Path, tmp_path: Path) -> None:
    start = config("http://127.0.0.1:9/v1", run)
    with pytest.raises(DataError, match=f"expected samples of x, found those of {TASK};"):
        judge_run(replace(start, task="x"))
    with pytest.raises(DataError, match="expected a run folder, found none at"):
        judge_run(replace(start, runs=(tmp_path / "nothing",)))
    (run / "answers.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="not finished"):
        judge_run(start)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": ()}, "expected one run folder or two, found 0"),
        ({"runs": (Path("a"), Path("b"), Path("c"))}, "expected one run folder or two, found 3"),
        ({"runs": (Path("a"), Path("b/../a"))}, "expected two different run folders"),
        ({"runs": (Path("a"), Path("b")), "include_reference": True}, "goes with one run folder"),
        ({"model": ""}, "--judge: expected the name of a model"),
        ({"base_url": "localhost:8000"}, "--base-url: expected http"),
        ({"language": "fr"}, "--language: expected he or en, found 'fr'"),
        ({"limit": 0}, "--limit: expected at least 1"),
        ({"concurrency": 0}, "--concurrency: expected at least 1"),
        ({"max_tokens": -1}, "--max-tokens: expected at least 1"),
    ],
)
def test_options_that_cannot_be_carried_out(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(config("http://127.0.0.1:9/v1", Path("a")), **changes)


def test_importing_the_judge_loads_no_heavy_library() -> None:
    code = (
        "import sys, hebench.harness.judge; "
        "sys.exit(str({'torch', 'lm_eval', 'openai', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"
