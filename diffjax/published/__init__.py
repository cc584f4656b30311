"""Published networks as ours: one file per code base, from tensors by name to parameters."""

from diffjax.io.contents import Contents
from diffjax.published import diffusers, dit, edm, edm2, guided, score_sde
from diffjax.published.family import Converted, Family

FAMILIES = {
    "diffusers": Family(diffusers.convert, diffusers.recognises),
    "dit": Family(dit.dit, dit.recognises),
    "sit": Family(dit.sit, dit.recognises),
    "edm": Family(edm.convert, edm.recognises),
    "edm2": Family(edm2.convert, edm2.recognises),
    "guided": Family(guided.convert, guided.recognises),
    "score_sde": Family(score_sde.convert, score_sde.recognises),
}

__all__ = ["FAMILIES", "Converted", "Family", "recognised"]


def recognised(contents: Contents) -> str:
    """The family of these contents. ValueError where it is none, or not one."""
    found = [name for name, family in FAMILIES.items() if family.recognises(contents)]
    if len(found) == 1:
        return found[0]
    some = ", ".join(sorted(contents.tensors)[:4])
    raise ValueError(
        f"family: {' or '.join(found) or 'none'} by its tensors ({some}, ...); "
        f"say which: {', '.join(FAMILIES)}"
    )
