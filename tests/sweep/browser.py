"""A real browser for the tests, without root: the machine's own, else Debian's chromium unpacked from its archive into the cache folder.

The packages are proven by the signed index, as the compiler's are (kgen.toolchain); what they need besides is followed through the index's
dependencies and unpacked beside them. Where there is neither a browser nor an archive, `find` says why.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from kgen.errors import ToolchainError
from kgen.settings import cache_dir
from kgen.toolchain.archive import Index, Package, machine_keyrings, machine_verifier, parse_packages, version_key
from kgen.toolchain.deb import unpack
from kgen.toolchain.fetch import fetch_bytes, fetch_file, join
from kgen.toolchain.sources import find_archives

NAMES = ("chromium-headless-shell", "headless_shell", "chromium", "chromium-browser", "google-chrome")
WANTED = ("chromium-headless-shell", "chromium-common", "fonts-dejavu-core", "fontconfig-config")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
_LEFT_OUT = re.compile(r"libc6$|libllvm|libgl1|libglx|libglapi|libdrm|libdebian|libnewt|libelogind|libsystemd")


class Browser:
    """A browser's program and the libraries that it brings."""

    def __init__(self, program: Path | str, libraries: list[Path], home: Path | None = None):
        self.program, self.libraries, self.home = str(program), libraries, home

    def run(self, *arguments: str, folder: Path) -> str:
        """Its standard output."""
        more = {"LD_LIBRARY_PATH": ":".join(map(str, self.libraries)), "HOME": str(folder)}
        if self.home is not None:
            more["FONTCONFIG_FILE"] = str(self.home / "fonts.conf")
        env = {**os.environ, **(more if self.libraries else {})}
        command = [self.program, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, cwd=folder, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.program} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout


def find() -> Browser:
    """The browser to test with. Raises ToolchainError with the reason where there is none to be had."""
    for name in NAMES:
        if program := shutil.which(name):
            return Browser(program, [])
    home = cache_dir() / "tests" / "chromium"
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        if not (home / "complete").is_file():
            shutil.rmtree(home, ignore_errors=True)
            _unpack(home)
            (home / "complete").touch()
    libraries = sorted({path.parent for path in home.rglob("*.so*")})
    return Browser(home / "usr/lib/chromium/chromium-headless-shell", libraries, home)


def _unpack(home: Path) -> None:
    archives = find_archives()
    codename = _codename()
    index = Index(machine_verifier(machine_keyrings(archives.keyrings)))
    suites = ((archives.main, codename), (archives.security, f"{codename}-security"))
    packages, needs = _read(index, suites)
    downloads = home / "downloads"
    downloads.mkdir(parents=True)
    for name in _closure(WANTED, packages, needs):
        base, package = packages[name]
        file = downloads / Path(package.file).name
        fetch_file(join(base, package.file), file, package.size, package.sha256)
        unpack(file, home, _place)
        file.unlink()
    (home / "fonts.conf").write_text(
        f"<?xml version='1.0'?><fontconfig><dir>{home}/usr/share/fonts</dir><cachedir>{home}/fontcache</cachedir></fontconfig>"
    )


def _place(path: str) -> str | None:
    return (
        None if path.startswith(("usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/lintian")) else path
    )


def _codename() -> str:
    match = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(encoding="utf-8"), re.M)
    if match is None:
        raise ToolchainError("/etc/os-release names no release of Debian")
    return match[1]


def _read(index: Index, suites) -> tuple[dict[str, tuple[str, Package]], dict[str, str]]:
    """Name -> (archive, newest package) and name -> its dependencies as they are written, over all suites."""
    packages: dict[str, tuple[str, Package]] = {}
    needs: dict[str, str] = {}
    for base, suite in suites:
        url = join(base, f"dists/{suite}/InRelease")
        release = index._verify(fetch_bytes(url), url).decode("utf-8", "replace")
        text = index._index_text(base, suite, release)
        for stanza in text.split("\n\n"):
            for package in (p for found in parse_packages(stanza).values() for p in found):
                have = packages.get(package.name)
                if have is None or version_key(have[1].version) < version_key(package.version):
                    packages[package.name] = base, package
                    match = re.search(r"^Depends: (.*)$", stanza, re.M)
                    needs[package.name] = match[1] if match else ""
    return packages, needs


def _closure(wanted, packages, needs) -> list[str]:
    """The wanted packages and every library that they lead to; programs that they would like are left out."""
    out: list[str] = []
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name in out or _LEFT_OUT.match(name):
            continue
        if name not in packages:
            raise ToolchainError(f"the archive has no package {name}")
        out.append(name)
        for choice in needs[name].split(","):
            names = [re.split(r"[ (:]", word.strip())[0] for word in choice.split("|")]
            todo += [n for n in names if n in packages and n.startswith("lib")][:1]
    return out
