"""`kgen toolchain`: find, install and remove the compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kgen.cli import show
from kgen.cli.options import Arches, AsJson, DryRun, command_group
from kgen.cli.targets import arches_of

app = command_group("Find, install or remove the compiler.", no_args_is_help=True)

Archive = Annotated[str | None, typer.Option(metavar="URL", help="Debian mirror. Default: this machine's apt sources.")]
Security = Annotated[str | None, typer.Option(metavar="URL", help="Security archive of that mirror.")]


@app.command()
def find(arch: Arches = None, as_json: AsJson = False) -> None:
    """The compiler that a build would take for each target, and why it is believed."""
    from kgen.toolchain.find import find_toolchain

    rows: list[dict[str, Any]] = []
    for name in arches_of(arch or ["gfx1151"]):
        tool = find_toolchain(name)
        rows.append({"arch": name, "command": " ".join(tool.command), "version": tool.version, "found": tool.source})
    if as_json:
        show.print_json(rows)
    else:
        show.print_table(rows, ("arch", "version", "found", "command"))


@app.command()
def install(
    archive: Archive = None,
    security_archive: Security = None,
    keyring: Annotated[
        Path | None, typer.Option(help="Debian keyring for the signature. Default: this machine's.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Install again although it is there.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Unpack a verified, lock-filed compiler into the cache folder; no root needed."""
    from kgen.toolchain.install import install as install_compiler
    from kgen.toolchain.lock import read_lock
    from kgen.toolchain.prefix import toolchain_dir
    from kgen.toolchain.progress import TerminalProgress

    if dry_run:
        lock = read_lock()
        print(f"{lock.id}: {show.plural(len(lock.packages), 'package')}, {lock.download_bytes / 1e6:.1f} MB")
        print(f"into {toolchain_dir() / lock.id}")
        return
    with TerminalProgress() as progress:
        done = install_compiler(
            archive=archive, security_archive=security_archive, keyring=keyring, progress=progress, force=force
        )
    for words in done.notes:
        show.note(f"note: {words}")
    print(f"{done.prefix.root}" + ("" if done.fresh else "   (was there already)"))


@app.command()
def remove(dry_run: DryRun = False) -> None:
    """Delete what `kgen toolchain install` unpacked; other compilers are never touched."""
    from kgen.toolchain.install import remove as remove_compiler
    from kgen.toolchain.prefix import toolchain_dir

    if dry_run:
        root = toolchain_dir()
        gone = [path for path in root.iterdir() if path.is_dir() and path.name[0] != "."] if root.is_dir() else []
    else:
        gone = remove_compiler()
    for path in gone:
        print(path)
    if not gone:
        print("nothing is installed")
