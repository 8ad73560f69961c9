"""Run a recipe: every stage in order, from the first that is not complete, and measure between.

    RUN/recipe.json   what was asked: of the first run until a later one has come to its end
    RUN/corpus/ tokenizer/ distil/ calibrate/ pretrain/ sft/ dpo/   the stages
    RUN/pretrain/selection.json, chosen/                            the checkpoint that goes on
    RUN/scores/base/ distil/ ... dpo/                               what the model was worth
    RUN/adapt.json adapt.md adapt.png                               all of it side by side

The same command goes on where it was cut off. Another recipe in the same folder is refused by
the first stage that it would change.

Started by a launcher (torchrun), pre-training, SFT and DPO use all its processes; what one process
does (corpus, tokenizer, distillation, calibration, measuring) the first one does, and the others
wait for its stage record, as long as it shows in RUN/.alive that it is there. In what all do, they
wait as long as their process group does.
"""

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hebench.adapt.measure import measure
from hebench.adapt.pick import CHOSEN, MODEL, selected
from hebench.adapt.plan import require_own_gpus, require_startable
from hebench.adapt.recipe import DEMO_MODEL, TINY_MODEL, Recipe, recipes_folder
from hebench.adapt.report import Point, Report, make_report, write_report
from hebench.config import plain
from hebench.errors import CheckpointError, HebenchError
from hebench.files import expanded, require_writable, write_atomically
from hebench.models import demo, tiny
from hebench.processes import rank
from hebench.train import calibrate, corpus, distil, dpo, pretrain, sft, tokenizer
from hebench.train.stage import StageRecord, read_stage
from hebench.train.texts import read_documents

SHARED_STAGES = ("pretrain", "sft", "dpo")  # done by all processes together
WAIT_SECONDS = 1.0
ALIVE_NAME = ".alive"
# DeepSpeed's launcher ends the processes of a machine when one fails, but not those of the others.
BEAT_SECONDS, SILENT_SECONDS = 15.0, 600.0
Announce = Callable[[str], None]


def adapt(recipe: Recipe, out: Path, announce: Announce = lambda _: None) -> Report:
    """Run the recipe into the folder `out` and return what the model was worth at each point.

    announce: is told each step before it begins. Raises HebenchError for anything that the user
    can mend; what is complete by then stays.
    """
    require_writable(out)
    with _alive(out / ALIVE_NAME):
        return _adapt(recipe, out, announce)


def _adapt(recipe: Recipe, out: Path, announce: Announce) -> Report:
    first = rank() == 0
    asked = json.dumps(plain(recipe), indent=2) + "\n"
    if first:
        require_startable(recipe)
        require_own_gpus(recipe)
        if not (out / "recipe.json").exists():
            write_atomically(out / "recipe.json", asked)
    run = _Run(recipe, out, announce if first else lambda _: None)
    run.prepare()
    run.teach()
    run.align()
    report = make_report(out, recipe, run.points, run.records)
    if first:
        write_report(out, report, run.records)
        write_atomically(out / "recipe.json", asked)  # a stage may have been added to it
    return report


