"""The mistakes that hebench reports to a user in one line.

Every message says what was expected, what was found, where, and what to do. The command
line turns each of these into exit code 2 without a traceback; anything else is our bug.

    >>> raise DataError("qa/items.jsonl line 7: expected a key 'answers'; add it")
    Traceback (most recent call last):
    hebench.errors.DataError: qa/items.jsonl line 7: expected a key 'answers'; add it
"""


class HebenchError(Exception):
    """A mistake that the user can mend; its text is one line and says how."""


class ConfigError(HebenchError):
    """An option, or a pair of options, that cannot be carried out."""


class DataError(HebenchError):
    """A data file or a results file that is absent, damaged or not what was pinned."""


class SplitError(DataError):
    """A split that a data set does not have, wherever its files are."""


class TaskError(HebenchError):
    """A task that does not exist or cannot be loaded."""


class CheckpointError(HebenchError):
    """A model folder that is absent or is not a model."""


def one_line(error: object, limit: int = 400) -> str:
    """Return an error's text as one bounded line, for messages that name its cause.

    What does not print is left out: a text from a stranger's file must not steer a terminal.
    """
    text = " ".join(str(error).split())
    return "".join(char for char in text if char.isprintable())[:limit] or type(error).__name__
