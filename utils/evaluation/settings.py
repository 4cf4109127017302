"""The schema of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True)
class EvaluationSettings:
    """What to test, on what, and how replies are drawn."""

    adapter: Annotated[Path, Meta(description="The adapter's folder, as a train script left it.")] = Path(
        "models/tinyllama-finetuned"
    )
    base_model: Annotated[
        str | None, Meta(description="Hub id, folder or `starter`; none takes the one that the adapter was trained on.")
    ] = None
    test_file: Annotated[Path, Meta(description="Held-out records.")] = Path("data/processed/test.jsonl")
    quantization: Annotated[
        Literal["nf4", "int8", "none"] | None, Meta(description="The base's weights; none does as training did.")
    ] = None
    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"], Meta(description="Where to run; auto takes the fastest there is.")
    ] = "auto"

    records: Annotated[int, Meta(ge=1, description="Held-out records scored at most, the same ones each time.")] = 200
    prompts: Annotated[int, Meta(ge=1, description="Held-out messages answered by base and tuned model.")] = 3
    max_new_tokens: Annotated[int, Meta(ge=1, description="A reply's length limit.")] = 64
    temperature: Annotated[float, Meta(ge=0, description="0 takes the likeliest token; higher varies more.")] = 0.7
    top_p: Annotated[float, Meta(gt=0, le=1, description="Draw from the likeliest tokens with this mass.")] = 0.9
    max_length_tokens: Annotated[int, Meta(ge=32, description="Longer prompts lose their oldest turns.")] = 512
    seed: Annotated[int, Meta(ge=0, description="Fixes the choice of records and the drawn replies.")] = 42
