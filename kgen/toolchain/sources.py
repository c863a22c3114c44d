"""Where this machine gets Debian packages from: its own apt sources, so that no address is written in kgen.

Reads one-line `.list` and deb822 `.sources` files, `mirror+file:` lists, and apt's proxy. Standard library only.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from kgen.errors import ToolchainError

SCHEMES = ("http", "https", "file")
DEBIAN_SUITES = re.compile(
    r"^(old|oldold)?stable|^(bookworm|trixie|forky|sid|unstable|testing|experimental|bullseye|duke)\b|^rc-buggy"
)
ADVICE = "give the address of a Debian mirror: kgen toolchain install --archive URL [--security-archive URL]"


@dataclass(frozen=True)
class Source:
    """One archive line: an address and the suites read from it."""

    url: str
    suites: tuple[str, ...]
    signed_by: tuple[str, ...] = ()

    @property
    def is_security(self) -> bool:
        """Whether this is the security archive, which has a pool of its own."""
        return any("-security" in suite or suite.endswith("/updates") for suite in self.suites)


@dataclass(frozen=True)
class Archives:
    """Addresses to fetch from. `guessed` tells that the security address was derived from the main one."""

    main: str
    security: str
    guessed: bool = False
    keyrings: tuple[Path, ...] = field(default=())

    def base(self, room: str) -> str:
        """The address of the room `main` or `security`, without a slash at the end."""
        return self.security if room == "security" else self.main


def parse_one_line(text: str) -> Iterator[Source]:
    """Sources of a `.list` file: `deb [options] address suite component...`."""
    for line in text.splitlines():
        line = line.split("#", 1)[0].strip()
        match = re.match(r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<url>\S+)\s+(?P<suite>\S+)", line)
        if match:
            options = re.findall(r"signed-by=(\S+)", match["options"] or "", flags=re.I)
            keys = tuple(key for option in options for key in option.split(","))
            yield Source(match["url"].rstrip("/"), (match["suite"].rstrip("/"),), keys)


def parse_deb822(text: str) -> Iterator[Source]:
    """Sources of a `.sources` file: stanzas of `Field: value` with continuation lines."""
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        last = ""
        for line in stanza.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t" and last:
                fields[last] += "\n" + line.strip()
            elif ":" in line:
                last, _, value = line.partition(":")
                last = last.strip().lower()
                fields[last] = value.strip()
        off = fields.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without", "disable")
        if off or "deb" not in fields.get("types", "").split():
            continue
        keys = fields.get("signed-by", "")
        paths = () if "BEGIN PGP" in keys else tuple(keys.split())
        for url in fields.get("uris", "").split():
            yield Source(url.rstrip("/"), tuple(s.rstrip("/") for s in fields.get("suites", "").split()), paths)


def machine_sources(root: Path = Path("/etc/apt")) -> list[Source]:
    """Every binary source that apt would read, in apt's order, with mirror lists resolved."""
    files = [root / "sources.list", *sorted((root / "sources.list.d").glob("*"))]
    found: list[Source] = []
    for path in files:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # a source that only root may read is as good as none
        found += parse_one_line(text) if path.suffix == ".list" else parse_deb822(text)
    return [resolved for source in found for resolved in _resolve_mirror(source)]


def _resolve_mirror(source: Source) -> Iterator[Source]:
    """`mirror+file:/path` names a file with one address a line (cloud images do this); the first one is taken."""
    if source.url.startswith("mirror+file:"):
        path = Path("/" + source.url.removeprefix("mirror+file:").lstrip("/"))
        try:
            lines = [line.split("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines()]
        except OSError:
            return
        for words in lines:
            if words:
                yield Source(words[0].rstrip("/"), source.suites, source.signed_by)
                return
    elif urlsplit(source.url).scheme in SCHEMES:
        yield source


def find_archives(
    archive: str | None = None, security_archive: str | None = None, *, sources: Sequence[Source] | None = None
) -> Archives:
    """The main and the security archive: the options first, else the machine's apt sources.

    Where only the main one is known, the security archive is looked for beside it (`.../debian` -> `.../debian-security`), as
    mirrors usually have it. Raises ToolchainError when the machine names no Debian archive and no option was given.
    """
    known = list(machine_sources() if sources is None else sources)
    debian = [source for source in known if any(DEBIAN_SUITES.match(suite) for suite in source.suites)]
    keyrings = tuple(dict.fromkeys(Path(key) for source in debian for key in source.signed_by))
    for option in (archive, security_archive):
        if option and urlsplit(option).scheme not in SCHEMES:
            raise ToolchainError(f"archive address {option!r}: expected an http, https or file URL")
    main = archive or next((s.url for s in debian if not s.is_security and "backports" not in s.suites[0]), None)
    if main is None:
        have = ", ".join(sorted({s.url for s in known})) or "none"
        raise ToolchainError(f"this machine's apt sources name no Debian archive (found: {have})\n  try: {ADVICE}")
    main = main.rstrip("/")
    named = security_archive or (None if archive else next((s.url for s in debian if s.is_security), None))
    return Archives(main, (named or main + "-security").rstrip("/"), guessed=named is None, keyrings=keyrings)


def apt_proxy(scheme: str) -> str | None:
    """The proxy that apt is told to use for a scheme, or None; the environment's http_proxy is urllib's own business."""
    tool = shutil.which("apt-config")
    if tool is None:
        return None
    name = f"Acquire::{scheme}::Proxy"
    try:
        out = subprocess.run([tool, "dump", name], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(rf'^{name} "([^"]+)";', out, flags=re.M)
    return match[1] if match and match[1] != "DIRECT" else None
