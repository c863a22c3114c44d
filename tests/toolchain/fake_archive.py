"""A small Debian archive on loopback: packages made here, a signed index, and a server that can misbehave."""

from __future__ import annotations

import hashlib
import io
import lzma
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from kgen.errors import ToolchainError
from kgen.toolchain.archive import Package
from kgen.toolchain.lock import Lock, Locked

Entry = bytes | str | tarfile.TarInfo
"""Content of a file, target of a symbolic link, or any tar member."""


def ar(members: Mapping[str, bytes]) -> bytes:
    """An `ar` archive."""
    out = b"!<arch>\n"
    for name, data in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def tar_of(tree: Mapping[str, Entry]) -> bytes:
    """A tar of files (executable when below a bin/), links and special members."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, entry in tree.items():
            member = tarfile.TarInfo(path)
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            elif isinstance(entry, str):
                member.type, member.linkname = tarfile.SYMTYPE, entry
                tar.addfile(member)
            else:
                member.size, member.mode = len(entry), 0o755 if "/bin/" in path else 0o644
                tar.addfile(member, io.BytesIO(entry))
    return raw.getvalue()


def deb_of(tree: Mapping[str, Entry], *, suffix: str = ".xz", pack: Callable[[bytes], bytes] = lzma.compress) -> bytes:
    """A Debian package with this file tree."""
    control = lzma.compress(tar_of({"./control": b"Package: fake\n"}))
    return ar({"debian-binary": b"2.0\n", "control.tar.xz": control, f"data.tar{suffix}": pack(tar_of(tree))})


def plain_verify(signed: bytes, where: str) -> bytes:
    """Stands in for gpgv where there is no gpg to make a key with: a first line instead of a signature."""
    head, _, text = signed.partition(b"\n")
    if head != b"signed " + hashlib.sha256(text).hexdigest().encode():
        raise ToolchainError(f"{where} was refused: its signature is not one that the keyring vouches for")
    return text


def plain_sign(text: bytes) -> bytes:
    """What `plain_verify` takes for signed."""
    return b"signed " + hashlib.sha256(text).hexdigest().encode() + b"\n" + text


@dataclass
class FakeArchive:
    """Serves `files` (path -> content). `cut` maps a path to how many bytes to send before hanging up, once."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    pause: threading.Event | None = None
    sign: Callable[[bytes], bytes] = plain_sign

    def __post_init__(self) -> None:
        archive = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                archive._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Address of the archive."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop serving."""
        if self.pause is not None:
            self.pause.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path, wanted = request.path.lstrip("/"), request.headers.get("Range")
        self.asked.append((path, wanted))
        data = self.files.get(path)
        if data is None:
            request.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        stop = self.cut.pop(path, None)
        request.wfile.write(data[start:stop])
        if stop is not None:
            request.wfile.flush()
            if self.pause is not None:
                self.pause.wait(60)
            request.close_connection = True

    def add(self, name: str, version: str, tree: Mapping[str, Entry]) -> Package:
        """Put a package into the pool."""
        data, file = deb_of(tree), f"pool/main/{name}_{version.partition(':')[2] or version}_amd64.deb"
        self.files[file] = data
        return Package(name, version, file, len(data), hashlib.sha256(data).hexdigest())

    def publish(self, suite: str, packages: list[Package], *, extra: str = "") -> None:
        """Write the signed index of a suite."""
        stanzas = [
            f"Package: {p.name}\nVersion: {p.version}\nInstalled-Size: 1\nFilename: {p.file}\nSize: {p.size}\nSHA256: {p.sha256}\n"
            for p in packages
        ]
        index = lzma.compress("\n".join(stanzas).encode())
        digest = hashlib.sha256(index).hexdigest()
        path = "main/binary-amd64/Packages.xz"
        self.files[f"dists/{suite}/{path.rpartition('/')[0]}/by-hash/SHA256/{digest}"] = index
        release = f"Suite: {suite}\nAcquire-By-Hash: yes\n{extra}SHA256:\n {digest} {len(index)} {path}\n"
        self.files[f"dists/{suite}/InRelease"] = self.sign(release.encode())


def toolchain_tree(marker: bytes = b"one") -> dict[str, Entry]:
    """File tree of a pretended compiler package."""
    return {
        "./usr/lib/llvm-22/bin/clang": b"#!/bin/sh\necho fake\n",
        "./usr/lib/llvm-22/bin/clang++": "clang",
        "./usr/lib/x86_64-linux-gnu/libLLVM.so.22.1": marker * 1000,
        "./usr/lib/llvm-22/lib/libLLVM.so.22.1": "../../x86_64-linux-gnu/libLLVM.so.22.1",
        "./usr/share/doc/clang-22/copyright": b"words",
    }


def lock_of(*packages: tuple[Package, str, str]) -> Lock:
    """A lock of (package, suite, room), all in the main archive."""
    return Lock("fake", tuple(Locked(package, "main", suite, room) for package, suite, room in packages))


@dataclass
class Key:
    """A throwaway signing key."""

    home: Path
    keyring: Path

    @classmethod
    def make(cls, folder: Path, name: str) -> Key | None:
        """A new key in its own home, or None where gpg is not installed or cannot work."""
        gpg = shutil.which("gpg")
        if gpg is None or shutil.which("gpgv") is None:
            return None
        home = folder / name
        home.mkdir(mode=0o700)
        key = cls(home, folder / f"{name}.gpg")
        made = key._gpg(
            "--passphrase", "", "--quick-gen-key", f"{name} <{name}@example.org>", "ed25519", "sign", "never"
        )
        if made.returncode:
            return None
        key.keyring.write_bytes(key._gpg("--export").stdout)
        return key

    def sign(self, text: bytes) -> bytes:
        """A clear-signed file."""
        done = self._gpg("--clearsign", stdin=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        """End the key's agent."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], capture_output=True, timeout=60)

    def _gpg(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--no-tty", "--pinentry-mode", "loopback", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, timeout=60)
