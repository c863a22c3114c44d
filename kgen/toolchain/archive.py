"""The signed index of a Debian archive: InRelease (signature) -> Packages (SHA256) -> each package (SHA256).

The signature is checked by the machine's own gpgv or sqv against the machine's own Debian keyring. Standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import lzma
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from kgen.errors import ToolchainError
from kgen.toolchain.fetch import fetch_bytes, join

KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/etc/apt/trusted.gpg.d/debian-archive-*.asc",
    "/etc/apt/trusted.gpg.d/debian-archive-*.gpg",
)
Verify = Callable[[bytes, str], bytes]
"""Takes a clear-signed file and its address, returns the signed text, raises ToolchainError for a bad signature."""


@dataclass(frozen=True)
class Package:
    """One package as a signed index describes it. `file` is its path below the archive's address."""

    name: str
    version: str
    file: str
    size: int
    sha256: str


def machine_keyrings(extra: Iterable[Path] = ()) -> list[Path]:
    """The Debian keyrings of this machine; `extra` are those that its apt sources name."""
    found = [path for path in extra if path.is_file()]
    for pattern in KEYRINGS:
        found += sorted(Path("/").glob(pattern.lstrip("/")))
    return list(dict.fromkeys(path.resolve() for path in found))


def machine_verifier(keyrings: Sequence[Path]) -> Verify:
    """Check signatures with gpgv or sqv, whichever is there. Raises ToolchainError when neither is, or no keyring."""
    gpgv, sqv = shutil.which("gpgv"), shutil.which("sqv")
    if not keyrings:
        raise ToolchainError(
            "the archive's signature cannot be checked: no Debian keyring on this machine\n"
            "  try: install the package debian-archive-keyring, or name a keyring with --keyring FILE"
        )
    if gpgv is None and sqv is None:
        raise ToolchainError(
            "the archive's signature cannot be checked: neither gpgv nor sqv is on PATH\n  try: install the package gpgv"
        )

    def verify(signed: bytes, where: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="kgen-verify-") as folder:
            keys = [_binary_keyring(path, Path(folder)) for path in keyrings]
            if gpgv is not None:
                return _verify_gpgv(gpgv, keys, signed, where, Path(folder))
            assert sqv is not None, "one of the two was found"
            return _verify_sqv(sqv, keys, signed, where, Path(folder))

    return verify


def _binary_keyring(path: Path, folder: Path) -> Path:
    """The keyring as gpgv wants it: armour is taken off."""
    data = path.read_bytes()
    if not data.startswith(b"-----BEGIN PGP"):
        return path
    body = re.split(rb"\r?\n\r?\n", data, maxsplit=1)[-1].split(b"-----END", 1)[0]
    lines = [line for line in body.split() if not line.startswith(b"=")]
    plain = folder / (path.name + ".gpg")
    plain.write_bytes(base64.b64decode(b"".join(lines)))
    return plain


