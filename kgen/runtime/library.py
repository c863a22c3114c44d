"""A build folder on a device: every kernel loaded once, nothing loaded that is not what was built."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kgen.binary import read_binary
from kgen.build.manifest import KernelEntry, Manifest, load_manifest
from kgen.dispatch import Picker, has_table, load_table
from kgen.errors import CodeObjectError, LaunchError, WrongArchError
from kgen.runtime.arguments import ArgumentLayout
from kgen.runtime.driver import Driver
from kgen.runtime.launch import Count, Kernel, argument_problem
from kgen.runtime.workspace import pool_of
from kgen.spec.arch import ARCHES, arch_facts
from kgen.spec.base import KernelSpec
from kgen.spec.linear import LinearSpec
from kgen.spec.problem import GemmShape
from kgen.spec.registry import spec_from_name
from kgen.spec.route import ROUTES


class Library:
    """The kernels of one build folder on one device. Safe to use from several threads.

    folder   as `kgen build` made it
    driver   of the device
    Raises ManifestError if the folder has no good manifest, WrongArchError if it was built for another target than the device's.
    """

    def __init__(self, folder: Path, driver: Driver):
        self.folder, self.driver = folder, driver
        self.manifest: Manifest = load_manifest(folder)
        if self.manifest.arch != driver.device.arch:
            raise _wrong_arch(folder, self.manifest.arch, driver)
        self.torch_answered: dict[str, Count] = {}
        self._lock = threading.RLock()
        self._kernels: dict[str, Kernel] = {}
        self._modules: dict[str, Any] = {}  # by the file's digest
        self._pickers: dict[str, Picker] = {}
        self._preferred: list[KernelSpec] = []

    @property
    def arch(self) -> str:
        """The target that the kernels were built for."""
        return self.manifest.arch

    def kernel(self, name: str) -> Kernel:
        """A kernel by name, loaded at its first use.

        Raises CodeObjectError if it was not built, or if its file is truncated, altered or takes other arguments than its spec; LaunchError
        if it is not loaded and a graph is being captured.
        """
        found = self._kernels.get(name)
        if found is not None:
            return found
        with self._lock:
            return self._kernels.get(name) or self._load(name)

    def warm_up(self) -> int:
        """Load every kernel and table of the folder and make the workspaces of graph captures, so that nothing is loaded or allocated
        later; answers how many kernels there are.
        """
        families = {entry.family for entry in self.manifest.entries.values()}
        for family in sorted(families | {op for op in ROUTES if has_table(op, self.arch)}):
            self.picker(family)
        for name, entry in self.manifest.entries.items():
            if entry.built:
                self.kernel(name)
        for kernel in self._kernels.values():
            if isinstance(kernel.spec, LinearSpec) and kernel.spec.shard is not None:
                pool_of(self.driver, kernel.spec.same_bits).warm_up()
        return len(self._kernels)

    def picker(self, family: str) -> Picker:
        """The dispatch table of a family for this device: the compiled one beside the kernels, else the reviewed one.

        Raises TableError.
        """
        found = self._pickers.get(family)
        if found is None:
            with self._lock:
                found = self._pickers.setdefault(family, self._read_table(family))
        return found

    def pick(self, family: str, shape: GemmShape, dtype: str) -> Kernel | None:
        """The kernel that the table names for a problem, loaded; None when the answer is torch.

        Raises NoRowError when no row answers, MissingPieceError when the row's kernel was not built, and what `kernel` raises.
        """
        for spec in self._preferred:
            if spec.family == family and spec.dtype == dtype and spec.fits(shape) is None:  # type: ignore[attr-defined]
                return self.kernel(spec.name)
        answer = self.picker(family).pick(shape, dtype)
        return None if answer.kernel is None else self.kernel(answer.kernel)

    def prefer(self, names: Iterable[str]) -> None:
        """Let these kernels answer before their tables wherever they fit, as when picks are compared. Plans that were made before stay as they are.

        Raises what `kernel` raises.
        """
        self._preferred = [self.kernel(name).spec for name in names]

    def route(self, op: str, shape: GemmShape, dtype: str) -> str | None:
        """The family that the table of an op with several families names for a problem; None when the answer is torch.

        Raises NoRowError when no row answers.
        """
        return self.picker(op).pick(shape, dtype).family

    def answered(self) -> dict[str, int]:
        """How often each loaded kernel and, per family, torch has answered."""
        out = {name: kernel.answered.value for name, kernel in self._kernels.items()}
        out.update({f"torch ({family})": count.value for family, count in self.torch_answered.items()})
        return {name: count for name, count in out.items() if count}

    def count_torch(self, family: str) -> Count:
        """The counter of problems of a family that torch answers."""
        with self._lock:
            return self.torch_answered.setdefault(family, Count())

    def unload(self) -> None:
        """Give all modules back. Launches that are under way and graphs that were captured must be done with them."""
        with self._lock:
            for module in self._modules.values():
                self.driver.unload(module)
            self._kernels, self._modules = {}, {}

    # ---- loading

    def _read_table(self, family: str) -> Picker:
        compiled = self.folder / "dispatch" / f"{family}.json"
        table = load_table(family, self.arch, compiled if compiled.is_file() else None)
        built = {name for name, entry in self.manifest.entries.items() if entry.built}
        return Picker(table, self.driver.device.cu, built)

    def _load(self, name: str) -> Kernel:
        if self.driver.capturing():
            raise LaunchError(
                f"{name} is not loaded, and nothing can be loaded while a graph is captured\n"
                "  try: kgen.warm_up() before the capture"
            )
        entry = self._entry(name)
        what = str(self.folder / (entry.path or name))
        image = entry.image(self.folder)  # checks the digest
        digest = str(entry.digest)
        spec = spec_from_name(name, self.arch)
        dynamic = self._check(spec, entry, image, what)
        module = self._modules.get(digest)
        if module is None:
            module = self._modules[digest] = self.driver.load(image, what)
        function = self.driver.function(module, entry.symbol, dynamic)
        kernel = self._kernels[name] = Kernel(spec, self.driver, function, ArgumentLayout(spec.args))
        return kernel

    def _entry(self, name: str) -> KernelEntry:
        entry = self.manifest.entries.get(name)
        if entry is None or not entry.built:
            why = "not in the manifest" if entry is None else f"its build failed: {entry.error}"
            raise CodeObjectError(
                f"{name}: no such kernel in {self.folder} ({why})\n  try: `kgen build --arch {self.arch}`"
            )
        return entry

    def _check(self, spec: KernelSpec, entry: KernelEntry, image: bytes, what: str) -> int:
        """Compare the file with the spec; answers the dynamic LDS that a launch of the kernel may ask for."""
        vendor = arch_facts(self.arch).vendor
        code = read_binary(image, what)
        code.require_arch(self.arch)
        resources = code.kernel(entry.symbol)
        problem = argument_problem(spec, resources.explicit_args, vendor)
        if problem:
            lines = "\n".join(problem.lines())
            raise CodeObjectError(f"{what}: {entry.symbol} takes other arguments than its spec\n{lines}")
        if spec.lds_expr == "0":
            return 0
        return max(0, self.driver.device.lds_per_group - resources.lds_bytes)


def _wrong_arch(folder: Path, arch: str, driver: Driver) -> WrongArchError:
    """The error for a folder of another target than the device's, with what would do."""
    cures = [f"`kgen build --arch {driver.device.arch}`"] if driver.device.arch in ARCHES else []
    if arch_facts(arch).vendor == "amd":
        cures.append(f"the emulator: kgen.load({arch!r}, device='emu')")
    hint = f"\n  try: {', or '.join(cures)}" if cures else ""
    return WrongArchError(f"{folder}: built for {arch}, the device is {driver.device}{hint}")
