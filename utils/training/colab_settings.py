"""The schema of train_colab.py: a training run, and where its data comes from and its results go."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from utils.training.settings import TrainingSettings


@dataclass(frozen=True)
class ColabSettings(TrainingSettings):
    """A training run with the steps around it: getting the project, preparing the data, keeping the results."""

    repository: Annotated[
        str | None, Meta(description="Address of the project's git repository, for a notebook opened on its own.")
    ] = None
    drive_folder: Annotated[
        str | None, Meta(description="Folder in My Drive for uploads, checkpoints and adapter; none uses no Drive.")
    ] = None
    source: Annotated[
        str | None,
        Meta(description="Discord history to prepare, or `upload`; none when DATA_DIR holds prepared records."),
    ] = None
    persona: Annotated[str | None, Meta(description="Who the model learns to answer like: a user id or a name.")] = None
    prepare_flags: Annotated[
        tuple[str, ...], Meta(description="More flags for prepare_training_data.py, if there is a source.")
    ] = ()
    test_flags: Annotated[tuple[str, ...], Meta(description="More flags for test_model_loading.py.")] = ()

    @property
    def training(self) -> TrainingSettings:
        """The run alone, which is what a checkpoint is compared by and what the manifest holds: no source, no name."""
        fields = dataclasses.fields(TrainingSettings)
        return TrainingSettings(**{field.name: getattr(self, field.name) for field in fields})
