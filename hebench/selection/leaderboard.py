"""A run's evaluated checkpoints on the leaderboard, where they share a page of their own.

>>> put_on_board(Path("runs/he/pretrain"), Path("leaderboard"), run="smollm2-he", chosen="...")
['smollm2-he-checkpoint-200', 'smollm2-he-checkpoint-400']

Each is a model with `checkpoint: {run, step, tokens, seed, loss, chosen, averaged}` in models.yaml,
whether a callback, a watcher or a sweep evaluated it, and whether it is still there or training
removed it.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from hebench.board.extract import extract
from hebench.board.models_file import SLUG, slugify
from hebench.board.store import Stored, add_run, live, read_store
from hebench.errors import DataError
from hebench.records import MANIFEST_NAME, Checkpoint, ModelEntry, RunManifest, RunRecord
from hebench.selection.average import averages
from hebench.selection.evaluate import EVALS
from hebench.selection.found import complete, of_these
from hebench.selection.log import LOG_NAME, Evaluated, read_log


def put_on_board(folder: Path, board: Path, *, run: str, chosen: str) -> list[str]:
    """Add the run folders of a log's checkpoints to a leaderboard; return the models' slugs.

    run: the training run's name, a slug. chosen: the checkpoint that was selected. What is on the
    board already stays as it is. Raises DataError, and adds nothing, for a name that is no slug or
    too long for one, without a log, where no checkpoint has a run folder, where models.yaml marks
    another one as chosen, where the board has scores of an earlier training, or where two run
    folders of a checkpoint share tasks and neither holds all of them.
    """
    if not SLUG.fullmatch(run):
        raise DataError(f"expected a run's name as a slug (a-z, 0-9, . _ -), found {run[:80]!r}")
    there = [*complete(folder), *averages(folder)]
    # A run has one seed, also those of its checkpoints that are gone.
    seed = next((found.seed for found in there if found.seed is not None), None)
    models, stored = read_store(board) if board.is_dir() else ({}, [])
    places: dict[str, Checkpoint] = {}
    new = []
    for entry in of_these(read_log(folder / LOG_NAME), there):
        slug = slugify(f"{run}-{entry.checkpoint}")
        if slug in places or not slug.endswith(slugify(entry.checkpoint)):
            raise DataError(
                f"{run}: too long a name to tell its checkpoints apart; give the run a shorter one "
                "with --name"
            )
        own = [(path, _record(path, slug)) for path in _evaluations(folder, entry)]
        if not own:
            continue
        places[slug] = _place(entry, run=run, seed=seed, chosen=chosen)
        if slug in models:
            _require_chosen_alike(board, slug, models[slug].checkpoint, places[slug])
        held = [item for item in live(stored) if item.record.model == slug]
        new += [(slug, path) for path, _ in _missing(own, held)]
    if not places:
        raise DataError(
            f"{folder / EVALS}: expected run folders of checkpoints, found none; evaluate them "
            "with `hebench watch --once`"
        )
    _require_no_other_choice(board, models, run, places)
    for slug, path in new:
        add_run(board, path, model=slug, checkpoint=places[slug])
    return list(places)


def _place(entry: Evaluated, *, run: str, seed: int | None, chosen: str) -> Checkpoint:
    loss = entry.loss_nats
    return Checkpoint(
        run=run,
        step=entry.step,
        tokens=entry.tokens,
        seed=seed,
        loss=loss if loss is not None and math.isfinite(loss) else None,
        chosen=entry.checkpoint == chosen,
        averaged=bool(entry.averaged),
    )


def _record(evaluation: Path, slug: str) -> RunRecord:
    return extract(evaluation, model=slug, added="2000-01-01")


def _evaluations(folder: Path, entry: Evaluated) -> list[Path]:
    """Return the complete run folders of a checkpoint as the log has it, not of an earlier one."""
    # Weights that a callback asked in memory have no hash, whoever saved and asked them later.
    in_memory = any(settings.get("mark") is None for settings in entry.all_settings)
    weights = {entry.weights_sha256, *([None] if in_memory else [])}
    found = []
    for path in (folder / EVALS / entry.checkpoint).rglob(MANIFEST_NAME):
        manifest = RunManifest.read(path.parent)
        if manifest and manifest.model.weights_sha256 in weights:
            found.append(path.parent)
    return sorted(found)


def _missing(
    own: list[tuple[Path, RunRecord]], held: list[Stored]
) -> Iterator[tuple[Path, RunRecord]]:
    """Yield those of a checkpoint's evaluations that neither the board nor another one holds."""
    names = {key: item.name for item in held for key in item.record.tasks}
    for path, record in sorted(own, key=lambda each: _size(each[1]), reverse=True):
        for item in held:
            if not _is_of_same_weights(item.record, record):
                raise DataError(
                    f"{item.name}: expected scores of the weights that {path} has, found those of "
                    "an earlier training; withdraw it (hebench board withdraw), or give the run "
                    "another name"
                )
        shared = [key for key in record.tasks if key in names]
        if len(shared) == len(record.tasks):
            continue
        if shared:
            raise DataError(
                f"{path}: expected tasks of which the checkpoint has no scores yet, or all of "
                f"them, found {', '.join(shared)} in {names[shared[0]]}, too; remove one of the two"
            )
        names |= dict.fromkeys(record.tasks, str(path))
        yield path, record


def _size(record: RunRecord) -> tuple[int, int]:
    return len(record.tasks), sum(len(task.items) for task in record.tasks.values())


def _is_of_same_weights(one: RunRecord, other: RunRecord) -> bool:
    """Return whether two records are of the same weights: by their hash, or without by scores."""
    first, second = one.settings.get("weights_sha256"), other.settings.get("weights_sha256")
    if first or second:
        return not (first and second) or first == second
    shared = set(one.tasks) & set(other.tasks)
    return all(one.tasks[key].metrics == other.tasks[key].metrics for key in shared)


def _require_no_other_choice(
    board: Path, models: dict[str, ModelEntry], run: str, places: dict[str, Checkpoint]
) -> None:
    """Raise DataError if models.yaml has a choice of this run that the log does not know."""
    for slug, entry in models.items():
        known = entry.checkpoint
        if slug in places or known is None or known.run != run or not known.chosen:
            continue
        if any(place.chosen for place in places.values()):
            raise DataError(
                f"{board / 'models.yaml'}, {slug}: expected chosen: false, since selection has "
                "chosen another checkpoint of the run now; change it by hand"
            )


def _require_chosen_alike(
    board: Path, slug: str, known: Checkpoint | None, place: Checkpoint
) -> None:
    """Raise DataError unless models.yaml says of the choice what selection says."""
    if known is None or known.chosen != place.chosen:
        raise DataError(
            f"{board / 'models.yaml'}, {slug}: expected a checkpoint with chosen: "
            f"{str(place.chosen).lower()}, as selection says now; change it by hand"
        )
