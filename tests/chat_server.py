"""A chat-completions server on loopback that says what a test tells it to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]  # status, headers, content

JSON = {"Content-Type": "application/json"}
HALF_STATUS = 299  # stands for a good status whose content ends before its announced length


def completion(text: Any, *, model: str, finish: str = "stop") -> Reply:
    """What a well-behaved server says."""
    message = {"role": "assistant", "content": text}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
    }
    return 200, JSON, json.dumps(body).encode()


@contextmanager
def chat_server(
    answer: Callable[[int, dict[str, Any]], Reply],
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A running server: (base URL, the bodies that it was sent). `answer` gets (number, body)."""
    asked: list[dict[str, Any]] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                asked.append(body)
                number = len(asked)
            status, headers, content = answer(number, body)
            short = status == HALF_STATUS
            self.send_response(200 if short else status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content) + 100 * short))
            self.end_headers()
            self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/v1", asked
        finally:
            running.shutdown()
            thread.join()
