"""What `kgen pack` wrote, back as tensors that the kernels take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from kgen.errors import PackError, Problem
from kgen.ops.pack.config import METHOD, VERSION
from kgen.ops.pack.files import TensorFiles, read_json
from kgen.ops.pack.layout import PackedW4, padded_rows, validate

KEY = "kgen.w4"
"""Key of the layers' description in a file's metadata: JSON, since safetensors' metadata are strings."""
WEIGHT, SCALES, ZEROS = "w4_weight", "w4_scales", "w4_zeros"


@dataclass(frozen=True)
class LayerEntry:
    """What the metadata say of one layer, since a file knows shapes but no strides: row_stride in words is the stored weight's last size."""

    M: int
    K: int
    group: int
    row_stride: int
    symmetric: bool
    E: int | None


def stored_tensors(name: str, packed: PackedW4) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A layer as tensors for a file (`NAME.w4_weight` [M, row_stride], `.w4_scales`, `.w4_zeros`; all with E in front for stacks), and its entry."""
    tensors = {f"{name}.{WEIGHT}": padded_rows(packed), f"{name}.{SCALES}": packed.scales.contiguous()}
    if packed.zeros is not None:
        tensors[f"{name}.{ZEROS}"] = packed.zeros.contiguous()
    words = tensors[f"{name}.{WEIGHT}"].shape[-1]
    return tensors, asdict(LayerEntry(packed.M, packed.K, packed.group, words, packed.symmetric, packed.E))


def metadata_of(source: str, entries: dict[str, dict[str, Any]]) -> dict[str, str]:
    """A file's metadata: version of this format, the source's format, and the entries of its layers."""
    text = json.dumps({"version": VERSION, "source": source, "layers": entries}, separators=(",", ":"))
    return {"format": "pt", KEY: text}


class PackedFolder:
    """A folder that `kgen pack` wrote; a context manager that keeps its files open.

    Raises PackError if it is something else, of another version, or damaged.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        path = self.folder / "config.json"
        config = read_json(path).get("quantization_config") if path.exists() else None
        found = config.get("quant_method") if isinstance(config, dict) else None
        if not isinstance(config, dict) or found != METHOD:
            said = f"quant_method {found}" if found else "no quantization_config"
            raise _not_ours(self.folder, said, f"quant_method {METHOD}", "kgen pack CHECKPOINT OUT")
        if config.get("version") != VERSION:
            raise _not_ours(self.folder, f"version {config.get('version')}", f"version {VERSION}", "pack it again")
        self.config: dict[str, Any] = config
        self.files = TensorFiles(self.folder)
        try:
            self.entries = self._entries()
        except BaseException:
            self.files.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.__exit__()

    def __iter__(self) -> Iterator[str]:
        """Names of the packed layers."""
        return iter(self.entries)

    def layer(self, name: str, device: str = "cpu") -> PackedW4:
        """A packed layer: views of what the file holds, rows `row_stride` words apart.

        Raises PackError if there is none of that name, or if it is damaged.
        """
        if name not in self.entries:
            known = ", ".join(list(self.entries)[:3])
            problem = Problem(
                (name,), "no packed layer of that name", f"{known}, ...", "`packed_layers` goes through all"
            )
            raise PackError(f"{self.folder}", [problem])
        entry = self.entries[name]
        needed = (WEIGHT, SCALES) if entry.symmetric else (WEIGHT, SCALES, ZEROS)
        missing = [key for key in needed if f"{name}.{key}" not in self.files.tensors]
        if missing:
            problem = Problem((name,), f"no {', '.join(missing)}", ", ".join(needed), "pack it again")
            raise PackError(f"{self.folder} is damaged", [problem])
        rows, scales, *rest = (self.files.read(f"{name}.{key}", device) for key in needed)
        if rows.dim() < 2 or rows.shape[-1] != entry.row_stride:
            problem = Problem((name,), f"rows of {list(rows.shape)[-1:]} words", f"{entry.row_stride}", "pack it again")
            raise PackError(f"{self.folder} is damaged", [problem])
        zeros = rest[0] if rest else None
        packed = PackedW4(rows[..., : entry.K // 8], scales, zeros, entry.group, entry.M, entry.K)
        try:
            validate(packed)
        except PackError as error:
            found = [replace(problem, where=name) for problem in error.problems]
            raise PackError(f"{self.folder} is damaged", found) from error
        return packed

    def _entries(self) -> dict[str, LayerEntry]:
        entries: dict[str, LayerEntry] = {}
        for file, metadata in self.files.metadata.items():
            try:
                described = json.loads(metadata.get(KEY, "{}"))
                entries |= {name: LayerEntry(**entry) for name, entry in described.get("layers", {}).items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise _not_ours(
                    self.folder, f"{file}: {error}", f"metadata {KEY} of {METHOD}", "pack it again"
                ) from error
        return entries


def load_packed(folder: Path | str, name: str, device: str = "cpu") -> PackedW4:
    """One layer of a packed folder. See `PackedFolder.layer`."""
    with PackedFolder(folder) as packed:
        return packed.layer(name, device)


def packed_layers(folder: Path | str, device: str = "cpu") -> Iterator[tuple[str, PackedW4]]:
    """Every packed layer of a folder, one at a time."""
    with PackedFolder(folder) as packed:
        for name in packed:
            yield name, packed.layer(name, device)


def _not_ours(folder: Path, found: str, allowed: str, next: str) -> PackError:
    return PackError(f"{folder} is no packed model", [Problem(("OUT",), found, allowed, next)])
