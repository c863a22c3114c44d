"""The safetensors files of a model folder: what is in them, and one tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from kgen.errors import MissingPieceError, PackError, Problem

CURE = 'pip install "kgen[pack]"'
INDEX = "model.safetensors.index.json"
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}


@dataclass(frozen=True)
class TensorInfo:
    """What a file's header says about a tensor. kind: safetensors' name of the type, such as I32."""

    file: str
    kind: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return prod(self.shape) * _BYTES.get(self.kind, 1)


class TensorFiles:
    """The tensors of a folder's safetensors files; a context manager that keeps the files open. Headers are read at once, contents when asked for.

    With an index (`*.safetensors.index.json`) its files; else `model*.safetensors`; else every `*.safetensors`.
    Raises PackError for a folder without such files, a file that is missing, truncated or no safetensors, and an index that does not agree with them;
    MissingPieceError without the package safetensors.
    """

    def __init__(self, folder: Path):
        try:
            from safetensors import SafetensorError, safe_open
        except ImportError as error:
            raise MissingPieceError(f"reading checkpoints needs the package safetensors\n  try: {CURE}") from error
        self.folder = folder
        self.tensors: dict[str, TensorInfo] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        self._unreadable, self._open_file = SafetensorError, safe_open
        self._stack, self._handles = ExitStack(), dict[str, Any]()
        names, index = _names_of(folder)
        try:
            for name in names:
                self._read_header(name)
            self._follow(index)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._handles.clear()
        self._stack.close()

    def __iter__(self) -> Iterator[str]:
        """Names of the tensors, in the order of the files and inside them."""
        return iter(self.tensors)

    def read(self, name: str, device: str = "cpu") -> Tensor:
        """A tensor's contents. Raises PackError if the file ends before them."""
        info = self.tensors[name]
        try:
            return self._handles[info.file].get_tensor(name).to(device)
        except self._unreadable as error:
            raise damaged(self.folder / info.file, str(error)) from error

    def _read_header(self, name: str) -> None:
        path = self.folder / name
        try:
            handle = self._stack.enter_context(self._open_file(path, framework="pt"))
            self.metadata[name] = dict(handle.metadata() or {})
            for tensor in handle.keys():  # noqa: SIM118 (no mapping: it cannot be iterated over)
                part = handle.get_slice(tensor)
                info = TensorInfo(name, part.get_dtype(), tuple(part.get_shape()))
                if tensor in self.tensors:
                    found = f"{tensor} is in {self.tensors[tensor].file} and in {name}"
                    raise PackError(f"{self.folder}", [Problem(("tensor",), found, "once", "one model per folder")])
                self.tensors[tensor] = info
        except FileNotFoundError as error:
            raise damaged(path, "it is named by the index, and missing") from error
        except (self._unreadable, OSError) as error:
            raise damaged(path, str(error)) from error
        self._handles[name] = handle

    def _follow(self, index: dict[str, str]) -> None:
        """Hold the index against the files."""
        problems = []
        for tensor, file in index.items():
            info = self.tensors.get(tensor)
            if info is None or info.file != file:
                where = "no file" if info is None else info.file
                problems.append(
                    Problem((tensor,), f"in {where}", f"{file}, as the index says", "download the model again")
                )
        if problems:
            raise PackError(f"{self.folder}: the index does not agree with the files", problems[:8])


def require_folder(folder: Path) -> None:
    """Raise PackError for a checkpoint that is not there."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing: no such folder"
        raise PackError(
            f"{folder} is no checkpoint",
            [Problem(("CHECKPOINT",), found, "a folder with *.safetensors and config.json")],
        )


def damaged(path: Path, why: str) -> PackError:
    """A file that cannot be used."""
    found = Problem((path.name,), why, "a whole safetensors file", "download or make it again")
    return PackError(f"{path} cannot be read", [found])


def read_json(path: Path) -> dict[str, Any]:
    """A file's JSON object; PackError if it holds none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PackError(f"{path} cannot be read", [Problem((path.name,), str(error), "a JSON object")]) from error
    if not isinstance(data, dict):
        raise PackError(f"{path} cannot be read", [Problem((path.name,), type(data).__name__, "a JSON object")])
    return data


def _names_of(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the files to read, and the index: tensor -> file; empty without one."""
    require_folder(folder)
    indexes = sorted(folder.glob("*.safetensors.index.json"), key=lambda path: (path.name != INDEX, path.name))
    if indexes:
        index = read_json(indexes[0]).get("weight_map")
        if not isinstance(index, dict) or not all(_plain_name(name) for name in index.values()):
            found = Problem(("weight_map",), "missing, or names no files of this folder", "tensor name -> file name")
            raise PackError(f"{indexes[0]} cannot be used", [found])
        return sorted(set(index.values())), index
    names = [path.name for path in folder.glob("model*.safetensors")] or [p.name for p in folder.glob("*.safetensors")]
    if not names:
        others = sorted(path.name for ending in ("bin", "pt", "gguf") for path in folder.glob(f"*.{ending}"))
        said = f"none; {', '.join(others[:3])}" if others else "none"
        problem = Problem(("*.safetensors",), said, "at least one", "a checkpoint in safetensors")
        raise PackError(f"{folder} holds no model that can be packed", [problem])
    return sorted(names), {}


def _plain_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name
