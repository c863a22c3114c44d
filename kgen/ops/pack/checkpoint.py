"""A checkpoint folder in, a folder in the kernels' layout out: layer by layer, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kgen.errors import MissingPieceError, PackError, Problem
from kgen.ops.pack import bitsandbytes
from kgen.ops.pack.bitsandbytes import Codes4Layer
from kgen.ops.pack.config import METHOD, OLD_FILES, VERSION, read_quantisation, without_quantisation
from kgen.ops.pack.files import INDEX, TensorFiles, read_json
from kgen.ops.pack.layers import pack_target
from kgen.ops.pack.load import KEY, KEY_CODES4, metadata_of, stored_codes4, stored_tensors
from kgen.ops.pack.plan import Options, Plan, Target, plan_checkpoint

Progress = Callable[[int, int, str], None]
"""Called with bytes done, bytes in all, and the name of what was done last."""
SPARE_BYTES = 64 << 20  # of disk, for everything that is no tensor


@dataclass(frozen=True)
class Packed:
    """What was written: the folder, each layer's entry by name, and how many tensors were copied as they are."""

    folder: Path
    layers: dict[str, dict[str, Any]]
    copied: int
    bytes: int


def plan_pack(source: Path, out: Path, options: Options, *, force: bool = False) -> Plan:
    """What `pack_checkpoint` would do, from headers alone. Raises what it would raise before it writes, less what only contents show."""
    _check_out(source, out, force)
    quantisation = read_quantisation(source)
    with TensorFiles(source) as files:
        return plan_checkpoint(files, quantisation, options)


def pack_checkpoint(
    source: Path, out: Path, options: Options | None = None, *, force: bool = False, progress: Progress | None = None
) -> Packed:
    """Pack the model in `source` into the folder `out`.

    Files are written into a hidden folder beside `out`, which takes its name when all is done; a process that dies leaves `out` as it was.
    Memory: one output file (2 GiB unless options say otherwise) and one layer, or one stack of experts.

    force     replace what `out` holds; else it must be empty or not exist
    progress  see `Progress`

    Raises PackError if the checkpoint cannot be packed or `out` not be used, MissingPieceError without safetensors or without room on the disk.
    """
    options = options or Options()
    _check_out(source, out, force)
    quantisation = read_quantisation(source)
    with TensorFiles(source) as files:
        plan = plan_checkpoint(files, quantisation, options)
        out.parent.mkdir(parents=True, exist_ok=True)
        _check_room(out.parent, plan.bytes)
        with _in_place_of(out, force) as folder:
            layers, written = _write_shards(folder, files, plan, progress)
            _write_rest(source, folder, plan)
    return Packed(out, layers, len(plan.copies), written)


def _check_out(source: Path, out: Path, force: bool) -> None:
    here, there = source.resolve(), out.resolve()
    problem = None
    if here == there or here in there.parents or there in here.parents:
        problem = Problem(("OUT",), f"{out} and the checkpoint contain each other", "a folder of its own")
    elif out.exists() and not out.is_dir():
        problem = Problem(("OUT",), f"{out} is a file", "a new or empty folder")
    elif out.is_dir() and any(out.iterdir()) and not force:
        problem = Problem(
            ("OUT",), f"{out} is not empty", "a new or empty folder", "--force replaces all that is in it"
        )
    if problem:
        raise PackError("where to", [problem])


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise MissingPieceError(
            f"{folder}: {needed / 2**30:.1f} GiB are to be written, and {free / 2**30:.1f} GiB are free\n  try: another OUT"
        )


@contextmanager
def _in_place_of(out: Path, force: bool) -> Iterator[Path]:
    """A folder to write into that takes `out`'s place if nothing is raised, and vanishes if something is."""
    out = out.resolve()
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    fresh, old = beside / "new", beside / "old"
    fresh.mkdir()
    try:
        yield fresh
        if force and out.exists():
            out.rename(old)
        try:
            fresh.rename(out)
        except OSError as error:
            if old.exists():
                old.rename(out)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                said = Problem(
                    ("OUT",), f"{out} was filled while we packed", "an empty folder", "another OUT, or --force"
                )
                raise PackError("where to", [said]) from error
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_shards(
    folder: Path, files: TensorFiles, plan: Plan, progress: Progress | None
) -> tuple[dict[str, dict[str, Any]], int]:
    """Write the files and their index; the layers' entries and the bytes of all tensors come back."""
    from safetensors.torch import save_file

    layers: dict[str, dict[str, Any]] = {}
    index: dict[str, str] = {}
    done = written = 0
    for number, shard in enumerate(plan.shards, start=1):
        name = f"model-{number:05d}-of-{len(plan.shards):05d}.safetensors"
        tensors: dict[str, Tensor] = {}
        entries: dict[str, dict[str, Any]] = {}
        for piece in shard:
            if isinstance(piece, Target):
                packed = pack_target(files, piece, plan.quantisation, plan.options)
                stored, entries[piece.name] = stored_tensors(piece.name, packed)
                del packed
            elif isinstance(piece, Codes4Layer):
                stored, entries[piece.name] = stored_codes4(piece.name, bitsandbytes.pack_layer(files, piece))
            else:
                stored = {piece: files.read(piece)}
            _add(tensors, index, stored, name)
            title = piece if isinstance(piece, str) else piece.name
            done += plan.sizes[title]
            if progress:
                progress(done, plan.bytes, title)
        written += sum(tensor.nbytes for tensor in tensors.values())
        key = KEY_CODES4 if plan.codes4 else KEY
        save_file(tensors, folder / name, metadata_of(plan.quantisation.format, entries, key))
        layers |= entries
    _write_json(folder / INDEX, {"metadata": {"total_size": written}, "weight_map": index})
    for file in set(index.values()):
        shutil.copymode(
            folder / INDEX, folder / file
        )  # safetensors makes files that only their owner reads, whatever the umask
    return layers, written


def _add(tensors: dict[str, Tensor], index: dict[str, str], more: dict[str, Tensor], file: str) -> None:
    clash = index.keys() & more.keys()
    if clash:
        found = Problem((sorted(clash)[0],), "a tensor of the checkpoint and of the packed model", "different names")
        raise PackError("names that meet", [found])
    tensors |= more
    index |= dict.fromkeys(more, file)


def _write_rest(source: Path, folder: Path, plan: Plan) -> None:
    """Tokeniser, templates and the like as they are; config.json with the new quantisation; the old quantisation's own files not at all."""
    for path in sorted(source.iterdir()):
        weights = path.name.endswith((".safetensors", ".safetensors.index.json", ".bin", ".pt", ".pth", ".gguf"))
        if path.is_file() and not weights and path.name not in (*OLD_FILES, "config.json"):
            shutil.copyfile(path, folder / path.name)
    config = read_json(source / "config.json") if (source / "config.json").exists() else {}
    quantisation = {
        "quant_method": METHOD,
        "version": VERSION,
        "bits": 4,
        "source_format": plan.quantisation.format,
        "options": plan.options.recorded(),
        "source": plan.quantisation.original,
    }
    _write_json(folder / "config.json", {**without_quantisation(config), "quantization_config": quantisation})


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + os.linesep, encoding="utf-8")
