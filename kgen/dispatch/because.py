"""Where a row comes from: measured, published, modelled, or nothing better known. Each kind has the evidence it must show."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

DIGEST_LENGTH = 12  # hex digits of a source digest as tables write it

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{6,64}$")]
Words = Annotated[str, Field(min_length=4)]


class _Evidence(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    why: Annotated[str, Field(description="reasons, in a sentence")] = ""


class Measured(_Evidence):
    """Timed here: what was gained over what, in how many interleaved pairs, where and when, with which kernel source."""

    kind: Literal["measured"]
    gain: Annotated[Words, Field(description="time saved, with its interval: +8.1 % [6.9, 9.3]")]
    over: Annotated[str, Field(min_length=1, description="what it was compared with: torch, or a kernel")]
    pairs: Annotated[int, Field(ge=1, description="interleaved runs of this and the other")]
    shapes: Annotated[int, Field(ge=1, description="shapes in the row's range that were timed")]
    device: Annotated[Words, Field(description="the device that ran it")]
    date: Annotated[datetime.date, Field(description="day of the measurement")]
    source: Annotated[Digest, Field(description="digest of the kernels' source as it was timed")]

    def words(self) -> str:
        """The evidence as `explain` says it."""
        many = "one shape" if self.shapes == 1 else f"{self.shapes} shapes"
        head = f"measured over {many} in this range: {self.gain} against {self.over}, {self.pairs} pairs"
        return f"{head}, on {self.device}, {self.date.isoformat()}"


class Published(_Evidence):
    """Somebody else's choice or measurement, made public; not timed here."""

    kind: Literal["published"]
    source: Annotated[str, Field(min_length=8, description="where it was published, so that a reader can find it")]
    gain: Annotated[str, Field(description="what the source says was gained")] = ""
    over: Annotated[str, Field(description="over what, says the source")] = ""
    shapes: Annotated[str, Field(description="shapes that the source names")] = ""
    device: Annotated[str, Field(description="device of the source")] = ""
    date: Annotated[datetime.date | None, Field(description="day of the publication")] = None

    def words(self) -> str:
        """The evidence as `explain` says it."""
        gain = f": {self.gain}" if self.gain else ""
        over = f" against {self.over}" if self.over else ""
        shapes = f" ({self.shapes})" if self.shapes else ""
        device = f", on {self.device}" if self.device else ""
        return f"published in {self.source}{gain}{over}{shapes}{device}; not measured here"


class Model(_Evidence):
    """Ranked without a device: static report, emulator counts and the target's roofline."""

    kind: Literal["model"]
    source: Annotated[Digest, Field(description="digest of the kernels' source as it was modelled")]
    gain: Annotated[str, Field(description="what the model expects to gain")] = ""
    over: Annotated[str, Field(description="over what")] = ""
    shapes: Annotated[int, Field(ge=1, description="shapes that were modelled")] = 1
    date: Annotated[datetime.date | None, Field(description="day the model ran")] = None

    def words(self) -> str:
        """The evidence as `explain` says it."""
        gain = f": {self.gain} against {self.over}" if self.gain and self.over else ""
        return f"by the model, over {self.shapes} shapes{gain}; not measured"


class Default(_Evidence):
    """Nothing better is known; `why` says what the choice rests on."""

    kind: Literal["default"]
    why: Annotated[Words, Field(description="reasons, in a sentence")]

    def words(self) -> str:
        """The evidence as `explain` says it."""
        return "default, not measured"


Because = Measured | Published | Model | Default
KINDS: dict[str, type[Measured] | type[Published] | type[Model] | type[Default]] = {
    "measured": Measured,
    "published": Published,
    "model": Model,
    "default": Default,
}


def evidence_digest(digests: Sequence[str]) -> str:
    """What `because.source` holds for a row of kernels with these source digests: of one kernel its own, of several a digest of all."""
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return whole[:DIGEST_LENGTH]
