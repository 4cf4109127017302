"""The schema of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True)
class EvaluationSettings:
    """What to test, on what, how replies are drawn, and where the findings go."""

    adapter: Annotated[
        str,
        Meta(
            min_length=1, description="An adapter's folder, a merged model's, or a plain base by hub id or `starter`."
        ),
    ] = "models/tinyllama-finetuned"
    base_model: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="Hub id, folder or `starter`; none takes the one that the adapter was trained on."),
    ] = None
    test_file: Annotated[
        Path | None, Meta(description="Held-out records; none takes test.jsonl of the data that it was trained on.")
    ] = None
    train_file: Annotated[
        Path | None, Meta(description="What it was trained on, for the leak test; none takes train.jsonl beside them.")
    ] = None
    output_dir: Annotated[
        Path | None, Meta(description="For evaluation.json and evaluation.html; none takes the tested folder.")
    ] = None
    quantization: Annotated[
        Literal["nf4", "int8", "none"] | None, Meta(description="The base's weights; none does as training did.")
    ] = None
    device: Annotated[
        Literal["auto", "cuda", "mps", "cpu"], Meta(description="Where to run; auto takes the fastest there is.")
    ] = "auto"

    quick: Annotated[bool, Meta(description="An answer within a minute: less of everything, no leak test.")] = False
    chat: Annotated[bool, Meta(description="Talk to the model in the terminal instead of testing it.")] = False
    web: Annotated[bool, Meta(description="A local chat page, base and tuned side by side, instead of a test.")] = False
    show_text: Annotated[bool, Meta(description="Show the text of training replies that it repeats.")] = False
    system: Annotated[str | None, Meta(description="A chat's system prompt; none takes that of the records.")] = None

    records: Annotated[int, Meta(ge=1, description="Held-out replies scored at most, the same ones each time.")] = 200
    prompts: Annotated[int, Meta(ge=1, description="Held-out messages answered by both models.")] = 50
    training_records: Annotated[
        int, Meta(ge=0, description="Training replies that the leak test looks at; 0 leaves it out.")
    ] = 200
    candidates: Annotated[int, Meta(ge=2, description="Replies that a true one is ranked among, itself included.")] = 10
    wrong_contexts: Annotated[
        int, Meta(ge=1, description="Other conversations' contexts that a reply's own is compared with.")
    ] = 4
    canaries: Annotated[
        Path | None, Meta(description="Canaries planted before training, to measure how exposed they are.")
    ] = None
    max_new_tokens: Annotated[int, Meta(ge=1, description="A reply's length limit.")] = 64
    temperature: Annotated[float, Meta(ge=0, description="0 takes the likeliest token; higher varies more.")] = 0.7
    top_p: Annotated[float, Meta(gt=0, le=1, description="Draw from the likeliest tokens with this mass.")] = 0.9
    batch_size: Annotated[int, Meta(ge=1, description="Replies generated at once at most.")] = 32
    max_length_tokens: Annotated[int, Meta(ge=32, description="Longer prompts lose their oldest turns.")] = 512
    seed: Annotated[int, Meta(ge=0, description="Fixes the choice of records and the drawn replies.")] = 42


def shortened(settings: EvaluationSettings) -> EvaluationSettings:
    """The same evaluation with less of everything, for `--quick`."""
    return replace(
        settings,
        records=min(settings.records, 30),  # fewer conversations than that support no verdict
        prompts=min(settings.prompts, 4),
        candidates=min(settings.candidates, 3),
        wrong_contexts=1,
        max_length_tokens=min(settings.max_length_tokens, 256),
        max_new_tokens=min(settings.max_new_tokens, 24),
        training_records=0,
    )
