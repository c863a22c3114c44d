"""manifest.json: everything that a program needs to find, check and launch the kernels of a build folder, without kgen if it likes.

A manifest is content only: no date, no user, no path outside its folder. `path` is a file name beside the manifest.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kgen.errors import CodeObjectError, ManifestError

SCHEMA = 1
_FILE_NAME = r"^\w[\w.-]*$"  # beside the manifest, never elsewhere
_SHA256 = r"^[0-9a-f]{64}$"


class _Frozen(BaseModel):
    # Unknown keys are let through: a later kgen may add some without breaking this one.
    model_config = ConfigDict(frozen=True, extra="ignore")


class ManifestArg(_Frozen):
    """One kernel argument: C type, size in bytes and offset in the argument buffer; the list is in launch order."""

    name: str
    type: str
    bytes: int
    offset: int


class Grid(_Frozen):
    """Work-groups of a launch: in words, and as an expression of M, N, K and CU with ceil_div, min and max."""

    rule: str
    expr: str


class Compiler(_Frozen):
    """What compiled all kernels of the manifest."""

    flavour: str
    version: str
    identity: str
    flags: tuple[str, ...]


class KernelEntry(_Frozen):
    """One kernel of a build folder. Where `status` is "failed", everything read from a code object is None and `error` has the words.

    spec             the spec's fields; with `family` they make the spec again
    symbol           the kernel's name inside the code object
    path, digest     file name of the code object beside the manifest, and its SHA-256; file_bytes: its size
    key              digest of source, flags and compiler; source_path, source_digest: the rendered source and its SHA-256
    vgpr, agpr, sgpr, lds_bytes, scratch_bytes, vgpr_spills, sgpr_spills, kernarg_bytes, code_bytes
                     as in kgen.binary.codeobject.KernelResources; lds_bytes is static, lds_expr what a launch adds
    occupancy        waves resident on a SIMD when the kernel is launched with `block` and no dynamic LDS; whole groups only
    groups_per_cu    the same as work-groups on a CU; limited_by: what stops one more
    block            work-items of a group per dimension
    code_digest      SHA-256 of the instructions alone
    twin_of          name of the first kernel with the same instructions, resources and launch; None where this is the first
    log              file of the compiler's words, relative to the folder, or None when it had none
    """

    name: str
    family: str
    arch: str
    spec: dict[str, Any]
    symbol: str
    status: Literal["ok", "failed"]
    error: str | None = None
    log: str | None = None
    path: str | None = Field(None, pattern=_FILE_NAME)
    digest: str | None = Field(None, pattern=_SHA256)
    file_bytes: int | None = None
    key: str
    source_path: str = Field(pattern=_FILE_NAME)
    source_digest: str = Field(pattern=_SHA256)
    vgpr: int | None = None
    agpr: int | None = None
    sgpr: int | None = None
    lds_bytes: int | None = None
    scratch_bytes: int | None = None
    vgpr_spills: int | None = None
    sgpr_spills: int | None = None
    kernarg_bytes: int | None = None
    code_bytes: int | None = None
    code_digest: str | None = None
    occupancy: float | None = None
    groups_per_cu: int | None = None
    limited_by: str | None = None
    block: tuple[int, int, int]
    args: tuple[ManifestArg, ...]
    grid: Grid
    lds_expr: str
    twin_of: str | None = None

    @model_validator(mode="after")
    def _built_means_complete(self) -> KernelEntry:
        if self.status == "ok" and (self.path is None or self.digest is None):
            raise ValueError("status is ok, but path or digest is missing")
        return self

    @property
    def built(self) -> bool:
        """Whether there is a code object."""
        return self.status == "ok"

    def image(self, folder: Path) -> bytes:
        """The code object's bytes, checked against the digest.

        Raises CodeObjectError when the kernel was not built, or its file is missing, truncated or altered.
        """
        cure = f"`kgen build --arch {self.arch}` makes it again"
        if self.path is None:
            raise CodeObjectError(f"{self.name}: not built for {self.arch}: {self.error}; {cure}")
        path = Path(folder) / self.path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CodeObjectError(f"{path}: cannot be read: {error.strerror}; {cure}") from error
        if hashlib.sha256(data).hexdigest() == self.digest:
            return data
        if self.file_bytes is not None and len(data) != self.file_bytes:
            raise CodeObjectError(
                f"{path}: {len(data)} bytes, {self.file_bytes} were built: truncated or altered; {cure}"
            )
        raise CodeObjectError(f"{path}: altered since it was built (its SHA-256 is another); {cure}")


class Manifest(_Frozen):
    """The kernels of one target's build folder, sorted by name; `compiler` made all of them."""

    schema_: Literal[1] = Field(alias="schema")
    arch: str
    compiler: Compiler
    kernels: tuple[KernelEntry, ...]

    @model_validator(mode="after")
    def _one_entry_per_name(self) -> Manifest:
        names = [entry.name for entry in self.kernels]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"listed twice: {', '.join(twice)}")
        stray = [entry.name for entry in self.kernels if entry.arch != self.arch]
        if stray:
            raise ValueError(f"kernels for another target than {self.arch}: {', '.join(stray)}")
        return self

    @cached_property
    def entries(self) -> dict[str, KernelEntry]:
        """The kernels by name, failed ones included."""
        return {entry.name: entry for entry in self.kernels}

    def dump(self) -> bytes:
        """The file's content."""
        return (self.model_dump_json(by_alias=True, indent=1) + "\n").encode()


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest of a build folder; the files it names are checked one by one when they are loaded (`KernelEntry.image`).

    Raises ManifestError: missing, unreadable, truncated, altered, or written by another version; it says what to do.
    """
    path = Path(folder) / "manifest.json"
    cure = f"`kgen build --arch {Path(folder).name}` makes it"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ManifestError(f"{path}: not there, so nothing is built; {cure}") from error
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_manifest(data, str(path), f"{cure} again and keeps what is whole")


def parse_manifest(data: bytes, where: str, cure: str) -> Manifest:
    """A manifest from a file's content; raises ManifestError with `where` and `cure` in its words."""
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise ManifestError(f"{where}: {_words(error)}; {cure}") from error


def _words(error: ValidationError) -> str:
    """What is wrong with a manifest, in one line: the file's form first, then its version, then the first bad field."""
    problems = error.errors(include_url=False)
    for problem in problems:
        if problem["type"] == "json_invalid":
            return f"damaged: {problem['ctx']['error']}"
    for problem in problems:
        if problem["loc"][:1] == ("schema",):
            if problem["type"] == "missing":
                return "not a manifest: it has no schema"
            return f"schema {problem['input']!r}, this kgen reads schema {SCHEMA}"
    first = problems[0]
    place = ".".join(map(str, first["loc"])) or "manifest"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"damaged: {place}: {first['msg']}{more}"
