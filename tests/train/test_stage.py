import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import pytest

from hebench.errors import ConfigError, DataError
from hebench.train.stage import open_stage, read_stage


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5  # per step


@dataclass(frozen=True, kw_only=True)
class Config:
    steps: int = 3
    inner: Inner = Inner()


INPUTS = {"corpus": "a" * 64}


def test_a_stage_is_recorded_when_it_begins_and_again_when_it_ends(tmp_path: Path) -> None:
    with open_stage(tmp_path, "distil", Config(), INPUTS) as stage:
        begun = read_stage(tmp_path)
        assert begun is not None
        assert begun.finished is None
        assert begun.config == {"steps": 3, "inner": {"rate": 0.5}}
        assert begun.inputs == INPUTS
        assert begun.versions["numpy"]
        record = stage.finish({"relative_error": 0.3, "out": Path("x")})
    assert read_stage(tmp_path) == record
    assert record.finished is not None
    assert record.finished >= record.started
    assert record.seconds is not None
    assert record.seconds >= 0
    assert record.metrics == {"relative_error": 0.3, "out": "x"}


def test_a_finished_stage_is_found_finished(tmp_path: Path) -> None:
    with open_stage(tmp_path, "distil", Config(), INPUTS) as stage:
        record = stage.finish({"steps": 3})
    with open_stage(tmp_path, "distil", Config(), INPUTS) as stage:
        assert stage.record == record


def test_a_stage_that_was_cut_off_is_opened_again_unfinished(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def cut_off() -> None:
        with open_stage(tmp_path, "distil", Config(), INPUTS):
            raise Killed

    with pytest.raises(Killed):
        cut_off()
    with open_stage(tmp_path, "distil", Config(), INPUTS) as stage:
        assert stage.record.finished is None
        assert stage.finish({}).finished


def test_the_seconds_are_those_of_all_runs_that_worked_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def work(seconds: float, *, ends: bool) -> None:
        with open_stage(tmp_path, "distil", Config(), INPUTS) as stage:
            clock[0] += seconds
            if not ends:
                raise KeyboardInterrupt
            stage.finish({})

    for seconds in (30.0, 20.0):
        with pytest.raises(KeyboardInterrupt):
            work(seconds, ends=False)
    work(7.5, ends=True)
    record = read_stage(tmp_path)
    assert record
    assert record.seconds == 57.5
    with open_stage(tmp_path, "distil", Config(), INPUTS):
        clock[0] += 9.0  # it is done: nothing is counted any more
    assert read_stage(tmp_path) == record


def test_what_killed_writes_left_is_removed_by_the_next_job(tmp_path: Path) -> None:
    (tmp_path / ".progress.pt.abc.tmp").write_text("half")
    (tmp_path / ".model.abc.tmp").mkdir()
    (tmp_path / ".model.abc.tmp" / "model.safetensors").write_text("half")
    with open_stage(tmp_path, "distil", Config(), INPUTS):
        (tmp_path / ".stage.json.abc.tmp").write_text("at work")
        with pytest.raises(ConfigError), open_stage(tmp_path, "distil", Config(), INPUTS):
            pass
        left = {path.name for path in tmp_path.iterdir()}
    assert left == {".lock", "stage.json", ".stage.json.abc.tmp"}


def test_a_folder_that_holds_no_work_yet_may_be_asked_for_otherwise(tmp_path: Path) -> None:
    with open_stage(tmp_path, "distil", Config(), INPUTS):
        pass  # as a stage ends that refuses what it reads
    with open_stage(tmp_path, "calibrate", Config(steps=4)) as stage:
        assert (stage.record.stage, stage.record.inputs) == ("calibrate", {})
        (tmp_path / "states.pt").write_text("work")
    with (
        pytest.raises(ConfigError, match="stage was calibrate, is distil.*choose another folder"),
        open_stage(tmp_path, "distil", Config(), INPUTS),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "config", "inputs", "difference"),
    [
        ("calibrate", Config(), INPUTS, r"stage was distil, is calibrate"),
        ("distil", Config(steps=4), INPUTS, r"config\.steps was 3, is 4"),
        ("distil", Config(inner=Inner(rate=1.0)), INPUTS, r"config\.inner\.rate was 0.5, is 1.0"),
        ("distil", Config(), {"corpus": "b" * 64}, r"inputs\.corpus was a+, is b+"),
        ("distil", Config(), {}, r"inputs\.corpus was a+, is None"),
    ],
)
def test_a_folder_begun_otherwise_is_refused_with_the_difference(
    name: str, config: Config, inputs: dict[str, str], difference: str, tmp_path: Path
) -> None:
    with open_stage(tmp_path, "distil", Config(), INPUTS) as stage:
        stage.finish({})
    before = (tmp_path / "stage.json").read_bytes()
    with (
        pytest.raises(ConfigError, match=difference + ".*choose another folder"),
        open_stage(tmp_path, name, config, inputs),
    ):
        pass
    assert (tmp_path / "stage.json").read_bytes() == before


def test_the_key_is_of_what_was_asked_and_not_of_when(tmp_path: Path) -> None:
    keys = set()
    for folder in ("a", "b"):
        with open_stage(tmp_path / folder, "distil", Config(), INPUTS) as stage:
            keys |= {stage.record.key, stage.finish({"loss_nats": 1.0}).key}
    assert len(keys) == 1
    with open_stage(tmp_path / "c", "distil", Config(steps=9), INPUTS) as stage:
        assert stage.record.key not in keys


def try_to_open(folder: Path, answer: "multiprocessing.SimpleQueue[str]") -> None:
    try:
        with open_stage(folder, "distil", Config(), INPUTS):
            answer.put("opened")
    except ConfigError as error:
        answer.put(str(error))


def test_two_jobs_cannot_hold_one_folder_and_it_is_free_afterwards(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def ask() -> str:
        process = context.Process(target=try_to_open, args=(tmp_path, answers))
        process.start()
        process.join()
        return str(answers.get())

    with open_stage(tmp_path, "distil", Config(), INPUTS):
        assert "another job is at work in this folder" in ask()
    assert ask() == "opened"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"stage": "distil", "epochs": 3}', "null"])
def test_a_damaged_record_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "stage.json").write_text(text)
    with pytest.raises(DataError, match=r"stage.json: expected a stage record.*remove the folder"):
        read_stage(tmp_path)
    with pytest.raises(DataError), open_stage(tmp_path, "distil", Config(), INPUTS):
        pass


def test_a_folder_without_a_record_holds_no_stage(tmp_path: Path) -> None:
    assert read_stage(tmp_path) is None
    assert read_stage(tmp_path / "absent") is None


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="cannot write to"),
        open_stage(tmp_path / "file", "distil", Config()),
    ):
        pass


def test_the_record_on_disk_is_json_that_a_person_can_read(tmp_path: Path) -> None:
    with open_stage(tmp_path, "corpus", Config()) as stage:
        stage.finish({"example": "שלום"})
    text = (tmp_path / "stage.json").read_text(encoding="utf-8")
    assert "שלום" in text
    assert json.loads(text)["schema"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"stage.json", ".lock"}
    assert (tmp_path / "stage.json").stat().st_mode & 0o777 == 0o644
