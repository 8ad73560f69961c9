"""Show a built site in a browser on this machine: `hebench board serve`.

The server answers on the loopback address alone and sends the security headers that a public
host should send, too.
"""

import functools
import http.server
from pathlib import Path

from hebench.board.build import MARKER
from hebench.errors import ConfigError

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".csv": "text/csv; charset=utf-8",
        ".json": "application/json",
        ".woff2": "font/woff2",
        ".bib": "text/plain; charset=utf-8",
    }

    def end_headers(self) -> None:
        """Send the headers of every answer."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a line a request is noise on a terminal."""


def site_server(site: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server of the site's folder on 127.0.0.1; port 0 takes a free one.

    Raises ConfigError if there is no site, or the port is taken.
    """
    if not (site / MARKER).is_file():
        raise ConfigError(f"expected a built site, found none at {site}; run hebench board build")
    handler = functools.partial(_Handler, directory=str(site))
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on port {port}: {error}; choose another") from error
