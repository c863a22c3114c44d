"""Whether a compiler really makes code for a target: it compiles ten lines, no version string is believed.

Verdicts are kept in the cache folder by the compiler's real path, size and modification time, so they are asked for once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

PROBE = """\
// The least that kgen's kernels ask of a compiler; needs no header.
typedef __bf16 bf16x2 __attribute__((ext_vector_type(2)));
extern "C" __attribute__((global, amdgpu_flat_work_group_size(1, 256))) void kgen_probe(const bf16x2* in, float* out, unsigned n) {
  __attribute__((shared)) static float part[256];
  const unsigned lane = __builtin_amdgcn_workitem_id_x();
  const bf16x2 pair = in[lane % n];
  part[lane] = (float)pair[0] * (float)pair[1];
  __builtin_amdgcn_s_barrier();
  out[lane] = (float)(__bf16)part[lane ^ 1];
}
"""
FLAGS = ("--no-gpu-bundle-output", "-nogpuinc", "-nogpulib", "-O3", "-std=c++17", "-fuse-cuid=none")
"""Of every AMD compile: a raw code object, no header or library of the machine, and no trace of paths in the result."""
FRONT = {"hipcc": ("--genco",), "clang": ("-x", "hip", "--offload-device-only")}
_ELF_AMDGPU = 224  # e_machine
_TIMEOUT_S = 120
_SCHEMA = 1


def compile_flags(flavour: str, arch: str) -> list[str]:
    """What stands between the compiler and the source file: no path is among them, so they may go into a key."""
    return [*FRONT[flavour], f"--offload-arch={arch}", *FLAGS]


def try_compiler(command: Sequence[str], flavour: str, arch: str, env: Mapping[str, str]) -> str | None:
    """Compile the probe; None when a code object for an AMD GPU came out, else the reason in one line."""
    with tempfile.TemporaryDirectory(prefix="kgen-probe-") as folder:
        source, out = Path(folder, "probe.hip"), Path(folder, "probe.hsaco")
        source.write_text(PROBE, encoding="utf-8")
        line = [*command, *compile_flags(flavour, arch), str(source), "-o", str(out)]
        try:
            run = subprocess.run(
                line,
                env={**os.environ, **env},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {_TIMEOUT_S} s"
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        if run.returncode:
            return first_error(run.stderr) or f"exit code {run.returncode}"
        head = out.read_bytes()[:20] if out.is_file() else b""
        if len(head) < 20 or head[:4] != b"\x7fELF" or int.from_bytes(head[18:20], "little") != _ELF_AMDGPU:
            return "compiled, but the result is not an AMD code object"
    return None


def first_error(stderr: str) -> str:
    """The line of a compiler's output that says what is wrong."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    wanted = ("error:", "error while loading", "not found", "No such file")
    found = next((line for word in wanted for line in lines if word in line), lines[-1] if lines else "")
    return found[:300]


@dataclass
class Verdict:
    """What is known of one compiler. `arches` maps a target to the reason of its refusal, or None where it compiles."""

    files: list[list[str | int]]
    version: str
    identity: str
    arches: dict[str, str | None] = field(default_factory=dict)


def stamp(path: Path) -> list[str | int]:
    """Real path, size and modification time (ns) of a file: changes when the file is replaced."""
    real = path.resolve()
    stat = real.stat()
    return [str(real), stat.st_size, stat.st_mtime_ns]


class VerdictCache:
    """Verdicts of all compilers of this machine in one small file, replaced whole."""

    def __init__(self, path: Path):
        self.path = path
        self._known = self._read()

    def _read(self) -> dict[str, Verdict]:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            if data["schema"] != _SCHEMA:
                return {}
            return {key: Verdict(**value) for key, value in data["compilers"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # nothing kept yet, or damaged: ask the compilers again

    def get(self, key: str) -> Verdict | None:
        """The verdict, if the compiler's files are still the ones that were asked."""
        verdict = self._known.get(key)
        if verdict is None:
            return None
        try:
            same = all(stamp(Path(str(entry[0]))) == entry for entry in verdict.files)
        except OSError:
            same = False
        return verdict if same else None

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict. A cache folder that cannot be written costs time, nothing else."""
        self._known = {**self._read(), key: verdict}
        text = json.dumps({"schema": _SCHEMA, "compilers": {k: asdict(v) for k, v in self._known.items()}}, indent=1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, prefix=".verdicts-", delete=False) as file:
                file.write(text)
            os.replace(file.name, self.path)
        except OSError:
            pass


def describe(command: Sequence[str], env: Mapping[str, str]) -> tuple[str, str, Path | None]:
    """(version words, identity, real compiler) of a compiler: what it says of itself without its paths.

    The identity is a hash over the whole version text (which names the compiler's own commit) and the real compiler's content.
    """
    try:
        run = subprocess.run(
            [*command, "--version"],
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
        text = run.stdout
    except (OSError, subprocess.TimeoutExpired):
        text = ""
    folder = re.search(r"^InstalledDir: *(.+)$", text, flags=re.M)
    kept = "\n".join(
        line for line in text.splitlines() if not line.startswith(("InstalledDir:", "Configuration file:"))
    )
    words = re.search(r"clang version (\S+)", kept)
    hip = re.search(r"HIP version: *(\S+)", kept)
    version = " ".join(part for part in (f"HIP {hip[1]}" if hip else "", f"clang {words[1]}" if words else "") if part)
    digest = hashlib.sha256(kept.encode())
    real = Path(folder[1].strip(), "clang") if folder else None
    if real is not None and real.is_file():
        with real.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    else:
        real = None
    return version or "unknown version", f"{version or 'compiler'} {digest.hexdigest()[:16]}", real
