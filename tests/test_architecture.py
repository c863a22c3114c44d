"""Imports go one way, heavy packages are loaded by those who use them, and files stay small enough to be read."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "kgen"

_BASE = {"errors", "settings", "spec"}
# What each part of kgen may import of the others, at any place in its code. Read from top to bottom: later parts stand on earlier ones.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "settings": set(),
    "spec": {"errors", "settings"},
    "render": _BASE,
    "binary": {"errors", "spec"},
    "emu": {"errors", "settings"},
    "toolchain": _BASE,
    "build": _BASE | {"render", "binary", "toolchain"},
    "dispatch": _BASE | {"render"},
    "runtime": _BASE | {"binary", "build", "dispatch", "emu"},
    "ops": _BASE | {"runtime"},
    "integrations": {"errors", "ops"},
    "verify": _BASE | {"build", "emu", "runtime"},
    "bench": _BASE | {"render", "binary", "toolchain", "build", "dispatch", "runtime", "ops", "verify"},
    "sweep": _BASE | {"render", "binary", "build", "dispatch", "emu", "runtime", "ops", "verify", "bench"},
    "demo": _BASE | {"build", "dispatch", "emu", "runtime", "ops", "verify"},
    "cli": {"*"},
    "__main__": {"cli"},
    "__init__": {"errors", "runtime", "ops", "settings"},
}


@cache
def imports() -> dict[Path, tuple[set[str], set[str]]]:
    """File -> (every module that it imports, those that it imports when it is loaded, outside of TYPE_CHECKING)."""
    out = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        out[path] = _names(ast.walk(tree)), _names(_at_load(tree.body))
    return out


def _names(nodes):
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"kgen.{a.name}" for a in node.names} if node.module == "kgen" else {node.module}
    return found


def _at_load(body):
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        for field in ("body", "orelse", "finalbody", "handlers"):
            yield from _at_load(getattr(node, field, ()) or ())


def part_of(path: Path) -> str:
    """The first folder or file below kgen/."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_part_is_known_here():
    assert {part_of(path) for path in imports()} <= set(ALLOWED)


def test_imports_go_along_the_arrows():
    wrong = []
    for path, (everything, _) in imports().items():
        part = part_of(path)
        used = {name.split(".")[1] for name in everything if name.startswith("kgen.")} - {part, "__version__"}
        if "*" not in ALLOWED[part] and (more := used - ALLOWED[part]):
            wrong.append(f"{path.relative_to(ROOT)} imports kgen.{', kgen.'.join(sorted(more))}")
    assert not wrong, "\n".join(wrong)


def test_the_allowed_imports_have_no_cycle():
    for part in ALLOWED:
        seen, todo = set(), set(ALLOWED[part])
        while todo:
            seen |= todo
            todo = {below for above in todo for below in ALLOWED.get(above, set())} - seen
        assert part not in seen, part


@pytest.mark.parametrize(
    "module",
    ["kgen", "kgen.spec.sets", "kgen.render", "kgen.build.make", "kgen.dispatch", "kgen.cli.main", "kgen.verify.run"],
)
def test_torch_is_loaded_by_those_who_need_it(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or f"import {module} imports torch"


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        # doctor only asks whether it starts; standin shows it the emulated runtime before the first call
        ("hip", {"kgen/runtime/hip.py", "kgen/runtime/standin.py", "kgen/toolchain/doctor.py"}),
        ("jinja2", {"kgen/render/environment.py", "kgen/render/source.py"}),
    ],
)
def test_few_know_a_package_whose_versions_differ(package, homes):
    users = {
        str(path.relative_to(ROOT))
        for path, (everything, _) in imports().items()
        if any(name.split(".")[0] == package for name in everything)
    }
    assert users <= homes


def test_nothing_heavy_is_imported_when_a_module_is_loaded():
    heavy = {"torch", "hip", "cuda", "tinygrad", "jinja2"}
    homes = {
        "jinja2": ("kgen/render/",),
        "torch": ("kgen/ops/", "kgen/demo/", "kgen/integrations/", "kgen/runtime/streams.py"),
    }
    wrong = []
    for path, (_, at_load) in imports().items():
        name = str(path.relative_to(ROOT))
        found = {module.split(".")[0] for module in at_load} & heavy
        wrong += [f"{name}: {package}" for package in found if not name.startswith(homes.get(package, ()))]
    assert not wrong, "\n".join(wrong)


def test_files_are_short_enough_to_be_read():
    long = {}
    for path in imports():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > 500:
            long[str(path.relative_to(ROOT))] = lines
    assert not long
