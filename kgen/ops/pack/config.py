"""How a checkpoint says that it was quantised: config.json, or quantize_config.json and quant_config.json of older versions.

Sources: AutoAWQ, awq/models/_config.py; AutoGPTQ, auto_gptq/quantization/config.py; GPTQModel, gptqmodel/quantization/config.py; compressed-tensors,
quantization/quant_config.py and quantization/quant_scheme.py; transformers, utils/quantization_config.py (BitsAndBytesConfig).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kgen.errors import PackError, Problem
from kgen.ops.pack.checks import GROUP_WORDS, GROUPS, REQUANTISE
from kgen.ops.pack.files import read_json, require_folder

METHOD = "kgen-w4"
"""quant_method of what `kgen pack` writes."""
VERSION = 1
FORMATS = ("awq", "gptq", "compressed-tensors", "bitsandbytes")
OLD_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
"""Files beside config.json that older versions wrote, and the method they mean where they name none."""
PACKED = "pack-quantized"
Format = Literal["awq", "gptq", "compressed-tensors", "bitsandbytes"]


@dataclass(frozen=True)
class Quantisation:
    """What the configuration says.

    format    whose layout
    version   of GPTQ's zero points, 1 or 2; else 0
    groups    group sizes that layers may have; empty: whatever their tensors show
    ordered   False where activation order was used, so that an index of groups has to be there to say otherwise
    file      where it was read
    original  as it was read
    """

    format: Format
    version: Literal[0, 1, 2]
    groups: tuple[int, ...]
    ordered: bool
    file: str
    original: dict[str, Any]


def read_quantisation(folder: Path) -> Quantisation:
    """The quantisation of a checkpoint folder.

    Raises PackError if there is none, or one that the kernels cannot follow: other bits, group or format.
    """
    file, found, method = _find(folder)
    problems: list[Problem] = []
    if method == METHOD:
        problems.append(Problem(("quant_method",), f"{method}: already packed", next="it can be loaded as it is"))
        raise _refused(folder, file, problems)
    if method not in FORMATS:
        problems.append(
            Problem(("quant_method",), str(method), ", ".join(FORMATS), "a 4-bit checkpoint of one of these")
        )
        raise _refused(folder, file, problems)
    readers = {"awq": _awq, "gptq": _gptq, "compressed-tensors": _compressed_tensors, "bitsandbytes": _bitsandbytes}
    reader = readers[method]
    result = reader(found, file, problems)
    if problems:
        raise _refused(folder, file, problems)
    return result


def without_quantisation(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json's contents less what it says about quantisation, at every place where that may stand."""
    left = {name: value for name, value in config.items() if name not in _KEYS}
    if isinstance(left.get("text_config"), dict):
        left["text_config"] = {name: value for name, value in left["text_config"].items() if name not in _KEYS}
    return left


_KEYS = ("quantization_config", "compression_config")


def _refused(folder: Path, file: str, problems: list[Problem]) -> PackError:
    return PackError(f"{folder / file}: a quantisation that cannot be packed", problems)


def _find(folder: Path) -> tuple[str, dict[str, Any], str]:
    """File, contents and method of the first configuration that is there."""
    require_folder(folder)
    config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    for place in (config, config.get("text_config")):
        for key in _KEYS:
            found = place.get(key) if isinstance(place, dict) else None
            if isinstance(found, dict):
                return "config.json", found, _method(found, "")
    for file, method in OLD_FILES.items():
        if (folder / file).exists():
            found = read_json(folder / file)
            return file, found, _method(found, method)
    looked = f"config.json (quantization_config), {', '.join(OLD_FILES)}"
    problem = Problem(
        ("quantisation",), "none", f"in {looked}", "a checkpoint of AWQ, GPTQ, compressed-tensors or bitsandbytes"
    )
    raise PackError(f"{folder} is not quantised", [problem])


def _method(found: Mapping[str, Any], default: str) -> str:
    return str(found.get("quant_method") or found.get("method") or default).lower()


