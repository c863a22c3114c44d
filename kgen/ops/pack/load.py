"""What `kgen pack` wrote, back as tensors that the kernels take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from kgen.errors import PackError, Problem
from kgen.ops.pack.bitsandbytes import PackedCodes4
from kgen.ops.pack.config import METHOD, VERSION
from kgen.ops.pack.files import TensorFiles, read_json
from kgen.ops.pack.layout import PackedW4, padded_rows, validate
from kgen.ops.quantise_4bit import Quantised4Bit
from kgen.spec.codes4 import Code
from kgen.spec.gemm_4bit import NESTED_BLOCK

ALIGNMENT = 16
"""Bytes; kernels read rows so many at a time."""
_Entry = TypeVar("_Entry", "LayerEntry", "Codes4Entry")
KEY, KEY_CODES4 = "kgen.w4", "kgen.codes4"
"""Keys of the layers' descriptions in a file's metadata: JSON, since safetensors' metadata are strings."""
WEIGHT, SCALES, ZEROS = "w4_weight", "w4_scales", "w4_zeros"
CODES4 = {
    "packed": "codes4_weight",
    "absmax": "codes4_absmax",
    "absmax_8bit": "codes4_absmax_8bit",
    "absmax_code": "codes4_absmax_code",
    "absmax_offset": "codes4_absmax_offset",
}
"""Field of Quantised4Bit -> what its tensor is called in a file; the last three only where absmax is nested."""


@dataclass(frozen=True)
class LayerEntry:
    """What the metadata say of one layer, since a file knows shapes but no strides: row_stride in words is the stored weight's last size."""

    M: int
    K: int
    group: int
    row_stride: int
    symmetric: bool
    E: int | None


@dataclass(frozen=True)
class Codes4Entry:
    """What the metadata say of one layer of bitsandbytes: state is its quant state's JSON, storage and sizes how the checkpoint stored the bytes."""

    M: int
    K: int
    blocksize: int
    code: Code
    nested: bool
    state: str
    storage: str
    sizes: tuple[int, ...]


def stored_tensors(name: str, packed: PackedW4) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A layer as tensors for a file (`NAME.w4_weight` [M, row_stride], `.w4_scales`, `.w4_zeros`; all with E in front for stacks), and its entry."""
    tensors = {f"{name}.{WEIGHT}": padded_rows(packed), f"{name}.{SCALES}": packed.scales.contiguous()}
    if packed.zeros is not None:
        tensors[f"{name}.{ZEROS}"] = packed.zeros.contiguous()
    words = tensors[f"{name}.{WEIGHT}"].shape[-1]
    return tensors, asdict(LayerEntry(packed.M, packed.K, packed.group, words, packed.symmetric, packed.E))


def stored_codes4(name: str, packed: PackedCodes4) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same for a layer of bitsandbytes: its tensors by `CODES4`."""
    w = packed.weight
    found = {f"{name}.{stored}": getattr(w, field) for field, stored in CODES4.items()}
    tensors = {key: tensor.contiguous() for key, tensor in found.items() if tensor is not None}
    storage = str(packed.storage).removeprefix("torch.")
    return tensors, asdict(Codes4Entry(*w.shape, w.blocksize, w.code, w.nested, packed.state, storage, packed.sizes))


