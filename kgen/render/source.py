"""One self-contained HIP file per spec. No date, user, host or path goes in: same spec, same bytes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import jinja2

from kgen.errors import KgenError
from kgen.render.environment import environment
from kgen.spec.base import KernelSpec


@dataclass(frozen=True)
class Source:
    """A rendered kernel: its name (also the symbol), target, text, and the SHA-256 of the text."""

    name: str
    arch: str
    text: str
    digest: str

    @property
    def symbol(self) -> str:
        """The kernel's symbol in the code object."""
        return self.name


def render(spec: KernelSpec) -> Source:
    """The HIP source of a spec. Pure: the same spec gives the same bytes. Raises KgenError for a broken template, with its name."""
    try:
        text = environment().get_template(spec.template).render(spec=spec, arch=spec.facts)
    except jinja2.TemplateError as error:
        line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        place = getattr(error, "name", None) or spec.template
        raise KgenError(f"template {place}{line}: {error}\n  met when rendering {spec.name} for {spec.arch}") from error
    text = re.sub(r"\n{3,}", "\n\n", text)
    return Source(spec.name, spec.arch, text, hashlib.sha256(text.encode()).hexdigest())
