"""`hebench eval` with shared beginnings: the manifest, the answers that are kept, vLLM."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from hebench.board.read import read_run
from hebench.errors import ConfigError
from hebench.harness.answers import AnswerLog
from hebench.harness.models import identify, load_local, settings_sha256
from hebench.harness.prefix import PrefixLM, lm
from hebench.harness.run import EvalConfig, evaluate

TASKS = ("hebench_mini_sentiment", "hebench_mini_qa")


def config(model: Path, out: Path, **more: Any) -> EvalConfig:
    options: dict[str, Any] = {"limit": 2, "dtype": "float32", "max_tokens": 8} | more
    return EvalConfig(model=str(model), tasks=TASKS, out=out, **options)


def test_a_run_says_which_backend_answered_and_the_default_shares(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(config(tiny_model, tmp_path / "stock", backend="hf"))
    evaluate(config(tiny_model, tmp_path / "ours"))
    monkeypatch.setattr(lm, "branched", lambda _: "made up")
    evaluate(config(tiny_model, tmp_path / "fallen"))
    runs = {name: read_run(tmp_path / name) for name in ("stock", "ours", "fallen")}
    backends = {name: run.manifest.backend for name, run in runs.items() if run.manifest}
    assert backends == {"stock": "hf", "ours": "prefix", "fallen": "hf"}
    for run in runs.values():
        assert run.manifest and runs["stock"].manifest
        assert run.manifest.prompt_sha256 == runs["stock"].manifest.prompt_sha256
        for name in TASKS:
            assert run.tasks[name].scores == runs["stock"].tasks[name].scores


def test_answers_come_one_by_one_and_end_in_the_log(tiny_model: Path, tmp_path: Path) -> None:
    manifest = evaluate(config(tiny_model, tmp_path))
    lines = (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    settings = json.loads(lines[0])["settings"]
    assert settings["settings_sha256"] == settings_sha256(str(tiny_model))
    assert len(lines) == 1 + manifest.requests == 1 + 2 * 3 + 2


# ------------------------------------------------------------------------- whose answers they are


def request(text: str, task: str = "one") -> Any:
    return SimpleNamespace(args=(text, " כן"), task_name=task)


def asked(log: AnswerLog, requests: list[Any]) -> list[str]:
    """The prompts that the log had to ask for."""
    found: list[str] = []

    def ask(missing: list[Any], disable_tqdm: bool) -> list[Any]:
        found.extend(one.args[0] for one in missing)
        return [(-1.0, True)] * len(missing)

    log.answer(ask, "loglikelihood", requests)
    log.close()
    return found


def test_an_answer_serves_the_same_prompt_of_the_same_task_and_version(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    first = [request("א"), request("ב"), request("א", "two")]
    versions = {"one": "1.0", "two": "1.0"}
    assert asked(AnswerLog(path, {"dtype": "x"}, versions), first) == ["א", "ב", "א"]
    again = AnswerLog(path, {"dtype": "x"}, versions)
    assert asked(again, [*first, request("ג")]) == ["ג"] and again.reused == 3
    changed = AnswerLog(path, {"dtype": "x"}, versions | {"one": "1.1"})
    assert asked(changed, first) == ["א", "ב"]
    with pytest.raises(ConfigError, match="dtype = x, and this run has dtype = y"):
        AnswerLog(path, {"dtype": "y"}, versions)


def test_another_tokenizer_beside_the_same_weights_never_gets_these_answers(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in tiny_model.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    evaluate(config(model, tmp_path / "run", limit=1))
    file = model / "tokenizer_config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | {"add_bos_token": True}), encoding="utf-8")
    for limit in (1, 2):  # the finished run, and one that goes on from it
        with pytest.raises(ConfigError, match="settings_sha256"):
            evaluate(config(model, tmp_path / "run", limit=limit))


def test_processes_of_one_run_write_a_file_each_and_read_all(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    logs = [AnswerLog(path, {}, {}, rank=rank) for rank in (0, 1)]
    assert asked(logs[0], [request("א")]) == ["א"] and asked(logs[1], [request("ב")]) == ["ב"]
    with (tmp_path / "answers.1.jsonl").open("a") as stream:
        stream.write('{"key": "cut sh')  # that process was killed
    alone = AnswerLog(path, {}, {})
    alone.merge()
    assert asked(alone, [request("א"), request("ב"), request("ג")]) == ["ג"]
    assert [file.name for file in tmp_path.iterdir()] == ["answers.jsonl"]
    assert asked(AnswerLog(path, {}, {}), [request("א"), request("ב"), request("ג")]) == []


def test_the_first_process_gathers_the_answers_of_all(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    first, second = (AnswerLog(path, {}, {}, rank=rank) for rank in (0, 1))
    asked(second, [request("ב")])
    first.merge()
    first.close()
    assert [file.name for file in tmp_path.iterdir()] == ["answers.jsonl"]
    assert asked(AnswerLog(path, {}, {}), [request("ב")]) == []


# -------------------------------------------------------------------------------------- backends


def test_vllm_is_lm_evals_own_with_its_prefix_cache(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By contract: the arguments that lm-eval 0.4.13's class takes; vLLM itself is not run."""
    made: list[dict[str, Any]] = []
    module = ModuleType("lm_eval.models.vllm_causallms")
    module.VLLM = lambda **options: made.append(options) or "the model"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    identity = identify(str(tiny_model), name=None, revision=None, dtype="bfloat16")
    found = load_local(
        str(tiny_model),
        identity,
        backend="vllm",
        dtype="bfloat16",
        device="cuda",
        batch_size=8,
        seed=7,
    )
    assert found == "the model"
    assert made == [
        {
            "pretrained": str(tiny_model),
            "revision": "main",
            "dtype": "bfloat16",
            "batch_size": "auto",
            "seed": 7,
            "enable_prefix_caching": True,
        }
    ]


def test_vllm_that_is_not_installed_is_one_line(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match="--backend vllm needs the vllm package") as info:
        evaluate(config(tiny_model, tmp_path, backend="vllm"))
    assert "\n" not in str(info.value)


def test_only_the_shared_backend_builds_the_model_that_shares(tiny_model: Path) -> None:
    identity = identify(str(tiny_model), name=None, revision=None, dtype="float32")
    for backend in ("hf", "prefix"):
        options = {"dtype": "float32", "device": "cpu", "batch_size": 2, "seed": 0}
        found = load_local(str(tiny_model), identity, backend=backend, **options)
        assert isinstance(found, PrefixLM) == (backend == "prefix")
