"""The tensors of an adapter: whether they are whole LoRA updates, finite, trained, and fit a base."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from utils.base_models import BaseModel
from utils.console import UserError
from utils.saved_models import lora_settings, lora_targets, model_files
from utils.saved_models.lora_settings import LoraSettings

_PARTS = {"lora_A.weight", "lora_B.weight"}
_TENSOR = re.compile(r"base_model\.model\.(.+)\.(lora_A\.weight|lora_B\.weight|lora_magnitude_vector)")


def check_file(path: Path, lora: LoraSettings, dtypes: Sequence[str]) -> tuple[str, ...]:
    """The names of the layers that the file changes, in order of name; its values are read one tensor at a time.

    Raises UserError for tensors that are no whole LoRA update of the config's rank, for other dtypes, for values that
    training can't have left, and for an update that is zero everywhere.
    """
    modules = _check_headers(path, lora, dtypes)
    nonzero = {name for name, tensor in model_files.checked_tensors(path) if tensor.any()}
    if not any("lora_B" in name for name in nonzero):
        raise UserError(f"{path} was never trained: every lora_B is zero, so it changes nothing")
    prefixes = [f"base_model.model.{module}" for module in modules]
    if not any({f"{prefix}.lora_A.weight", f"{prefix}.lora_B.weight"} <= nonzero for prefix in prefixes):
        raise UserError(f"{path} changes nothing: in every layer lora_A or lora_B is zero")
    return modules


def check_fit(
    path: Path, lora: LoraSettings, modules: Sequence[str], base: BaseModel, *, every_layer: bool
) -> tuple[str, ...]:
    """Compares names and shapes with those that the settings make on the fetched base. `every_layer` says that every
    layer of `lora_targets` must be there, which is what the train scripts leave. Returns what could not be checked.

    Raises UserError for a tensor too many, missing or misshapen.
    """
    saved = {name: header.shape for name, header in model_files.headers(path).items()}
    skeleton = model_files.skeleton(base)
    layers = getattr(skeleton.config, "num_hidden_layers", 0)
    if every_layer:
        lora = msgspec.structs.replace(lora, target_modules=lora_targets.choose(skeleton))
    try:
        wanted = lora_settings.weight_shapes(lora, modules, skeleton)
    except UserError as error:
        raise UserError(f"{path.parent} does not fit {base.name}: {error}") from error
    surplus, missing = sorted(saved.keys() - wanted.keys()), sorted(wanted.keys() - saved.keys())
    if surplus:
        raise UserError(f"{path.parent} does not fit {base.name}: {surplus[0]} has no place there")
    if missing:
        raise UserError(f"{path.parent} does not fit {base.name}: {missing[0]} is missing")
    for name, shape in saved.items():
        if shape != wanted[name]:
            raise UserError(f"{path.parent} does not fit {base.name}: {name} is {shape} and not {wanted[name]}")
    changed = {number for module in modules for number in re.findall(r"\.(\d+)\.", module)[:1]}
    if len(changed) < layers:
        return (f"it changes {len(changed)} of the {layers} layers of {base.name}, as its config says",)
    return ()


def _check_headers(path: Path, lora: LoraSettings, dtypes: Sequence[str]) -> tuple[str, ...]:
    found = model_files.headers(path)
    parts: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, header in found.items():
        match = _TENSOR.fullmatch(name)
        if not match:
            raise UserError(f"{path} holds {name}, which is no LoRA weight of a linear layer and is never loaded")
        if header.dtype not in dtypes:
            raise UserError(f"{path}: {name} has dtype {header.dtype} instead of {' or '.join(dtypes)}; save it anew")
        parts.setdefault(match[1], {})[match[2]] = header.shape
    if len({header.dtype for header in found.values()}) > 1:
        raise UserError(f"{path} mixes dtypes; save it anew")
    wanted = _PARTS | {"lora_magnitude_vector"} if lora.use_dora else _PARTS
    for module, shapes in parts.items():
        if shapes.keys() != wanted:
            odd = min(shapes.keys() ^ wanted)
            raise UserError(f"{path}: {module} {'lacks' if odd in wanted else 'has a needless'} {odd}")
        first, second = shapes["lora_A.weight"], shapes["lora_B.weight"]
        if len(first) != 2 or len(second) != 2 or first[0] != second[1]:
            raise UserError(f"{path}: lora_A {first} and lora_B {second} of {module} don't make one update")
        if not lora.rank_pattern and first[0] != lora.r:
            raise UserError(f"{path}: {module} has rank {first[0]}, but the config says r {lora.r}")
    return tuple(sorted(parts))
