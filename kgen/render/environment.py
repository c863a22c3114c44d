"""The Jinja environment: undefined names are errors, and templates come from one folder."""

from __future__ import annotations

from functools import lru_cache

import jinja2

from kgen.settings import data_dir


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """The one environment; blocks leave no blank lines behind, so that rendered source reads as if typed by hand."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(data_dir("templates")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    made.filters["hex"] = lambda pattern: f"0x{pattern:08x}u"  # a bit pattern as a C++ literal
    return made
