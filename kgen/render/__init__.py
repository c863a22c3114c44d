"""spec -> HIP source text."""

from kgen.render.source import Source, render

__all__ = ["Source", "render"]