def metadata_of(source: str, entries: dict[str, dict[str, Any]], key: str = KEY) -> dict[str, str]:
    """A file's metadata: version of this format, the source's format, and the entries of its layers."""
    text = json.dumps({"version": VERSION, "source": source, "layers": entries}, separators=(",", ":"))
    return {"format": "pt", key: text}


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
            self.entries = self._entries(KEY, LayerEntry)
            self.codes4_entries = self._entries(KEY_CODES4, Codes4Entry)
        except BaseException:
            self.files.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.__exit__()

    def __iter__(self) -> Iterator[str]:
        """Names of the packed W4 layers."""
        return iter(self.entries)

    def layer(self, name: str, device: str = "cpu") -> PackedW4:
        """A packed layer: views of what the file holds, rows `row_stride` words apart; copies where that is not 16-byte aligned.

        Raises PackError if there is none of that name, or if it is damaged.
        """
        self._known(name, self.entries, "packed layer")
        entry = self.entries[name]
        needed = (WEIGHT, SCALES) if entry.symmetric else (WEIGHT, SCALES, ZEROS)
        self._complete(name, needed)
        rows, scales, *rest = (self._read(f"{name}.{key}", device) for key in needed)
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

    def codes4(self, name: str, device: str = "cpu") -> PackedCodes4:
        """A layer that came from bitsandbytes; `weight` has the arguments of torch.ops.kgen.gemm_4bit.

        Raises PackError if there is none of that name, or if it is damaged.
        """
        self._known(name, self.codes4_entries, "layer of 4-bit codes")
        entry = self.codes4_entries[name]
        fields = [field for field in CODES4 if entry.nested or field in ("packed", "absmax")]
        self._complete(name, tuple(CODES4[field] for field in fields))
        tensors = {field: self._read(f"{name}.{CODES4[field]}", device) for field in fields}
        blocks = -(-entry.M * entry.K // entry.blocksize)
        counts = {"packed": -(-entry.M * entry.K // 2), "absmax": blocks}
        if entry.nested:
            counts |= {"absmax": -(-blocks // NESTED_BLOCK), "absmax_8bit": blocks, "absmax_code": 256}
        for field, count in counts.items():
            if tensors[field].numel() != count:
                found = f"{tensors[field].numel()} elements"
                problem = Problem((f"{name}.{CODES4[field]}",), found, str(count), "pack it again")
                raise PackError(f"{self.folder} is damaged", [problem])
        weight = Quantised4Bit(shape=(entry.M, entry.K), blocksize=entry.blocksize, code=entry.code, **tensors)
        return PackedCodes4(weight, entry.state, getattr(torch, entry.storage), tuple(entry.sizes))

    def _read(self, tensor: str, device: str) -> Tensor:
        """A tensor whose first byte kernels can read 16 at a time: files align theirs to the element only, so that it may take a copy."""
        found = self.files.read(tensor, device)
        return found.clone() if found.data_ptr() % ALIGNMENT else found

    def _known(self, name: str, entries: Mapping[str, object], what: str) -> None:
        if name not in entries:
            known = ", ".join(list(entries)[:3])
            advice = "`packed_layers` goes through all W4 layers, `codes4_layers` through those of bitsandbytes"
            problem = Problem((name,), f"no {what} of that name", f"{known}, ..." if known else "none here", advice)
            raise PackError(f"{self.folder}", [problem])

    def _complete(self, name: str, needed: tuple[str, ...]) -> None:
        missing = [key for key in needed if f"{name}.{key}" not in self.files.tensors]
        if missing:
            problem = Problem((name,), f"no {', '.join(missing)}", ", ".join(needed), "pack it again")
            raise PackError(f"{self.folder} is damaged", [problem])

    def _entries(self, key: str, kind: type[_Entry]) -> dict[str, _Entry]:
        entries: dict[str, _Entry] = {}
        for file, metadata in self.files.metadata.items():
            try:
                described = json.loads(metadata.get(key, "{}"))
                entries |= {name: kind(**entry) for name, entry in described.get("layers", {}).items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise _not_ours(
                    self.folder, f"{file}: {error}", f"metadata {key} of {METHOD}", "pack it again"
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


def load_codes4(folder: Path | str, name: str, device: str = "cpu") -> Quantised4Bit:
    """One layer of a packed bitsandbytes checkpoint: what torch.ops.kgen.gemm_4bit takes. See `PackedFolder.codes4`."""
    with PackedFolder(folder) as packed:
        return packed.codes4(name, device).weight


def codes4_layers(folder: Path | str, device: str = "cpu") -> Iterator[tuple[str, Quantised4Bit]]:
    """Every layer of a packed bitsandbytes checkpoint, one at a time."""
    with PackedFolder(folder) as packed:
        for name in packed.codes4_entries:
            yield name, packed.codes4(name, device).weight


def _not_ours(folder: Path, found: str, allowed: str, next: str) -> PackError:
    return PackError(f"{folder} is no packed model", [Problem(("OUT",), found, allowed, next)])
