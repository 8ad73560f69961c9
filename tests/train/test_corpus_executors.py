"""The corpus stage under a kill, on Slurm (played by shell scripts) and on Ray."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from hebench.config import build
from hebench.data.load import mini_records
from hebench.errors import ConfigError
from hebench.train.corpus import CorpusConfig, run
from hebench.train.texts import read_documents

TEXTS = [record["passage"] for record in mini_records("qa")]


def content(folder: Path, **changes: object) -> dict[str, object]:
    """A configuration as a recipe holds it, with its corpus of two files in `folder`."""
    for name, texts in (("first", TEXTS[:21]), ("second", TEXTS[21:])):
        path = folder / "he" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    given = {
        "language": "he",
        "path": str(folder / "he"),
        "heldout_words": 100,
        "rules": {"min_frequent_share": 0.2},
    }
    return {
        "language": "he",
        "inputs": {"hebrew": given},
        "benchmark_sets": ["mini-trivia"],
        "tasks": 2,
        "bands": 2,
        "rows": 5,
        **changes,
    }


def texts_of(out: Path) -> list[str]:
    return [document.text for document in read_documents(out / "train")]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("expected")
    run(build(CorpusConfig, content(folder), "test"), out=folder / "out")
    return texts_of(folder / "out")


PROGRAM = """
import sys
from pathlib import Path
from hebench.config import build, read_yaml
from hebench.train.corpus import CorpusConfig, run
run(build(CorpusConfig, read_yaml(Path(sys.argv[1])), "test"), out=Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path: Path, expected: list[str]) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(yaml.safe_dump(content(tmp_path)), "utf-8")
    command = [sys.executable, "-c", PROGRAM, str(recipe), str(out)]
    moment = random.Random()
    for _ in range(3):
        with subprocess.Popen(command, start_new_session=True) as process:
            while not (out / "logs").exists() and process.poll() is None:
                time.sleep(0.05)
            time.sleep(moment.uniform(0, 1.5))
            os.killpg(process.pid, signal.SIGKILL)
    subprocess.run(command, check=True, timeout=120)
    assert texts_of(out) == expected
    assert not (out / "work").exists()


SBATCH = """\
#!/bin/bash
# Run the array of a job here and now; --export and --dependency come first, the script last.
for argument in "$@"; do
  case "$argument" in --export=ALL,*) export "${argument#--export=ALL,}";; esac
done
script="${@: -1}"
array=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
export SLURM_NODELIST=here SLURM_JOB_ID=7
for number in $(seq 0 "${array:-0}"); do
  if [ -n "$array" ]; then export SLURM_ARRAY_TASK_ID=$number; fi
  bash "$script" > "$FAKE_SLURM/job-$number.out" 2>&1
done
echo Submitted batch job 7
"""


SRUN = """\
#!/bin/bash
# Run what stands behind the options.
while [ "${1#-}" != "$1" ]; do
  [ "$1" = -n ] && shift
  shift
done
"$@"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with the commands of Slurm that datatrove calls."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    scripts = {
        "sbatch": SBATCH,
        "srun": SRUN,
        "scontrol": "#!/bin/bash\necho here\n",
        "squeue": "#!/bin/bash\n",
    }
    for name, script in scripts.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.mark.slow
def test_slurm_jobs_make_the_same_corpus(slurm: Path, tmp_path: Path, expected: list[str]) -> None:
    asked = content(tmp_path, executor="slurm", slurm_partition="cpu", slurm_hours=3)
    run(build(CorpusConfig, asked, "test"), out=tmp_path / "out")
    assert texts_of(tmp_path / "out") == expected
    script = (tmp_path / "out" / "logs" / "clean" / "launch_script.slurm").read_text("utf-8")
    for line in ("--partition=cpu", "--time=3:00:00", "--array=0-1%1", "job-name=hebench-corpus"):
        assert line in script


@pytest.mark.slow
def test_slurm_jobs_that_fail_are_one_clear_line(slurm: Path, tmp_path: Path) -> None:
    asked = content(tmp_path, executor="slurm", slurm_partition="cpu")
    (slurm / "srun").write_text("#!/bin/bash\nexit 1\n")
    with pytest.raises(ConfigError, match="2 of 2 tasks of phase 'words' did not complete"):
        run(build(CorpusConfig, asked, "test"), out=tmp_path / "out")


def test_a_machine_without_slurm_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    asked = content(tmp_path, executor="slurm", slurm_partition="cpu")
    with pytest.raises(ConfigError, match="expected a cluster that takes jobs, found .*sbatch"):
        run(build(CorpusConfig, asked, "test"), out=tmp_path / "out")


@pytest.mark.slow
def test_ray_makes_the_same_corpus(tmp_path: Path, expected: list[str]) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(yaml.safe_dump(content(tmp_path, executor="ray")), "utf-8")
    # In a process of its own: Ray's daemons end with it.
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(recipe), str(out)],
        check=True,
        timeout=500,
        env={**os.environ, "RAY_DISABLE_IMPORT_WARNING": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert texts_of(out) == expected
