"""C compilers that other parts of kgen offer for building the engine; a layer above the emulator may add one without being imported by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

Source = Callable[[], Iterable[Sequence[str]]]

_sources: list[Source] = []


def offer_compiler(source: Source) -> None:
    """Let `source` name compilers, as command prefixes. It is called only when the engine must be built and PATH has no compiler."""
    if source not in _sources:
        _sources.append(source)


def offered() -> list[tuple[str, ...]]:
    """Every offered command, in the order of the offers."""
    return [tuple(command) for source in _sources for command in source()]
