"""The schema of an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True)
class ExportSettings:
    """Which training's result becomes what, and on what it is measured again."""

    adapter: Annotated[
        Path, Meta(description="What a train script left: an adapter's folder, or a full fine-tune's.")
    ] = Path("models/tinyllama-finetuned")
    to: Annotated[
        Literal["merged", "gguf", "ollama"],
        Meta(description="One float16 model, one GGUF file for llama.cpp, or that file with a Modelfile for Ollama."),
    ] = "merged"
    output_dir: Annotated[
        Path | None, Meta(description="Where it lands; none is beside the adapter, as ADAPTER-merged and so on.")
    ] = None
    overwrite: Annotated[bool, Meta(description="Replace an earlier export in the output folder.")] = False
    gguf_type: Annotated[
        Literal["f16", "q8_0"], Meta(description="Numbers in a GGUF file: 16 bits, or 8 bits at half the size.")
    ] = "q8_0"
    system_prompt: Annotated[
        str | None, Meta(description="For Ollama and llama.cpp; none takes the one of the held-out records.")
    ] = None

    base_model: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="An adapter's base: hub id, folder or `starter`; none takes that of its training."),
    ] = None
    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"], Meta(description="Where to merge and measure; auto takes the fastest.")
    ] = "auto"
    test_file: Annotated[
        Path | None, Meta(description="Held-out records to measure it on; none takes those of the training's data.")
    ] = None
    records: Annotated[int, Meta(ge=1, description="Held-out records scored at most, the same ones each time.")] = 20
    max_length_tokens: Annotated[int, Meta(ge=32, description="Longer records lose their oldest turns.")] = 512
    seed: Annotated[int, Meta(ge=0, description="Fixes the choice of records.")] = 42

    @property
    def destination(self) -> Path:
        return self.output_dir or self.adapter.with_name(f"{self.adapter.name}-{self.to}")
