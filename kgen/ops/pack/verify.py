"""A packed folder held against the checkpoint it came from: every layer taken back to the source's own bits, every other tensor compared."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from kgen.errors import PackError, Problem
from kgen.ops.pack.bitsandbytes import Codes4Layer, pack_layer, unpack_bitsandbytes
from kgen.ops.pack.checkpoint import Progress
from kgen.ops.pack.config import read_quantisation
from kgen.ops.pack.files import TensorFiles
from kgen.ops.pack.layers import differences, read_layer, rows_of, same_bits
from kgen.ops.pack.layout import PackedW4
from kgen.ops.pack.load import CODES4, PackedFolder
from kgen.ops.pack.plan import SHOWN, Layer, Options, Plan, Target, plan_checkpoint


def check_packed(source: Path, out: Path, progress: Progress | None = None) -> tuple[int, int]:
    """Number of layers and of copied tensors that were compared, all equal.

    Bits are compared, not numbers: with the packers tested to be inverses and exact, equal bits are equal weights. Raises PackError that names what
    differs, or because either folder cannot be read.
    """
    quantisation = read_quantisation(source)
    with TensorFiles(source) as files, PackedFolder(out) as packed:
        plan = plan_checkpoint(files, quantisation, _options(packed))
        problems: list[Problem] = []
        done = 0
        for piece in (piece for shard in plan.shards for piece in shard):
            if isinstance(piece, Target):
                problems += _compare(files, packed, piece, plan)
            elif isinstance(piece, Codes4Layer):
                problems += _compare_codes4(files, packed, piece)
            elif piece not in packed.files.tensors:
                problems.append(Problem((piece,), "missing", "copied as it is"))
            elif not same_bits(files.read(piece), packed.files.read(piece)):
                problems.append(Problem((piece,), "differs", "copied as it is"))
            title = piece if isinstance(piece, str) else piece.name
            done += plan.sizes[title]
            if progress:
                progress(done, plan.bytes, title)
    if problems:
        more = f"; {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise PackError(f"{out} is not {source} packed{more}", problems[:SHOWN])
    layers = len(plan.codes4) + sum(len(list(target.layers())) for target in plan.targets)
    return layers, len(plan.copies)


def _options(packed: PackedFolder) -> Options:
    """What the folder says it was packed with."""
    recorded = packed.config.get("options")
    known = {field.name for field in fields(Options)}
    if not isinstance(recorded, dict) or not recorded.keys() <= known:
        problem = Problem(("options",), str(recorded), "as kgen pack writes them", "pack it again")
        raise PackError(f"{packed.folder / 'config.json'} is damaged", [problem])
    return Options(**recorded)


def _compare(files: TensorFiles, packed: PackedFolder, target: Target, plan: Plan) -> list[Problem]:
    if target.name not in packed.entries:
        return [Problem((target.name,), "missing", "a packed layer")]
    whole = packed.layer(target.name)
    sizes = (whole.M, whole.K, whole.group, whole.E)
    if sizes != (target.M, target.K, target.group, target.E):
        return [Problem((target.name,), f"(M, K, group, E) = {sizes}", "the source's sizes")]
    problems = []
    for index, parts in enumerate(target.experts):
        layer = whole.expert(index) if target.stacked else whole
        first = 0
        for part in parts:
            rows = layer if len(parts) == 1 else rows_of(layer, first, part.M)
            problems += _differences(rows, part, files, plan)
            first += part.M
    return problems


def _compare_codes4(files: TensorFiles, packed: PackedFolder, layer: Codes4Layer) -> list[Problem]:
    if layer.name not in packed.codes4_entries:
        return [Problem((layer.name,), "missing", "a packed layer")]
    found = packed.codes4(layer.name)
    back = unpack_bitsandbytes(found)
    wrong = [
        name for key, name in layer.tensors.items() if key not in back or not same_bits(files.read(name), back[key])
    ]
    again = pack_layer(files, layer).weight  # the offset, which the checkpoint has inside its quant state only
    if found.weight.absmax_offset is not None and again.absmax_offset is not None:
        same = same_bits(found.weight.absmax_offset, again.absmax_offset)
        wrong += [] if same else [f"{layer.name}.{CODES4['absmax_offset']}"]
    sizes = (found.weight.shape, found.weight.blocksize, found.weight.code, found.weight.nested)
    if sizes != ((layer.M, layer.K), layer.blocksize, layer.code, layer.nested):
        wrong.append(layer.name)
    return [Problem((name,), "differs", "the source's bits") for name in wrong]


def _differences(packed: PackedW4, layer: Layer, files: TensorFiles, plan: Plan) -> list[Problem]:
    try:
        wrong = differences(packed, read_layer(files, layer), plan.quantisation, plan.options)
    except PackError as error:  # what the format cannot say, it did not say
        return [replace(problem, where=layer.name) for problem in error.problems]
    return [Problem((f"{layer.name}.{key}",), "differs", "the source's bits") for key in wrong]
