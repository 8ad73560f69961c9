"""A chat model behind an OpenAI-compatible server: vLLM, llama.cpp, `transformers serve`, an API.

    hebench eval Qwen/Qwen3-4B-Instruct-2507 --backend openai \\
        --base-url http://localhost:8000/v1 --track chat --tasks hebench_mini_chat --out runs/qwen

Whether a model thinks before it answers is set at the server; `--track thinking` records that.
The `openai` client retries refused, limited and timed-out requests, waiting as the server says.
What still fails stops the run: answers so far are kept, and the same command goes on. The key
is read from OPENAI_API_KEY and written nowhere. Such servers give no log-likelihoods, so only
tasks with free answers run.
"""

import json
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs

from hebench.errors import ConfigError, HebenchError, TaskError, one_line
from hebench.files import encodable
from hebench.harness.completions import connect, content_of, served_name

_RETRIES = 5
_TIMEOUT_SECONDS = 300
_MOST_STOPS = 4  # what the API takes


class ServedModel(LM):  # type: ignore[misc]
    """An lm-eval model whose answers come from a chat-completions endpoint."""

    def __init__(self, model: str, base_url: str, *, concurrency: int, seed: int) -> None:
        """Connect lazily: the first request tells whether there is a server."""
        super().__init__()
        try:
            import openai
        except ImportError as error:
            raise ConfigError(
                "--backend openai needs the openai package; install hebench[served]"
            ) from error
        self._openai = openai
        self._client = connect(base_url, retries=_RETRIES, timeout=_TIMEOUT_SECONDS)
        self._model, self._base_url = model, base_url
        self._concurrency, self._seed = concurrency, seed
        self._recording = threading.Lock()

    @property
    def tokenizer_name(self) -> str:
        """The server applies its own template; the name only has to tell models apart."""
        return f"{self._base_url}:{self._model}"

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the messages as JSON; the server turns them into a prompt."""
        return json.dumps(chat_history, ensure_ascii=False)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Return the answers in order, `concurrency` requests at a time.

        An answer is in the log as soon as it is here, whatever becomes of the others.
        """
        with ThreadPoolExecutor(max_workers=self._concurrency) as pool:
            futures = [pool.submit(self._answer, *request.args) for request in requests]
            try:
                for future in as_completed(futures):
                    future.result()  # the first failure is raised, not that of the first request
                return [future.result() for future in futures]
            except BaseException:  # Ctrl-C too: ask nothing more, then let it pass
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
        """Raise TaskError: chat servers do not tell how likely a given answer is."""
        raise TaskError(
            f"{requests[0].task_name} needs log-likelihoods, which a chat server does not give; "
            "use the tasks of hebench_chat or hebench_mini_chat"
        )

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
        """Raise TaskError, as `loglikelihood` does."""
        return self.loglikelihood(requests)

    def _answer(self, messages: str, settings: dict[str, Any]) -> str:
        """Return the server's answer, "" if it withheld one (content filter), and record it.

        Raises HebenchError if there is none to be had.
        """
        options = normalize_gen_kwargs(settings, 0)
        limit = {"max_tokens": options["max_gen_toks"]} if options["max_gen_toks"] else {}
        try:
            reply = self._client.chat.completions.create(
                model=self._model,
                messages=json.loads(messages),
                temperature=0,
                seed=self._seed,
                stop=[text for text in options["until"] if text][:_MOST_STOPS] or None,
                **limit,
            )
        except self._openai.APIStatusError as error:
            raise self._failure(f"status {error.status_code}: {one_line(error)}") from error
        except (self._openai.OpenAIError, ValueError, RecursionError) as error:
            raise self._failure(one_line(error)) from error  # no connection, or no JSON
        try:
            content = content_of(reply)
        except ValueError as error:
            raise self._failure(str(error)) from error
        # A local server may answer under a path of its machine, which is nobody's business.
        served = served_name(reply).rsplit("/", maxsplit=1)[-1]
        text = None if content is None else encodable(content)
        with self._recording:
            self.cache_hook.add_partial(
                "generate_until", (messages, settings), {"text": text, "served": served}
            )
        return text or ""

    def _failure(self, reason: str) -> HebenchError:
        return HebenchError(
            f"the server at {self._base_url} failed after {_RETRIES} retries: {reason[:300]}; "
            "answers so far are kept, the same command goes on when it is back"
        )