def _verify_gpgv(gpgv: str, keys: Sequence[Path], signed: bytes, where: str, folder: Path) -> bytes:
    """At least one signature by a known key and none that is bad; a second one by an unknown key is no harm (as apt judges)."""
    source, text = folder / "InRelease", folder / "text"
    source.write_bytes(signed)
    ring = [part for key in keys for part in ("--keyring", str(key))]
    command = [gpgv, "--homedir", str(folder), *ring, "--status-fd", "1", "--output", str(text), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    status = {
        line.split()[1] for line in run.stdout.splitlines() if line.startswith("[GNUPG:] ") and len(line.split()) > 1
    }
    if "VALIDSIG" not in status or "BADSIG" in status or not text.is_file():
        raise ToolchainError(_bad_signature(where, run.stderr))
    return text.read_bytes()  # what gpgv vouches for, not what was downloaded


def _verify_sqv(sqv: str, keys: Sequence[Path], signed: bytes, where: str, folder: Path) -> bytes:
    """sqv takes text and signature apart, as apt hands them over."""
    text, signature = split_clearsigned(signed, where)
    (folder / "text").write_bytes(text)
    (folder / "text.asc").write_bytes(signature)
    ring = [part for key in keys for part in ("--keyring", str(key))]
    command = [sqv, *ring, str(folder / "text.asc"), str(folder / "text")]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    if run.returncode:
        raise ToolchainError(_bad_signature(where, run.stderr))
    return text


def split_clearsigned(signed: bytes, where: str) -> tuple[bytes, bytes]:
    """(text, armoured signature) of a clear-signed file (RFC 4880 section 7): dashes unescaped, no newline before the signature."""
    match = re.fullmatch(
        rb"-----BEGIN PGP SIGNED MESSAGE-----\r?\n(?:[^\r\n]+\r?\n)*\r?\n(?P<text>.*?)\r?\n"
        rb"(?P<signature>-----BEGIN PGP SIGNATURE-----.*-----END PGP SIGNATURE-----)\s*",
        signed,
        flags=re.S,
    )
    if match is None:
        raise ToolchainError(f"{where} is not a clear-signed file; refused")
    lines = match["text"].replace(b"\r\n", b"\n").split(b"\n")
    text = b"\n".join((line[2:] if line.startswith(b"- ") else line).rstrip(b" \t\r") for line in lines)
    return text, match["signature"] + b"\n"


def _bad_signature(where: str, words: str) -> str:
    tail = "\n".join("    " + line for line in words.strip().splitlines()[-8:])
    return (
        f"{where} was refused: its signature is not one that this machine's Debian keyring vouches for\n{tail}\n"
        "  try: bring the package debian-archive-keyring up to date; if that does not help, do not use this mirror"
    )


class Index:
    """The packages of some suites of one archive; every answer is covered by the suite's signature.

    `notes` collects what is odd but not wrong (an index past its Valid-Until date, as a frozen mirror has it).
    """

    def __init__(self, verify: Verify, machine: str = "amd64"):
        self._verify, self._machine = verify, machine
        self._suites: dict[tuple[str, str], dict[str, list[Package]]] = {}
        self.notes: list[str] = []

    def find(self, base: str, suite: str, name: str, major: str | None = None) -> Package:
        """The newest version of a package in a suite; with `major`, of that major version only.

        Raises ToolchainError when it is not there, or a link of the chain of trust does not hold.
        """
        have = self._packages(base, suite).get(name, [])
        right = [package for package in have if major is None or major_of(package.version) == major]
        if not right:
            found = ", ".join(package.version for package in have) or "nothing"
            wanted = f"{name} {major}" if major else name
            raise ToolchainError(f"{base} suite {suite} has no {wanted} (found: {found})")
        return max(right, key=lambda package: version_key(package.version))

    def _packages(self, base: str, suite: str) -> dict[str, list[Package]]:
        if (base, suite) not in self._suites:
            url = join(base, f"dists/{suite}/InRelease")
            release = self._verify(fetch_bytes(url), url).decode("utf-8", "replace")
            self._check_date(release, url)
            self._suites[base, suite] = parse_packages(self._index_text(base, suite, release))
        return self._suites[base, suite]

    def _check_date(self, release: str, url: str) -> None:
        match = re.search(r"^Valid-Until: (.+)$", release, flags=re.M)
        if match and parsedate_to_datetime(match[1].replace("UTC", "+0000")) < datetime.now(UTC):
            self.notes.append(f"{url}: its date has passed ({match[1].strip()}), so newer packages may exist elsewhere")

    def _index_text(self, base: str, suite: str, release: str) -> str:
        path = f"main/binary-{self._machine}/Packages.xz"
        match = re.search(
            rf"^ ([0-9a-f]{{64}}) +(\d+) {re.escape(path)}$", release.partition("\nSHA256:")[2], flags=re.M
        )
        if match is None:
            raise ToolchainError(f"{base} suite {suite}: the signed index lists no {path}")
        sha256 = match[1]
        # by-hash never shows a half-updated mirror; it is offered when the release file says so
        by_hash = "Acquire-By-Hash: yes" in release
        name = f"main/binary-{self._machine}/by-hash/SHA256/{sha256}" if by_hash else path
        data = fetch_bytes(join(base, f"dists/{suite}/{name}"))
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ToolchainError(
                f"{base} suite {suite}: {path} was refused: its SHA256 is not the one in the signed index"
            )
        return lzma.decompress(data).decode("utf-8", "replace")


def parse_packages(text: str) -> dict[str, list[Package]]:
    """All packages of a Packages file by name."""
    found: dict[str, list[Package]] = {}
    for stanza in text.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Filename|Size|SHA256): *(\S+)$", stanza, flags=re.M))
        if len(fields) == 5 and fields["Size"].isdigit():
            package = Package(
                fields["Package"], fields["Version"], fields["Filename"], int(fields["Size"]), fields["SHA256"]
            )
            found.setdefault(package.name, []).append(package)
    return found


def major_of(version: str) -> str:
    """The leading number of a Debian version, without its epoch: `1:22.1.8-1` -> `22`."""
    match = re.match(r"(?:\d+:)?(\d+)", version)
    return match[1] if match else version


VersionKey = tuple[int, list[tuple[tuple[int, ...], int]], list[tuple[tuple[int, ...], int]]]


def version_key(version: str) -> VersionKey:
    """Sorts Debian versions as dpkg does (Debian policy, section 5.6.12)."""
    epoch, _, rest = version.rpartition(":")
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    return int(epoch or 0), _sort_key(upstream), _sort_key(revision)


def _sort_key(part: str) -> list[tuple[tuple[int, ...], int]]:
    """Runs of non-digits and numbers in turn; `~` sorts before the end, letters before other signs."""
    key = []
    for text, number in re.findall(r"(\D*)(\d*)", part):
        signs = tuple(-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in text)
        key.append(((*signs, 0), int(number or 0)))
    return key
