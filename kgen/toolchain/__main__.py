"""`python -m kgen.toolchain`: what scripts and maintainers need beside `kgen toolchain`.

ensure ARCH...   install kgen's compiler unless one that compiles for these targets is there; used by quickstart.py
lock             bring lock.toml up to date with the signed index of the archive
"""

from __future__ import annotations

import argparse
import sys

from kgen.errors import KgenError, ToolchainError


def ensure(arches: list[str], archive: str | None, security_archive: str | None) -> None:
    """Print the compiler that builds for these targets will use; install one first when there is none."""
    from kgen.toolchain.find import find_amd
    from kgen.toolchain.install import install
    from kgen.toolchain.progress import TerminalProgress

    try:
        tool = find_amd(arches)
    except ToolchainError as error:
        print(f"{str(error).splitlines()[0]}; installing one", flush=True)
        with TerminalProgress() as progress:
            done = install(archive=archive, security_archive=security_archive, progress=progress)
        for note in done.notes:
            print(f"note: {note}")
        tool = find_amd(arches)
    print(f"{tool.command[0]} ({tool.version}, {tool.source}) compiles for {', '.join(arches)}")


def lock(archive: str | None, security_archive: str | None) -> None:
    """Refresh lock.toml."""
    from kgen.toolchain.archive import Index, machine_keyrings, machine_verifier
    from kgen.toolchain.lock import refresh_lock
    from kgen.toolchain.sources import find_archives

    archives = find_archives(archive, security_archive)
    index = Index(machine_verifier(machine_keyrings(archives.keyrings)))
    fresh = refresh_lock(archives, index)
    print(f"{fresh.id}: {len(fresh.packages)} packages, {fresh.download_bytes / 1e6:.1f} MB")
    for note in index.notes:
        print(f"note: {note}")


def main() -> int:
    """Parse and run; the exit codes are those of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m kgen.toolchain", description="Compilers for scripts and maintainers."
    )
    parser.add_argument("--archive", help="address of a Debian mirror; default: this machine's apt sources")
    parser.add_argument("--security-archive", help="address of its security archive")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("ensure", help="install a compiler unless there is one").add_argument(
        "arches", nargs="+", metavar="ARCH"
    )
    verbs.add_parser("lock", help="bring the lock file up to date")
    asked = parser.parse_args()
    try:
        if asked.verb == "ensure":
            ensure(asked.arches, asked.archive, asked.security_archive)
        else:
            lock(asked.archive, asked.security_archive)
    except KgenError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
