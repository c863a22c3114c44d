"""What packing a checkpoint will do, from the headers of its files (and bitsandbytes' quant states, a few bytes a layer): layers, stacks of experts,
copies, and which output file each goes to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kgen.errors import PackError, Problem
from kgen.ops.pack import bitsandbytes
from kgen.ops.pack.bitsandbytes import Codes4Layer
from kgen.ops.pack.checks import GROUP_WORDS, GROUPS
from kgen.ops.pack.config import Format, Quantisation
from kgen.ops.pack.files import TensorFiles, TensorInfo
from kgen.ops.pack.gptq import WRAPS, Wrap
from kgen.ops.pack.layout import row_stride
from kgen.ops.pack.nibbles import PER_WORD

SHARD_BYTES = 2 << 30
FUSED = {("gate_proj", "up_proj"): "gate_up_proj", ("w1", "w3"): "w13"}
"""Projections of an expert that the fused MoE kernel wants as one: the gate's rows, then the other's."""
SHOWN = 12  # problems of one kind that are worth reading
_EXPERT = re.compile(r"(?P<stem>.*\bexperts)\.(?P<index>\d+)\.(?P<projection>[^.]+)")
_KEYS: dict[Format, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "awq": (("qweight", "qzeros", "scales"), ()),
    "gptq": (("qweight", "qzeros", "scales"), ("g_idx",)),
    "compressed-tensors": (
        ("weight_packed", "weight_scale"),
        ("weight_zero_point", "weight_shape", "weight_g_idx"),
    ),
}
"""Format -> what a layer's tensors are called: those that must be there, the first of which marks a layer, and those that may."""


@dataclass(frozen=True)
class Options:
    """How to pack.

    pad            rows off the 512-byte cache cliff
    stack_experts  `...experts.<i>.<projection>` of all i as one [E, M, K / 8]
    fuse_gate_up   with stack_experts: gate and up projection as one, `FUSED`
    wrap           what a stored 15 means in GPTQ version 1, see `kgen.ops.pack.gptq`
    shard_bytes    output files are cut when they would grow beyond this; a single layer may
    """

    pad: bool = True
    stack_experts: bool = False
    fuse_gate_up: bool = True
    wrap: Wrap = "refuse"
    shard_bytes: int = SHARD_BYTES

    def __post_init__(self) -> None:
        if self.wrap not in WRAPS:
            raise PackError("how to pack", [Problem(("wrap",), str(self.wrap), ", ".join(WRAPS))])

    def recorded(self) -> dict[str, Any]:
        """What decides the contents of the output, for its config.json."""
        return {name: value for name, value in asdict(self).items() if name != "shard_bytes"}


@dataclass(frozen=True, eq=False)
class Layer:
    """One quantised linear layer of the source. tensors: key, such as `qweight` -> the tensor's full name; scale: the type of its scales, such as
    F16."""

    name: str
    tensors: Mapping[str, str]
    M: int
    K: int
    group: int
    scale: str


