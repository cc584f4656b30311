"""The settings of a DiT: what each allows, which fit each other, and which inputs they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from diffjax.checks import at_least, one_of, positive
from diffjax.nets.conditions import Condition, Conditions, settled

if TYPE_CHECKING:
    from diffjax.nets.dit import DiT


def products(primitive: Any, *_: Any, **__: Any) -> bool:
    """Return whether a value is saved for the backward pass, as it is slower to recompute."""
    return primitive.name in ("dot_general", "attention")


POLICIES = {
    "": products,
    "all": jax.checkpoint_policies.nothing_saveable,
    "cheap": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
MECHANISMS = {
    "full": ("embedding", "joint", "cross", "beside", "time"),
    "factorised": ("embedding", "beside", "time", "apart"),
}
"""The mechanisms of conditions by the form of the attention."""
POSITIONS = ("sincos", "rotary", "learned", "none")


def check(module: DiT) -> None:
    """Raise ValueError for settings that do not fit each other."""
    one_of(POSITIONS, positions=module.positions)
    positive(stretch=module.stretch, **{f"cover[{i}]": n for i, n in enumerate(module.cover)})
    one_of(POLICIES, remat=module.remat)
    if module.attention == "factorised":
        _fits_factorised(module)
    at_least(2 if module.long_skips else 1, depth=module.depth)
    at_least(0, waves=module.waves)
    further = {name: getattr(module, name) for name in ("dual", "single")}
    at_least(0, **further)
    joint, depth = bool(module.conditions.by("joint")), module.depth
    shared = module.settings.modulation == "shared"
    if shared and joint:
        raise ValueError("modulation='shared': not with tokens by joint attention; allowed: 'own'")
    for name, n in further.items():
        if n and (module.long_skips or shared):
            raise ValueError(f"{name}={n}: not with long_skips=True or modulation='shared'")
    if module.dual + module.single > depth - (joint and not module.single):
        asked = ", ".join(f"{name}={n}" for name, n in further.items() if n)
        raise ValueError(f"{asked}: more than the blocks of depth={depth} before the last one")
    if module.single and module.conditions.by("cross"):
        raise ValueError(f"single={module.single}: not with tokens by cross-attention")
    learned, head = module.positions == "learned", module.settings.width // module.settings.heads
    if (module.side < 1) == learned:
        raise ValueError(f"side={module.side} with positions={module.positions!r}: needs both")
    odd = any(n < 0 or n % 2 for n in module.axes) or sum(module.axes) != head
    if module.axes and (odd or module.positions != "rotary"):
        raise ValueError(
            f"axes={module.axes} with positions={module.positions!r}: needs 'rotary' and even "
            f"numbers whose sum is the width {head} of a head"
        )


def settled_for(attention: str, conditions: tuple[Condition, ...]) -> Conditions:
    """Return the conditions with the mechanisms that this form of attention supports."""
    one_of(MECHANISMS, attention=attention)
    return settled(conditions, "dit", MECHANISMS[attention])


def _fits_factorised(module: DiT) -> None:
    """Raise ValueError for settings that a network with factorised attention does not have."""
    if module.depth % 2:
        raise ValueError(
            f"depth={module.depth} with attention='factorised': needs an even number, of blocks "
            f"over space and over time in turn"
        )
    not_with = {"dual": 0, "single": 0, "long_skips": False, "axes": ()}
    taken = {name: getattr(module, name) for name in not_with}
    if other := [name for name, off in not_with.items() if taken[name] != off]:
        name = other[0]
        raise ValueError(
            f"{name}={taken[name]!r}: not with attention='factorised'; allowed: {not_with[name]!r}"
        )
    if module.positions == "learned":
        raise ValueError(
            "positions='learned': not with attention='factorised'; allowed: sincos, rotary, none"
        )


def sides_of(module: DiT, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sides of a patch along each axis of the grid of an input of this shape.

    Raises ValueError for inputs that do not fit the settings.
    """
    if module.attention == "factorised" and len(shape) != 5:
        raise ValueError(
            f"dit with attention='factorised' and input {shape}: needs (B, T, H, W, C)"
        )
    if not 3 <= len(shape) <= 5:
        raise ValueError(
            f"dit with input {shape}: needs (B, L, C), (B, H, W, C) or (B, T, H, W, C)"
        )
    sides = (module.patch_time, module.patch, module.patch)[5 - len(shape) :]
    sides = (module.patch,) if len(shape) == 3 else sides
    names = ("T", "H", "W")[5 - len(shape) :] if len(shape) > 3 else ("L",)
    for name, n, side in zip(names, shape[1:], sides, strict=False):
        if n % side:
            setting = "patch_time" if name == "T" else "patch"
            raise ValueError(
                f"dit with {setting}={side} and input {shape}: needs {name} divisible by {side}"
            )
    if module.axes and len(module.axes) < len(sides):
        asked = f"dit with axes={module.axes} and input {shape}"
        raise ValueError(f"{asked}: needs {len(sides)} of them or more")
    rotary = module.positions == "rotary"
    width, heads = module.settings.width, module.settings.heads
    features = width // (heads if rotary else 1)
    if module.positions != "none" and (features % 2 or features < 2 * len(sides)):
        raise ValueError(
            f"positions={module.positions!r} on {len(sides)} axes with width={width}, "
            f"heads={heads}: needs an even number of features"
            f"{' per head' if rotary else ''}, two per axis; there are {features}"
        )
    return sides


def resized(module: DiT, before: tuple[int, ...], after: tuple[int, ...]) -> dict[str, Any]:
    """Return the settings with which positions mean the same for items of another shape.

    Positions `sincos` of images cover the grid of training (PixArt, arXiv:2403.04692), and items of
    one axis have any length where the network knows neither positions nor the length. Raises
    ValueError for a shape that the network is not defined for.
    """
    if len(after) == 2 and (module.positions != "none" or module.patch != 1):
        asked = f"positions={module.positions!r}, patch={module.patch}"
        raise ValueError(
            f"{asked}: the network has a fixed size; allowed: positions='none', patch=1"
        )
    grids = [
        tuple(n // p for n, p in zip(shape, sides_of(module, (1, *shape)), strict=False))
        for shape in (before, after)
    ]
    if module.positions == "learned" and any(n > module.side for n in grids[1]):
        most = module.side * module.patch
        raise ValueError(
            f"items {after}: the network has learned {module.side} positions along each side; "
            f"needs sides up to {most}"
        )
    return {"cover": module.cover or grids[0]} if module.positions == "sincos" else {}
