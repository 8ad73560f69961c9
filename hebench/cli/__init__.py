"""The command line: `hebench <verb>`. A stage is imported only when its verb is called.

Exit codes: 0 done; 2 a mistake that the user can mend, told in one line; 130 interrupted;
1 a bug of ours, with its traceback.
"""

import errno
import os
import signal
import sys
import threading
from typing import Any

import typer

from hebench.cli import board, data, human, scores, selection, tasks, train
from hebench.errors import HebenchError, one_line

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Hebrew language-model evaluation, with intervals.",
)
app.command("eval")(scores.evaluate)
app.command("compare")(scores.compare)
app.command("breakdown")(scores.breakdown)
app.command("judge")(scores.judge)
app.command("demo")(scores.demo)
app.add_typer(tasks.app, name="tasks")
app.add_typer(data.app, name="data")
app.add_typer(board.app, name="board")
app.add_typer(human.app, name="human")
app.add_typer(train.app, name="train")
app.command("adapt")(train.adapt)
app.command("select")(selection.select)
app.command("watch")(selection.watch)
app.command("sweep")(selection.sweep)

# No room, no leave, or a path that is no file or no folder.
_USER_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM, errno.EFBIG}
_USER_ERRNOS |= {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_MESSAGE = 4_000  # characters: some list what there is
_EXTRAS = {  # top-level package -> the extra that brings it
    **dict.fromkeys(("torch", "transformers", "accelerate", "safetensors", "gguf"), "hf"),
    **dict.fromkeys(("datatrove", "deepspeed", "matplotlib", "peft"), "train"),
    **dict.fromkeys(("sqlalchemy", "alembic", "fastapi", "uvicorn"), "human"),
}


def _keep_interrupts() -> None:
    """Have Ctrl-C arrive again where Python drops it: in what it runs as objects are freed."""
    before, main_thread = sys.unraisablehook, threading.main_thread().ident

    def again(dropped: Any) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt) and main_thread:
            # Not at once: it would be raised in here, and dropped like the first.
            threading.Timer(0.1, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
        else:
            before(dropped)

    sys.unraisablehook = again


def main() -> None:
    """Run the command line and exit; a user's mistake is one line on stderr."""
    if not sys.stderr.isatty():
        # tqdm reads this when it is first imported: no progress bars in log files.
        os.environ.setdefault("TQDM_DISABLE", "1")
    _keep_interrupts()
    try:
        app()
    except SystemExit as end:
        if end.code == 130:  # typer's answer to Ctrl-C
            print("hebench: interrupted; the same command goes on from here", file=sys.stderr)
        raise
    except HebenchError as error:
        print(f"hebench: {one_line(error, _MESSAGE)}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(
            f"hebench: expected the package {error.name}, found none; install hebench[{extra}]",
            file=sys.stderr,
        )
        sys.exit(2)
    except OSError as error:
        if error.errno not in _USER_ERRNOS:
            raise
        # Of a rename the second name: the first is a temporary file's.
        where = error.filename2 or error.filename or "while writing"
        print(f"hebench: {error.strerror}: {where}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        print(
            f"hebench: expected memory on the device, found too little ({one_line(error, 120)}); "
            "lower --batch-size, set --dtype to bfloat16, or take a larger device",
            file=sys.stderr,
        )
        sys.exit(2)
