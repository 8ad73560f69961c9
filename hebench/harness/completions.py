"""Chat completions of a server: what the client library leaves unchecked, for models and judges."""

import os
from typing import Any

from hebench.errors import ConfigError, one_line


def connect(base_url: str, *, retries: int, timeout: float) -> Any:
    """Return a client of the server at a URL; `retries` and seconds of `timeout` for each request.

    Raises ConfigError for what is no URL, and ImportError without the openai package.
    """
    import openai

    try:
        return openai.OpenAI(
            base_url=base_url,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            max_retries=retries,
            timeout=timeout,
        )
    except Exception as error:  # of the HTTP library, whichever openai uses
        raise ConfigError(
            f"--base-url: expected a URL such as http://localhost:8000/v1, found {base_url!r}: "
            f"{one_line(error)}"
        ) from error


def content_of(reply: Any) -> str | None:
    """Return the text of a chat completion, None if it was withheld.

    Some servers send a list of parts, of which those of type "text" are the answer. The client
    does not check what it was sent. Raises ValueError for anything else.
    """
    choices = getattr(reply, "choices", None)
    message = (
        getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    )
    if message is None or not hasattr(message, "content"):
        raise ValueError(f"no chat completion came, but {one_line(repr(reply), 80)}")
    content = message.content
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
        content = "".join(texts) if texts else None if parts else content
    if not isinstance(content, str | None):
        raise ValueError(f"expected a text, found {one_line(repr(content), 80)}")
    return content


def served_name(reply: Any) -> str:
    """Return the model's name in a reply as one bounded line that steers no terminal."""
    return one_line(getattr(reply, "model", "unknown"), 200)
