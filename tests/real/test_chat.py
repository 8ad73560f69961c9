"""The chat track against a real server: `transformers serve` with the demo model."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hebench.board.read import read_run
from hebench.harness.run import EvalConfig, evaluate
from hebench.models.demo import obtain

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> Path:
    """The demo model, downloaded and converted on first use."""
    return obtain()


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a running server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = (tmp_path_factory.mktemp("server") / "log").open("w")
    running = subprocess.Popen(
        command, stdout=log, stderr=log, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert running.poll() is None and time.monotonic() < deadline, log.name
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        running.terminate()
        running.wait(timeout=30)
        log.close()


def test_the_chat_track_runs_against_a_real_server(
    model: Path, server: str, tmp_path: Path
) -> None:
    manifest = evaluate(
        EvalConfig(
            model=str(model),
            tasks=("hebench_mini_chat",),
            out=tmp_path,
            limit=1,
            track="chat",
            backend="openai",
            base_url=server,
            concurrency=1,
            max_tokens=24,
        )
    )
    assert (manifest.requests, manifest.requests_failed, manifest.track) == (11, 0, "chat")
    assert manifest.model.revision and model.name in manifest.model.revision
    run = read_run(tmp_path)
    assert len(run.tasks) == 11
    for task in run.tasks.values():
        assert len(task.scores) == 1 and 0 <= task.scores[0] <= 1
        assert 0 <= task.metrics["unparseable"] <= 1


def test_the_same_chat_tasks_run_on_the_weights(model: Path, tmp_path: Path) -> None:
    """Without a server, the harness applies the model's own template."""
    manifest = evaluate(
        EvalConfig(
            model=str(model),
            tasks=("hebench_mini_chat_sentiment", "hebench_mini_chat_instructions"),
            out=tmp_path,
            limit=2,
            track="chat",
            dtype="float32",
            max_tokens=24,
        )
    )
    assert manifest.track == "chat" and manifest.requests == 4
    samples = next(tmp_path.glob("samples_hebench_mini_chat_sentiment_*")).read_text("utf-8")
    assert "<|im_start|>user" in samples and "<|im_start|>assistant" in samples