@dataclass(frozen=True, eq=False)
class Target:
    """One packed layer of the output: for each expert the layers whose rows it joins. A plain layer is one expert of one part, not stacked."""

    name: str
    experts: tuple[tuple[Layer, ...], ...]
    stacked: bool

    @property
    def E(self) -> int | None:
        return len(self.experts) if self.stacked else None

    @property
    def M(self) -> int:
        return sum(part.M for part in self.experts[0])

    @property
    def K(self) -> int:
        return self.experts[0][0].K

    @property
    def group(self) -> int:
        return self.experts[0][0].group

    def layers(self) -> Iterator[Layer]:
        for parts in self.experts:
            yield from parts

    def most_bytes(self, pad: bool) -> int:
        """Bytes of its tensors, zero points included: whether they are needed shows when they are read."""
        groups = self.K // self.group
        words = self.M * row_stride(self.K, pad) + -(-self.M // PER_WORD) * groups
        return len(self.experts) * (4 * words + 2 * self.M * groups)


@dataclass(frozen=True)
class Plan:
    """All of it: `shards` has the output's files, each a list of packed layers (W4, or bitsandbytes' 4-bit codes) and names of tensors to copy."""

    quantisation: Quantisation
    options: Options
    shards: tuple[tuple[Target | Codes4Layer | str, ...], ...]
    bytes: int
    sizes: Mapping[str, int] = field(repr=False)

    @property
    def targets(self) -> list[Target]:
        return [piece for shard in self.shards for piece in shard if isinstance(piece, Target)]

    @property
    def codes4(self) -> list[Codes4Layer]:
        return [piece for shard in self.shards for piece in shard if isinstance(piece, Codes4Layer)]

    @property
    def copies(self) -> list[str]:
        return [piece for shard in self.shards for piece in shard if isinstance(piece, str)]


def plan_checkpoint(files: TensorFiles, quantisation: Quantisation, options: Options) -> Plan:
    """Decide everything that headers can decide.

    Raises PackError with all layers that lack tensors, have sizes the kernels do not take, or cannot be stacked.
    """
    pieces: dict[Target | Codes4Layer | str, int] = {}  # in the order of the source's files
    find = _codes4 if quantisation.format == "bitsandbytes" else _w4
    home = find(files, quantisation, options)
    for tensor in files:
        piece = home.get(tensor, tensor)
        pieces.setdefault(piece, _bytes(piece, files, options))
    shards: list[list[Target | Codes4Layer | str]] = [[]]
    filled = 0
    for piece, size in pieces.items():
        if shards[-1] and filled + size > options.shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(piece)
        filled += size
    sizes = {piece if isinstance(piece, str) else piece.name: size for piece, size in pieces.items()}
    return Plan(quantisation, options, tuple(map(tuple, shards)), sum(pieces.values()), sizes)


def _w4(files: TensorFiles, quantisation: Quantisation, options: Options) -> dict[str, Target | Codes4Layer]:
    """Tensor of a quantised layer -> the packed layer that it goes into."""
    layers = _find_layers(files, quantisation)
    targets = _stack(layers, options) if options.stack_experts else [_plain(layer) for layer in layers]
    return {tensor: target for target in targets for part in target.layers() for tensor in part.tensors.values()}


def _codes4(files: TensorFiles, quantisation: Quantisation, options: Options) -> dict[str, Target | Codes4Layer]:
    """The same for bitsandbytes' layers."""
    problems: list[Problem] = []
    if options.stack_experts:
        said = "bitsandbytes' 4-bit codes: the kernels for experts read int4 only"
        problems.append(Problem(("--stack-experts",), said, "AWQ, GPTQ or compressed-tensors", "pack without it"))
    layers = list(bitsandbytes.find_layers(files, problems))
    if not layers and not problems:
        problems.append(_none_found(f"*.{bitsandbytes.STATE}nf4 or fp4", quantisation))
    _raise_all(files, problems)
    return {tensor: layer for layer in layers for tensor in layer.tensors.values()}


def _bytes(piece: Target | Codes4Layer | str, files: TensorFiles, options: Options) -> int:
    if isinstance(piece, str):
        return files.tensors[piece].bytes
    return piece.most_bytes(options.pad) if isinstance(piece, Target) else piece.bytes


def _none_found(names: str, quantisation: Quantisation) -> Problem:
    said = f"no tensor is called {names}, though {quantisation.file} says {quantisation.format}"
    return Problem(("layers",), said, "at least one quantised layer", "the checkpoint itself, not its base model")


def _raise_all(files: TensorFiles, problems: Sequence[Problem]) -> None:
    if problems:
        more = f"; {len(problems) - SHOWN} more like these" if len(problems) > SHOWN else ""
        raise PackError(f"{files.folder}: layers that cannot be packed{more}", problems[:SHOWN])


def _plain(layer: Layer) -> Target:
    return Target(layer.name, ((layer,),), stacked=False)


def _find_layers(files: TensorFiles, quantisation: Quantisation) -> list[Layer]:
    required, optional = _KEYS[quantisation.format]
    problems: list[Problem] = []
    layers: list[Layer] = []
    ending = f".{required[0]}"
    names = [tensor.removesuffix(ending) for tensor in files if tensor.endswith(ending)]
    for name in names:
        tensors = {key: f"{name}.{key}" for key in (*required, *optional) if f"{name}.{key}" in files.tensors}
        found = [] if set(required) <= tensors.keys() else [f"no {', '.join(sorted(set(required) - tensors.keys()))}"]
        if not quantisation.ordered and "g_idx" not in tensors:
            found.append("no g_idx, though desc_act is set")
        layer = None if found else _sized(name, tensors, files.tensors, quantisation, problems)
        problems += [Problem((name,), words, f"{', '.join(required)}", "download the model again") for words in found]
        layers += [layer] if layer else []
    if not names:
        problems.append(_none_found(f"*{ending}", quantisation))
    _raise_all(files, problems)
    return layers


def _sized(
    name: str,
    tensors: Mapping[str, str],
    infos: Mapping[str, TensorInfo],
    quantisation: Quantisation,
    problems: list[Problem],
) -> Layer | None:
    """The layer with its sizes, or None and a problem. Whether all of its shapes agree is left to the packer, which sees the tensors."""
    main_key, scale_key = ("weight_packed", "weight_scale") if "weight_packed" in tensors else ("qweight", "scales")
    main, scale = infos[tensors[main_key]], infos[tensors[scale_key]]
    if len(main.shape) != 2 or len(scale.shape) != 2 or main.kind != "I32":
        said = f"{main_key} {main.kind} {list(main.shape)}, {scale_key} {scale.kind} {list(scale.shape)}"
        problems.append(Problem((name,), said, "an I32 matrix and a matrix of scales"))
        return None
    rows, columns = main.shape
    M, K, groups = {
        "awq": (columns * PER_WORD, rows, scale.shape[0]),
        "gptq": (columns, rows * PER_WORD, scale.shape[0]),
        "compressed-tensors": (rows, columns * PER_WORD, scale.shape[1]),
    }[quantisation.format]
    group = K // groups if groups and K % groups == 0 else 0
    if group not in GROUPS or (quantisation.groups and group not in quantisation.groups):
        said = f"K = {K} at 4 bits, {groups} scales per row" + (f": group {group}" if group else "")
        config = (
            f", and {quantisation.file} says {' or '.join(map(str, quantisation.groups))}"
            if quantisation.groups
            else ""
        )
        problems.append(Problem((name,), said, f"{GROUP_WORDS}{config}", "a checkpoint that is 4-bit throughout"))
        return None
    return Layer(name, tensors, M, K, group, scale.kind)


def _stack(layers: Sequence[Layer], options: Options) -> list[Target]:
    """Plain layers as they are, experts as stacks."""
    plain: list[Target] = []
    experts: dict[tuple[str, str], dict[int, Layer]] = {}
    for layer in layers:
        match = _EXPERT.fullmatch(layer.name)
        if match:
            experts.setdefault((match["stem"], match["projection"]), {})[int(match["index"])] = layer
        else:
            plain.append(_plain(layer))
    if not experts:
        words = "no layer is called ...experts.<i>.<projection>"
        raise PackError(
            "experts that cannot be stacked", [Problem(("--stack-experts",), words, "a mixture of experts")]
        )
    problems = [p for (stem, name), parts in experts.items() for p in _gaps(stem, name, parts)]
    stacks = [] if problems else list(_stacks(experts, options.fuse_gate_up))
    problems += [p for target in stacks for p in _unlike(target)]
    if problems:
        raise PackError("experts that cannot be stacked", problems[:SHOWN])
    return plain + stacks


def _stacks(experts: Mapping[tuple[str, str], Mapping[int, Layer]], fuse: bool) -> Iterator[Target]:
    pairs = FUSED if fuse else {}
    for (stem, name), parts in experts.items():
        pair = next((pair for pair in pairs if name in pair), None)
        other = experts.get((stem, pair[1])) if pair else None
        if pair is None or (stem, pair[0]) not in experts or other is None or len(other) != len(experts[stem, pair[0]]):
            yield Target(f"{stem}.{name}", tuple((parts[i],) for i in sorted(parts)), stacked=True)
        elif name == pair[0]:
            joined = tuple((parts[i], other[i]) for i in sorted(parts))
            yield Target(f"{stem}.{pairs[pair]}", joined, stacked=True)


def _gaps(stem: str, name: str, parts: Mapping[int, Layer]) -> list[Problem]:
    missing = sorted(set(range(max(parts) + 1)) - parts.keys())
    if not missing:
        return []
    said = f"no expert {', '.join(map(str, missing[:SHOWN]))} of {max(parts) + 1}"
    return [Problem((f"{stem}.*.{name}",), said, "all of them quantised", "pack without --stack-experts")]


def _unlike(target: Target) -> list[Problem]:
    """Experts or parts of other sizes or types than the first ones'."""
    wanted = [(part.M, part.K, part.group, part.scale) for part in target.experts[0]]
    kinds = {tuple((part.M, part.K, part.group, part.scale) for part in parts) for parts in target.experts}
    one_row = {(part.K, part.group, part.scale) for part in target.layers()}
    if len(kinds) == 1 and len(one_row) == 1:
        return []
    said = f"(M, K, group, scales) of {sorted(kinds)[:3]}"
    return [Problem((target.name,), said, f"{wanted} for every expert", "pack without --stack-experts")]