def _bits_and_group(found: Mapping[str, Any], problems: list[Problem]) -> tuple[int, ...]:
    bits = found.get("bits", found.get("w_bit", found.get("num_bits")))
    group = found.get("group_size", found.get("q_group_size"))
    if bits != 4:
        problems.append(Problem(("bits",), str(bits), "4", "the kernels read 4-bit weights only"))
    if group not in GROUPS:
        problems.append(Problem(("group_size",), str(group), GROUP_WORDS, REQUANTISE))
    return (group,) if isinstance(group, int) else ()


def _awq(found: dict[str, Any], file: str, problems: list[Problem]) -> Quantisation:
    version = str(found.get("version") or found.get("checkpoint_format") or found.get("format") or "gemm").lower()
    if version != "gemm":
        words = "gemm; the others order words in another way"
        problems.append(Problem(("version",), version, words, "AutoAWQ's version=GEMM, its default"))
    return Quantisation("awq", 0, _bits_and_group(found, problems), True, file, found)


def _gptq(found: dict[str, Any], file: str, problems: list[Problem]) -> Quantisation:
    name = str(found.get("checkpoint_format") or found.get("format") or "gptq").lower()
    if found.get("is_marlin_format"):
        name = "marlin"
    if name not in ("gptq", "gptq_v2"):
        words = "gptq or gptq_v2; the others are ordered for one kernel"
        problems.append(Problem(("checkpoint_format",), name, words, "the checkpoint as GPTQModel saves it by default"))
    groups = _bits_and_group(found, problems)
    if found.get("dynamic"):  # GPTQModel: other settings for some modules, which their tensors show
        groups = ()
    return Quantisation("gptq", 2 if name == "gptq_v2" else 1, groups, not found.get("desc_act"), file, found)


def _compressed_tensors(found: dict[str, Any], file: str, problems: list[Problem]) -> Quantisation:
    default = found.get("format")
    schemes = found.get("config_groups")
    named = schemes.items() if isinstance(schemes, dict) else ()
    ours = [(n, s) for n, s in named if isinstance(s, dict) and (s.get("format") or default) == PACKED]
    if not ours:
        problems.append(Problem(("format",), str(default), PACKED, "llm-compressor's W4A16 or W4A16_ASYM schemes"))
    for name in ("transform_config", "sparsity_config"):
        if _says_something(found.get(name)):
            problems.append(
                Problem((name,), "present", "none", "the kernels neither rotate activations nor skip weights")
            )
    groups: list[int] = []
    for name, scheme in ours:
        weights = scheme.get("weights") or {}
        group = weights.get("group_size")
        seen = (weights.get("num_bits"), weights.get("type", "int"), weights.get("strategy", "group"))
        if seen != (4, "int", "group") or group not in GROUPS:
            said = f"{seen[0]} bits, {seen[1]}, strategy {seen[2]}, group_size {group}"
            problems.append(Problem((name, "weights"), said, f"4 bits, int, strategy group; {GROUP_WORDS}", REQUANTISE))
        if scheme.get("input_activations"):
            problems.append(Problem((name, "input_activations"), "quantised", "none", "a weight-only scheme, W4A16"))
        groups += [group] if isinstance(group, int) else []
    return Quantisation("compressed-tensors", 0, tuple(groups), True, file, found)


def _bitsandbytes(found: dict[str, Any], file: str, problems: list[Problem]) -> Quantisation:
    """Type, blocksize and nesting are said by each layer's own quant state."""
    eight, four = (bool(found.get(name, found.get(f"_{name}"))) for name in ("load_in_8bit", "load_in_4bit"))
    if eight or not four:
        said = "load_in_8bit: LLM.int8()" if eight else "no load_in_4bit"
        advice = "the model quantised with load_in_4bit (NF4 or FP4); the kernels read 4-bit weights only"
        problems.append(Problem(("quantization_config",), said, "load_in_4bit", advice))
    return Quantisation("bitsandbytes", 0, (), True, file, found)


def _says_something(config: object) -> bool:
    """A transform or sparsity configuration that means one; older files have `{"format": "dense"}`, or empty objects."""
    return isinstance(config, dict) and bool({k: v for k, v in config.items() if v}) and config.get("format") != "dense"
