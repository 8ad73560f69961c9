"""A run's evaluated checkpoints on the leaderboard, where they share a page of their own.

>>> put_on_board(Path("runs/he/pretrain"), Path("leaderboard"), run="smollm2-he", chosen="...")
['smollm2-he-checkpoint-200', 'smollm2-he-checkpoint-400']

Each is a model with `checkpoint: {run, step, tokens, seed, loss, chosen}` in models.yaml, whether a
callback, a watcher or a sweep evaluated it, and whether it is still there or training removed it.
"""

import math
from dataclasses import replace
from pathlib import Path

from hebench.board.extract import extract
from hebench.board.models_file import SLUG, append_entry, draft_entry, read_models, slugify
from hebench.board.store import add_run, live, read_store
from hebench.errors import DataError
from hebench.records import MANIFEST_NAME, Checkpoint, RunManifest
from hebench.selection.average import averages
from hebench.selection.evaluate import EVALS
from hebench.selection.found import complete
from hebench.selection.log import LOG_NAME, Evaluated, read_log


def put_on_board(folder: Path, board: Path, *, run: str, chosen: str) -> list[str]:
    """Add the run folders of a log's checkpoints to a leaderboard; return the models' slugs.

    run: the training run's name, a slug. chosen: the checkpoint that was selected. What is on the
    board already stays as it is. Raises DataError for a name that is no slug, without a log, where
    no checkpoint has a run folder, or where models.yaml marks another one as chosen.
    """
    if not SLUG.fullmatch(run):
        raise DataError(f"expected a run's name as a slug (a-z, 0-9, . _ -), found {run[:80]!r}")
    # A run has one seed, also those of its checkpoints that are gone.
    seeds = [found.seed for found in [*complete(folder), *averages(folder)]]
    seed = next((seed for seed in seeds if seed is not None), None)
    added = []
    for entry in read_log(folder / LOG_NAME):
        loss = entry.loss_nats
        for evaluation in _evaluations(folder, entry):
            slug = slugify(f"{run}-{entry.checkpoint}")
            place = Checkpoint(
                run=run,
                step=entry.step,
                tokens=entry.tokens,
                seed=seed,
                loss=loss if loss is not None and math.isfinite(loss) else None,
                chosen=entry.checkpoint == chosen,
            )
            _describe(board, slug, evaluation, place)
            if not _is_there(board, slug, evaluation):
                add_run(board, evaluation, model=slug)
            if slug not in added:
                added.append(slug)
    if not added:
        raise DataError(
            f"{folder / EVALS}: expected run folders of checkpoints, found none; evaluate them "
            "with `hebench watch --once`"
        )
    return added


def _evaluations(folder: Path, entry: Evaluated) -> list[Path]:
    """Return the complete run folders of a checkpoint as the log has it, not of an earlier one."""
    found = []
    for path in (folder / EVALS / entry.checkpoint).rglob(MANIFEST_NAME):
        manifest = RunManifest.read(path.parent)
        if manifest and manifest.model.weights_sha256 == entry.weights_sha256:
            found.append(path.parent)
    return sorted(found)


def _describe(board: Path, slug: str, evaluation: Path, place: Checkpoint) -> None:
    """Give models.yaml an entry for the checkpoint, or see that the one there says the same."""
    known = read_models(board).get(slug)
    if known is None:
        record = extract(evaluation, model=slug, added="2000-01-01")
        board.mkdir(parents=True, exist_ok=True)
        append_entry(board / "models.yaml", replace(draft_entry(record), checkpoint=place))
    elif known.checkpoint is None or known.checkpoint.chosen != place.chosen:
        raise DataError(
            f"{board / 'models.yaml'}, {slug}: expected a checkpoint with chosen: "
            f"{str(place.chosen).lower()}, as selection says now; change it by hand"
        )


def _is_there(board: Path, slug: str, evaluation: Path) -> bool:
    """Return whether a live record of the model holds this evaluation's scores."""
    own = extract(evaluation, model=slug, added="2000-01-01")
    return any(
        item.record.model == slug and set(own.tasks) <= set(item.record.tasks)
        for item in live(read_store(board)[1])
    )
