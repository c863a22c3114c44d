"""The text for ninja: one golden file, and quoting."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from kgen.build.ninja import write_ninja
from kgen.build.plan import plan_build
from kgen.build.run import ninja_command
from tests.build.fakes import ARCH, FakeTools, some_specs

GOLDEN = Path(__file__).parent / "golden" / "build.ninja"


class PrintedTools(FakeTools):
    """The fake compiler under a path that needs quoting twice, and with fixed keys."""

    command = ("/opt/my compiler/$1/cc",)

    def compile_command(self, arch: str, source: Path | str, out: Path | str) -> list[str]:
        return [*self.command, *self.flags(arch), str(source), "-o", str(out)]


def test_ninja_text_is_the_golden_one(tmp_path: Path):
    tools = PrintedTools(tmp_path, options=("-DX=a b", "-O3"))
    plan = plan_build(ARCH, some_specs(2), tools, ())
    plan = replace(plan, edges=tuple(replace(v, key=f"{i:016x}") for i, v in enumerate(plan.edges)))
    assert write_ninja(plan, tools) == GOLDEN.read_text()


def test_ninja_reads_it_and_the_shell_gets_the_words_back(tmp_path: Path):
    tools = PrintedTools(tmp_path, options=("-DX=a b $HOME", "-O3"))
    (tmp_path / "build.ninja").write_text(write_ninja(plan_build(ARCH, some_specs(1), tools, ()), tools))
    name = some_specs(1)[0].name
    (tmp_path / f"{name}.hip").touch()
    asked = subprocess.run([ninja_command(), "-n", "-v"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "'/opt/my compiler/$1/cc'" in asked.stdout
    assert "'-DX=a b $HOME'" in asked.stdout
