"""What a checkpoint holds, compared with what the model needs, before any of it is used.

The libraries that read checkpoints draw what is missing at random, pass over what is left, stretch position embeddings
of another size, and take integers for numbers. Here each of these is an error.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lntune.errors import UserError

_FLOATS = {"F16", "BF16", "F32", "F64"}
"""The types of weights, as safetensors calls them. Narrower ones need scales that nothing here reads."""


def check(
    files: Sequence[Path], needed: Mapping[str, Any], remedy: str, used: Callable[[str], bool] = lambda name: True
) -> None:
    """UserError unless these safetensors files together hold the needed tensors in floating point, and no others.

    Only headers are read, and only names that are ``used`` are looked at, on both sides.
    """
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    off: dict[str, list[str]] = {"holds no floats in": []}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
                for name in filter(used, file.keys()):
                    tensor = file.get_slice(name)
                    shapes[name] = tuple(tensor.get_shape())
                    if tensor.get_dtype() not in _FLOATS:
                        off["holds no floats in"].append(f"{name} ({tensor.get_dtype()})")
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path}: is not a whole safetensors file ({error}); get it again") from None
    wanted = {name: tuple(tensor.shape) for name, tensor in needed.items() if used(name)}
    off["lacks"] = sorted(wanted.keys() - shapes.keys())
    off["holds what the model has no place for:"] = sorted(shapes.keys() - wanted.keys())
    both = sorted(wanted.keys() & shapes.keys())
    off["has other shapes:"] = [f"{one} {shapes[one]}, not {wanted[one]}" for one in both if shapes[one] != wanted[one]]
    if found := [f"{what} {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for what, names in off.items() if names]:
        raise UserError(f"{files[0] if len(files) == 1 else files[0].parent}: {'; '.join(found)}; {remedy}")
