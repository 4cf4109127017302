"""The part of an adapter_config.json that plain LoRA, rsLoRA and DoRA need. Everything else must be off: peft's many
other settings import modules by name, unpickle files, replace or shift weights of the base."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from utils.console import UserError

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel

Rank = Annotated[int, Meta(ge=1, le=65_536)]
Alpha = Annotated[float, Meta(gt=0, le=1e6)]

# Kept by peft for people or for training; loading a finished adapter does not depend on them.
INFORMATION = {"base_model_name_or_path", "inference_mode", "lora_dropout", "peft_version", "revision"}

_PLAIN_KEY = re.compile(r"\^?[\w.\\]+\$?")


class LoraSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults are peft's. `init_lora_weights` may not be a start that alters the base, such as PiSSA's."""

    peft_type: Literal["LORA"]
    task_type: Literal["CAUSAL_LM"]
    r: Rank = 8
    lora_alpha: Alpha = 8
    target_modules: str | list[str] | None = None
    exclude_modules: str | list[str] | None = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: str | list[str] | None = None
    rank_pattern: dict[str, Rank] = {}
    alpha_pattern: dict[str, Alpha] = {}
    use_rslora: bool = False
    use_dora: bool = False
    fan_in_fan_out: bool = False
    init_lora_weights: bool | Literal["gaussian", "orthogonal", "eva"] = True

    @property
    def chosen_by_pattern(self) -> bool:
        """Whether regular expressions choose the layers. They are never run: a malicious one takes for ever."""
        named = self.target_modules == "all-linear" or not isinstance(self.target_modules, str)
        return not named or isinstance(self.exclude_modules, str) or bool(self.layers_pattern)

    def for_peft(self, modules: Iterable[str]) -> LoraConfig:
        """A fresh configuration of these settings alone; patterns are replaced by the layers' names, `modules`."""
        from peft import LoraConfig

        chosen = (
            {"target_modules": sorted(modules)}
            if self.chosen_by_pattern
            else {
                "target_modules": self.target_modules,
                "exclude_modules": self.exclude_modules,
                "layers_to_transform": self.layers_to_transform,
            }
        )
        return LoraConfig(
            task_type=self.task_type,
            inference_mode=True,
            r=self.r,
            lora_alpha=self.lora_alpha,
            rank_pattern=dict(self.rank_pattern),
            alpha_pattern=dict(self.alpha_pattern),
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            fan_in_fan_out=self.fan_in_fan_out,
            **chosen,
        )


def read(config: Mapping[str, Any], path: Path) -> LoraSettings:
    """The settings in `config`, the content of `path`. Raises UserError for what is not plain LoRA."""
    from peft import LoraConfig

    if config.get("peft_type") != "LORA" or config.get("task_type") != "CAUSAL_LM":
        raise UserError(f"{path} is not LoRA for a causal language model")
    defaults = LoraConfig().to_dict()
    for key, value in config.items():
        if key in LoraSettings.__struct_fields__ or key in INFORMATION or not value or value == defaults.get(key):
            continue
        raise UserError(f"{path} sets {key}, which is never loaded: only LoRA, rsLoRA and DoRA on linear layers are")
    try:
        settings = msgspec.convert({name: value for name, value in config.items() if value is not None}, LoraSettings)
    except msgspec.ValidationError as error:
        raise UserError(f"{path} is no LoRA configuration: {error}") from None
    for key in (*settings.rank_pattern, *settings.alpha_pattern):
        if not _PLAIN_KEY.fullmatch(key):
            raise UserError(f"{path} gives layers another rank or alpha by the pattern {key!r}; only names are read")
    return settings


def weight_shapes(
    settings: LoraSettings, modules: Iterable[str], skeleton: PreTrainedModel
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that an adapter with these settings has on this model; `skeleton` has no weights
    and is changed. Raises UserError when the settings don't fit it."""
    from peft import get_peft_model, get_peft_model_state_dict

    try:
        adapted = get_peft_model(skeleton, settings.for_peft(modules), low_cpu_mem_usage=True)
    except (ValueError, TypeError, AttributeError) as error:  # what peft raises for layers that are not there
        raise UserError(" ".join(str(error).split())[:200]) from error
    weights = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}
