"""Problem sizes: what a caller brings, as opposed to what a kernel was compiled for."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from kgen.errors import Problem


def ceil_div(a: int, b: int) -> int:
    """The smallest integer at or above a / b, for positive b."""
    return -(-a // b)


@dataclass(frozen=True)
class Workspace:
    """Bytes of scratch memory that a launch needs: fp32 partial sums, and arrival counters that are zero before and after."""

    partial_bytes: int
    counter_bytes: int

    def beyond_slot(self, fields: tuple[str, ...], cure: str) -> Problem | None:
        """Why the slot of a stream does not hold this, or None."""
        if self.partial_bytes <= SLOT.partial_bytes and self.counter_bytes <= SLOT.counter_bytes:
            return None
        found = f"{self.partial_bytes} bytes of partial sums and {self.counter_bytes} of counters"
        allowed = f"at most {SLOT.partial_bytes} and {SLOT.counter_bytes}, the workspace of a stream"
        return Problem(fields, found, allowed, cure)


SLOT = Workspace(6 << 20, 64 << 10)
"""What the runtime keeps for one stream; a launch that needs more does not fit. 6 MiB of sums are as many as vLLM's slots hold."""


@dataclass(frozen=True)
class GemmShape:
    """out[N, M] = act[N, K] @ weight[M, K].T: M output features, N activation rows, K reduction."""

    M: int
    N: int
    K: int

    @property
    def traits(self) -> dict[str, int | bool]:
        """What kernels are compiled for besides type and sizes, by name: the family's `traits`, in that order."""
        return {}

    @property
    def refusal(self) -> Problem | None:
        """Why sizes that are each right make no problem together, or None."""
        return None

    @property
    def weights_read(self) -> int:
        """How many matrices of M times K a problem multiplies by."""
        return 1

    @property
    def act_rows(self) -> int:
        """Rows of K activations that a problem reads."""
        return self.N

    @property
    def out_rows(self) -> int:
        """Rows of M outputs that a problem writes."""
        return self.N


@dataclass(frozen=True)
class W4Shape(GemmShape):
    """The same on 4-bit weights: GROUP_SIZE elements of K share a scale, and with HAS_ZP a zero point."""

    GROUP_SIZE: int = 128
    HAS_ZP: bool = False

    @property
    def traits(self) -> dict[str, int | bool]:
        """GROUP_SIZE and HAS_ZP."""
        return {"GROUP_SIZE": self.GROUP_SIZE, "HAS_ZP": self.HAS_ZP}


@dataclass(frozen=True)
class DequantizeShape(W4Shape):
    """4-bit weights [M, K] that are to be written out. Nothing is multiplied by them, so N says nothing, and is 1."""

    @property
    def act_rows(self) -> int:
        return 0

    @property
    def out_rows(self) -> int:
        return self.K


@dataclass(frozen=True)
class Code4Shape(GemmShape):
    """The same on bitsandbytes' 4-bit codes, NF4 or FP4. GROUP_SIZE is the blocksize or, for longer blocks, 128; NESTED: absmax is quantised too."""

    GROUP_SIZE: int = 64
    FP4: bool = False
    NESTED: bool = False

    @property
    def traits(self) -> dict[str, int | bool]:
        """GROUP_SIZE, FP4 and NESTED."""
        return {"GROUP_SIZE": self.GROUP_SIZE, "FP4": self.FP4, "NESTED": self.NESTED}


@dataclass(frozen=True)
class MoeShape(W4Shape):
    """The same for every expert of a mixture: M output features of one expert, N rows of a block, K.

    experts  weights there are, E
    top_k    slots of a token: a slot is one token at one of its experts
    tokens   rows of activations before they are spread over slots
    blocks   expert blocks of a launch, N slots of one expert each; those that hold nothing are found on the device
    """

    _: KW_ONLY
    experts: int = 1
    top_k: int = 1
    tokens: int = 1
    blocks: int = 1

    @property
    def slots(self) -> int:
        """Pairs of a token and an expert."""
        return self.tokens * self.top_k

    @property
    def refusal(self) -> Problem | None:
        if 1 <= self.top_k <= self.experts:
            return None
        return Problem(("top_k", "experts"), f"{self.top_k} of {self.experts}", "1 to experts: those of a token differ")


@dataclass(frozen=True)
class MoeGemmShape(MoeShape):
    """Either GEMM of a mixture over blocks of N sorted slots. SILU: M gates and M rows that they gate."""

    SILU: bool = False

    @property
    def traits(self) -> dict[str, int | bool]:
        """Those of the weights, and SILU."""
        return {**super().traits, "SILU": self.SILU}

    @property
    def refusal(self) -> Problem | None:
        if self.blocks * self.N >= self.slots:
            return super().refusal
        found = f"{self.blocks} of {self.N} slots for {self.tokens} tokens at {self.top_k} experts"
        return Problem(("blocks", "N", "tokens", "top_k"), found, f"at least {ceil_div(self.slots, self.N)} blocks")

    @property
    def weights_read(self) -> int:
        """One for every expert that can have a slot, two with SILU."""
        return min(self.experts, self.slots, self.blocks) * (2 if self.SILU else 1)

    @property
    def act_rows(self) -> int:
        return self.tokens

    @property
    def out_rows(self) -> int:
        return self.slots


@dataclass(frozen=True)
class MoeUpShape(MoeGemmShape):
    """The first GEMM of a mixture on blocks of few slots. RANK: experts come as the router's logits, not as lists."""

    RANK: bool = False

    @property
    def traits(self) -> dict[str, int | bool]:
        """Those of the weights, SILU and RANK."""
        return {**super().traits, "RANK": self.RANK}


@dataclass(frozen=True)
class MoeDownShape(MoeShape):
    """The second GEMM of a mixture. FUSE_SILU: activations are gates and what they gate."""

    FUSE_SILU: bool = False

    @property
    def traits(self) -> dict[str, int | bool]:
        """Those of the weights, and FUSE_SILU."""
        return {**super().traits, "FUSE_SILU": self.FUSE_SILU}

    @property
    def weights_read(self) -> int:
        """One for every expert that can have a slot."""
        return min(self.experts, self.slots)

    @property
    def act_rows(self) -> int:
        """One of every slot, two with FUSE_SILU."""
        return self.slots * (2 if self.FUSE_SILU else 1)

    @property
    def out_rows(self) -> int:
        return self.tokens
