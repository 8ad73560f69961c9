"""`hebench eval` with shared beginnings: the manifest, the answers that are kept, vLLM."""

import importlib.metadata
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from lm_eval.api.registry import model_registry
from transformers import AutoTokenizer

from hebench.board.read import read_run
from hebench.errors import ConfigError
from hebench.harness import models
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


def request(text: str, task: str = "one", repeats: int = 1) -> Any:
    return SimpleNamespace(args=(text, " כן"), task_name=task, repeats=repeats)


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


def test_answers_that_a_task_asks_for_again_are_kept_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    again, once = request("א", repeats=3), request("א", "two")
    asked_for = [again, again, again, once]
    drawn = iter(range(100))

    def ask(missing: list[Any], disable_tqdm: bool) -> list[Any]:
        found = [f"תשובה {next(drawn)}" for _ in missing]
        log.add_partial("generate_until", missing[0].args, found[0])  # as models do
        return found

    log = AnswerLog(path, {}, {})
    found = log.answer(ask, "generate_until", asked_for)
    log.close()
    assert len(set(found)) == 4
    log = AnswerLog(path, {}, {})
    # The last request again: what keeps several processes in step asks for nothing new.
    assert log.answer(ask, "generate_until", [*asked_for, once]) == [*found, found[-1]]
    assert next(drawn) == 4 and log.reused == 2
    log.close()


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


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A package vllm whose engine only keeps what it was made with, around lm-eval's own class."""
    made: list[dict[str, Any]] = []
    contents: dict[str, dict[str, Any]] = {
        "vllm": {
            "LLM": lambda **options: made.append(options),
            "SamplingParams": dict,
            "TokensPrompt": dict,
        },
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": None},
        "vllm.tokenizers": {"get_tokenizer": lambda name, **_: AutoTokenizer.from_pretrained(name)},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.8.0" if name == "vllm" else version(name)
    )
    monkeypatch.setitem(sys.modules, "lm_eval.models.vllm_causallms", None)  # gone afterwards
    del sys.modules["lm_eval.models.vllm_causallms"]
    monkeypatch.setattr(model_registry, "_objs", dict(model_registry._objs))
    return made


@pytest.mark.parametrize(
    ("thinking", "end"), [(None, "?"), (False, "<think></think>"), (True, "<think>")]
)
def test_vllm_is_lm_evals_own_with_its_prefix_cache_and_told_whether_to_think(
    tiny_model: Path, engines: list[dict[str, Any]], thinking: bool | None, end: str
) -> None:
    """By contract: lm-eval 0.4.13's class without an engine; vLLM itself is not run."""
    identity = identify(str(tiny_model), name=None, revision=None, dtype="bfloat16")
    found = load_local(
        str(tiny_model),
        identity,
        backend="vllm",
        dtype="bfloat16",
        device="cuda",
        batch_size=8,
        seed=7,
        thinking=thinking,
    )
    (options,) = engines
    expected = {"model": str(tiny_model), "dtype": "bfloat16", "seed": 7}
    assert options | expected | {"enable_prefix_caching": True} == options
    found.tokenizer.chat_template = (
        "{{ messages[-1].content }}{% if enable_thinking %}<think>"
        "{% elif enable_thinking is false %}<think></think>{% endif %}"
    )
    assert found.apply_chat_template([{"role": "user", "content": "?"}]).endswith(end)
    assert ("<think>" in end) == (thinking is not None)


def test_vllm_that_thinks_is_not_asked_to_score_answers(
    tiny_model: Path, tmp_path: Path, engines: list[dict[str, Any]]
) -> None:
    with pytest.raises(ConfigError, match="free answers, found hebench_mini_sentiment"):
        evaluate(config(tiny_model, tmp_path, backend="vllm", track="thinking"))
    assert len(engines) == 1


def test_vllm_that_is_not_installed_is_one_line(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match="--backend vllm needs the vllm package") as info:
        evaluate(config(tiny_model, tmp_path, backend="vllm"))
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(("asked", "right"), [("cuda", True), ("cuda:0", True), ("cpu", False)])
def test_a_launcher_gives_devices_of_the_kind_that_was_asked_for(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, asked: str, right: bool
) -> None:
    started = SimpleNamespace(world_size=2, device="cuda:1")
    monkeypatch.setattr(models, "_class_of", lambda _: lambda **_: started)
    identity = identify(str(tiny_model), name=None, revision=None, dtype="float32")
    options = {"backend": "prefix", "dtype": "float32", "batch_size": 2, "seed": 0}
    if right:
        assert load_local(str(tiny_model), identity, device=asked, **options) is started
        return
    with pytest.raises(ConfigError, match="such as cuda:1, found cpu"):
        load_local(str(tiny_model), identity, device=asked, **options)


def test_only_the_shared_backend_builds_the_model_that_shares(tiny_model: Path) -> None:
    identity = identify(str(tiny_model), name=None, revision=None, dtype="float32")
    for backend in ("hf", "prefix"):
        options = {"dtype": "float32", "device": "cpu", "batch_size": 2, "seed": 0}
        found = load_local(str(tiny_model), identity, backend=backend, **options)
        assert isinstance(found, PrefixLM) == (backend == "prefix")


@pytest.mark.parametrize(
    ("speed", "dtype", "said"),
    [(0.02, "bfloat16", True), (0.02, "float32", False), (2.0, "bfloat16", False)],
)
def test_a_processor_that_is_slow_in_bfloat16_is_told_of(  # noqa: PLR0913 (fixtures)
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    speed: float,
    dtype: str,
    said: bool,
) -> None:
    monkeypatch.setattr("hebench.train.device.bf16_speed", lambda: speed)
    identity = identify(str(tiny_model), name=None, revision=None, dtype=dtype)
    options = {"dtype": dtype, "device": "cpu", "batch_size": 2, "seed": 0}
    load_local(str(tiny_model), identity, backend="prefix", **options)
    heard = "50 times as slowly in bfloat16 as in float32; --dtype float32" in caplog.text
    assert heard is said
