"""Style sheets, scripts and fonts, read once; their address holds their hash, so they never age."""

import functools
import hashlib
from dataclasses import dataclass
from importlib import resources

import rjsmin

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file as it is sent."""

    content: bytes
    type: str


@functools.cache
def assets() -> dict[str, Asset]:
    """Return the files by name; fonts are `fonts/NAME`."""
    found = {}
    folders = {"": resources.files("hebench.human") / "static"}
    folders["fonts/"] = resources.files("hebench") / "fonts"
    for prefix, folder in folders.items():
        for path in sorted(folder.iterdir(), key=lambda path: path.name):
            kind = path.name.rpartition(".")[2]
            if kind in _TYPES:
                content = path.read_bytes()
                if kind == "js":
                    content = rjsmin.jsmin(content.decode("utf-8")).encode("utf-8")
                found[prefix + path.name] = Asset(content=content, type=_TYPES[kind])
    return found


@functools.cache
def version() -> str:
    """Return a hash of all files, twelve hexadecimal digits."""
    digest = hashlib.sha256()
    for name, asset in assets().items():
        digest.update(f"{name}\0{len(asset.content)}\0".encode() + asset.content)
    return digest.hexdigest()[:12]
