"""The clocks of a GPU as they are, in words; "unknown" where nothing says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

_NVIDIA = ("clocks.sm", "clocks.mem", "pstate", "temperature.gpu", "clocks_throttle_reasons.active")


def clock_state(vendor: str, ordinal: int = 0) -> str:
    """Clocks now, such as "sm 1980 MHz, mem 2619 MHz, P0, 41 C, throttle 0x0"; nothing is changed."""
    return (_nvidia(ordinal) if vendor == "nvidia" else _amd(ordinal)) or "unknown"


def _nvidia(ordinal: int) -> str:
    """By nvidia-smi, which counts devices as the driver does and not as CUDA_VISIBLE_DEVICES has them."""
    device = _visible("CUDA_VISIBLE_DEVICES", ordinal)
    command = ["nvidia-smi", f"--id={device}", f"--query-gpu={','.join(_NVIDIA)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        sm, mem, state, heat, throttle = (word.strip() for word in done.stdout.strip().splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return ""
    return f"sm {sm} MHz, mem {mem} MHz, {state}, {heat} C, throttle {throttle}"


def _visible(variable: str, ordinal: int) -> str:
    """The driver's name for the device that this process counts as `ordinal`."""
    visible = os.environ.get(variable, "").split(",")
    return visible[ordinal] if ordinal < len(visible) and visible[ordinal] else str(ordinal)


def _amd(ordinal: int) -> str:
    """By the kernel driver's files; the line with a star is the level that holds."""
    cards = sorted(Path("/sys/class/drm").glob("card*/device/pp_dpm_sclk"))
    device = _visible("HIP_VISIBLE_DEVICES", ordinal)
    if not device.isdigit() or int(device) >= len(cards):
        return ""
    card = cards[int(device)]
    words = []
    for name, file in (("core", card), ("mem", card.with_name("pp_dpm_mclk"))):
        try:
            match = re.search(r"(\d+)Mhz \*", file.read_text(encoding="ascii", errors="replace"))
        except OSError:
            continue
        if match:
            words.append(f"{name} {match[1]} MHz")
    return ", ".join(words)