class _Run:
    """The state of one adaptation: the model as it is now, and what was measured so far."""

    def __init__(self, recipe: Recipe, out: Path, announce: Announce) -> None:
        self.recipe, self.out, self.announce = recipe, out, announce
        self.model = _base(recipe, out)
        if rank() == 0 and not (self.model / "config.json").is_file():
            raise CheckpointError(
                f"{self.model}: expected a model folder, found no config.json; give a Hugging Face "
                "folder"
            )
        self.records: dict[str, StageRecord] = {}
        self.points: list[Point] = []

    def prepare(self) -> None:
        """Make the corpus and the extended tokenizer."""
        recipe, out = self.recipe, self.out
        self._stage("corpus", lambda to: corpus.run(recipe.corpus, out=to))
        self._stage(
            "tokenizer",
            lambda to: tokenizer.run(
                recipe.tokenizer, model=self.model, corpus=out / "corpus", out=to
            ),
        )
        self._point("base", at_end=True)

    def teach(self) -> None:
        """Give the model the new pieces, then the language."""
        recipe, text = self.recipe, self.out / "corpus"
        pieces = self.out / "tokenizer" / tokenizer.FOLDER
        base = self.model
        self._trained(
            "distil",
            lambda to: distil.run(recipe.distil, model=base, tokenizer=pieces, corpus=text, out=to),
        )
        self._trained(
            "calibrate",
            lambda to: calibrate.run(recipe.calibrate, model=self.model, corpus=text, out=to),
        )
        self._trained(
            "pretrain",
            lambda to: pretrain.run(recipe.pretrain, model=self.model, corpus=text, out=to),
            at_end=True,
        )

    def align(self) -> None:
        """Teach the model to answer, and in which language."""
        recipe = self.recipe
        # A recipe that has a stage has its data: Recipe sees to that.
        if recipe.sft is not None and recipe.chat is not None:
            config, chat = recipe.sft, recipe.chat
            self._trained("sft", lambda to: sft.run(config, model=self.model, data=chat, out=to))
        if recipe.dpo is not None and recipe.preferences is not None:
            wanted, pairs = recipe.dpo, recipe.preferences
            self._trained("dpo", lambda to: dpo.run(wanted, model=self.model, data=pairs, out=to))

    def _stage(self, name: str, run: Callable[[Path], StageRecord]) -> None:
        self.announce(name)
        alone = name not in SHARED_STAGES
        self.records[name] = self._once(self.out / name, run) if alone else run(self.out / name)

    def _once(self, folder: Path, run: Callable[[Path], StageRecord]) -> StageRecord:
        return once(folder, run, self.out / ALIVE_NAME)

    def _trained(
        self, name: str, run: Callable[[Path], StageRecord], *, at_end: bool = False
    ) -> None:
        self._stage(name, run)
        self.model = self.out / name / "model"
        if name == "pretrain" and self.recipe.selection is not None:
            self.announce("choosing a checkpoint")
            run_folder, asked = self.out / name, self.recipe.selection
            self._once(
                run_folder / CHOSEN, lambda to: selected(run_folder, asked, to, self.announce)
            )
            self.model = run_folder / CHOSEN / MODEL
        self._point(name, at_end=at_end)

    def _point(self, name: str, *, at_end: bool) -> None:
        config = self.recipe.measure
        self.announce(f"measuring after {name}" if self.points else "measuring the base model")
        record = self._once(
            self.out / "scores" / name,
            lambda folder: measure(
                config,
                model=self.model,
                name=f"{self.recipe.name} {name}",
                heldout=self.out / "corpus" / "heldout",
                limit=config.limit_at_ends if at_end else config.limit,
                out=folder,
            ),
        )
        self.points.append(Point(name=name, folder=self.out / "scores" / name, record=record))


def once(folder: Path, run: Callable[[Path], StageRecord], alive: Path) -> StageRecord:
    """Return the record of a stage that one process does; the others wait for it.

    alive: the file that the first process touches as long as it lives. Raises HebenchError if it
    has not for a while: most launchers end all processes then, but not every one.
    """
    if rank() == 0:
        return run(folder)
    beat, since = _beat(alive), time.monotonic()
    while True:
        record = read_stage(folder)
        if record is not None and record.finished:
            return record
        if (latest := _beat(alive)) != beat:
            beat, since = latest, time.monotonic()
        elif time.monotonic() - since > SILENT_SECONDS:
            raise HebenchError(
                f"{folder}: expected the first process to finish this stage, but there has been "
                f"no sign of it for {SILENT_SECONDS:.0f} seconds; see what it ended with, then run "
                "the same command again"
            )
        time.sleep(WAIT_SECONDS)


@contextlib.contextmanager
def _alive(path: Path) -> Iterator[None]:
    """Touch a file as long as the body runs, if this is the first process."""
    if rank() != 0:
        yield
        return
    over = threading.Event()

    def beat() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):  # a file system that is away for a moment
                path.touch()
            over.wait(BEAT_SECONDS)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        path.unlink(missing_ok=True)


def _beat(path: Path) -> int | None:
    """Return when a file was touched last; by the file system's clock, so compare, do not count."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns
    return None


def _base(recipe: Recipe, out: Path) -> Path:
    if recipe.model == DEMO_MODEL:
        return demo.obtain()
    if recipe.model == TINY_MODEL:
        text = recipes_folder() / "text" / "en.txt"
        folder = out / "base"
        if rank() == 0 and not (folder / "config.json").is_file():
            made = out / "base.unfinished"
            shutil.rmtree(made, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            tiny.make(made, [document.text for document in read_documents(text)])
            made.rename(folder)
        return folder
    return expanded(recipe.model)
