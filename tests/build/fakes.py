"""A compiler that needs a millisecond: it copies the source, so that builds can be tested without one.

What it "compiles" is read back by `read_fake`, which believes the spec of the kernel named in the text; `use_fakes` puts it in the place
of kgen.binary.
"""

from __future__ import annotations

import hashlib
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

import kgen.build.entry
from kgen.binary import CodeObject, KernelArg, KernelResources
from kgen.binary.codeobject import KernelCode
from kgen.errors import CodeObjectError
from kgen.spec.registry import spec_from_name
from kgen.spec.wvsplitk import WvSplitKSpec

ARCH = "gfx1151"

# IN OUT FOLDER: a line per call goes to FOLDER/calls; FOLDER/fail and FOLDER/full hold a pattern of names, FOLDER/slow a number of seconds;
# as long as FOLDER/hold is there, nothing ends.
_SCRIPT = """\
#!/bin/sh
basename "$1" .hip >> "$3/calls"
test -f "$3/slow" && { printf half > "$2"; sleep "$(cat "$3/slow")"; }
while test -f "$3/hold"; do sleep 0.02; done
if test -f "$3/fail" && echo "$1" | grep -qf "$3/fail"; then
  echo "note: a word before" >&2; echo "$1:7:3: error: made to fail" >&2; exit 1
fi
if test -f "$3/full" && echo "$1" | grep -qf "$3/full"; then
  printf half > "$2"; echo "ld.lld: error: failed to write output '$2': No space left on device" >&2; exit 1
fi
test -f "$3/warn" && echo "$1:1:1: warning: loop not unrolled" >&2
exec cp "$1" "$2"
"""


@dataclass
class FakeTools:
    """A toolchain (kgen.build.key.Toolchain) in a folder of its own."""

    folder: Path
    identity: str = "fake 1.0 0123456789abcdef"
    options: tuple[str, ...] = ("-O3",)
    env: dict[str, str] = field(default_factory=lambda: {"FAKE_PLATFORM": "amd"})
    flavour: str = "fake"
    version: str = "fake 1.0"

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        script = self.folder / "fakecc"
        if not script.exists():
            script.write_text(_SCRIPT)
            script.chmod(script.stat().st_mode | stat.S_IXUSR)

    @property
    def command(self) -> tuple[str, ...]:
        return (str(self.folder / "fakecc"),)

    def flags(self, arch: str) -> list[str]:
        return [f"--offload-arch={arch}", *self.options]

    def compile_command(self, arch: str, source: Path | str, out: Path | str) -> list[str]:
        return [*self.command, str(source), str(out), str(self.folder)]

    def set(self, what: str, value: str) -> None:
        """Make compiles whose source's name matches a pattern `fail` or find the disk `full`, all `slow` (seconds), `warn` or `hold`."""
        (self.folder / what).write_text(f"{value}\n")

    def unset(self, what: str) -> None:
        (self.folder / what).unlink()

    def calls(self) -> list[str]:
        """Names of the kernels compiled since the last time this was asked."""
        path = self.folder / "calls"
        names = sorted(path.read_text().split()) if path.exists() else []
        path.unlink(missing_ok=True)
        return names


def read_fake(image: bytes, what: str) -> CodeObject:
    """What the fake compiler made, as kgen.binary would read it: the kernel that the source's first line names."""
    match = re.match(rb"// (\S+) ", image)
    if match is None or not image.rstrip().endswith(b"}"):
        raise CodeObjectError(f"{what}: truncated")
    name = match[1].decode()
    spec = spec_from_name(name, ARCH)
    args = tuple(KernelArg(arg.name, arg.offset, arg.bytes, "by_value") for arg in spec.args)
    threads = spec.block[0]
    kernel = KernelResources(
        symbol=name,
        vgpr=40,
        agpr=0,
        sgpr=20,
        lds_bytes=1024,
        scratch_bytes=0,
        vgpr_spills=0,
        sgpr_spills=0,
        kernarg_bytes=56,
        wave=32,
        max_flat_workgroup_size=threads,
        code_bytes=len(image),
        args=args,
    )
    code = KernelCode(0, image.split(b"\n", 1)[1].replace(match[1], b""))  # the name is no part of the instructions
    digest = hashlib.sha256(image).hexdigest()
    return CodeObject(ARCH, {name: kernel}, digest, len(image), {name: code}, what, image)


def use_fakes() -> None:
    """Read what the fake compiler makes, in this process for good (tests use the fixture)."""
    kgen.build.entry.read_binary = read_fake


def a_spec(**values: object) -> WvSplitKSpec:
    """A spec; what is not given is small."""
    given = {"arch": ARCH, "dtype": "bf16", "THRDS": 32, "WvPrGrp": 4, **values}
    return WvSplitKSpec.checked(given)


def some_specs(count: int = 4) -> list[WvSplitKSpec]:
    """That many different specs."""
    return [a_spec(N=1 + i % 8, dtype=("bf16", "fp16")[i // 8 % 2], YTILE=1 + i // 16) for i in range(count)]
