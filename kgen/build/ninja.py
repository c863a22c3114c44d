"""A build plan as text for ninja: one edge per kernel, each writing under a temporary name first."""

from __future__ import annotations

import shlex

from kgen.build.folder import WORK
from kgen.build.key import Toolchain
from kgen.build.plan import BuildPlan, Variant

STATUS = "@kgen %f %t "  # NINJA_STATUS: how run.py tells a finished edge from everything else that ninja says
_HEAD = """\
# Made by kgen for {arch}; every build writes it anew.
ninja_required_version = 1.11
builddir = {work}

# A code object gets its name only when the compiler is done; its words go to a file of their own.
rule compile
  command = {{ {command} && mv -f $out.part $out; }} > {work}/$name.log 2>&1
  description = $name
"""


def write_ninja(plan: BuildPlan, tools: Toolchain) -> str:
    """The text of build.ninja for the edges of a plan; paths are relative to the build folder."""
    placeholders = {"KGEN_IN": "$in", "KGEN_OUT": "$out.part"}
    command = " ".join(map(_token, tools.compile_command(plan.arch, *placeholders)))
    for placeholder, variable in placeholders.items():
        command = command.replace(placeholder, variable)
    head = _HEAD.format(arch=plan.arch, work=WORK, command=command)
    return "\n".join([head, *map(_edge, plan.edges)])


def _edge(variant: Variant) -> str:
    return f"build {WORK}/{variant.object_file}: compile {variant.source_file}\n  name = {variant.name}\n"


def _token(token: str) -> str:
    """One word of the command, quoted for the shell and then for ninja."""
    return shlex.quote(token).replace("$", "$$")
