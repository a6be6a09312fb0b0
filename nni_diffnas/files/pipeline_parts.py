"""Parts of a diffusers pipeline folder: found in the variant that is there, and refused where weights do not fit."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..api.errors import JobError

if TYPE_CHECKING:
    import torch

__all__ = [
    "check_parts",
    "load_part",
    "name_plainly",
    "read_index",
    "refuse_links",
    "silent_diffusers",
    "tell_of_code",
    "variant_of",
]

WRAPPERS = {
    "_orig_mod.": "torch.compile wraps a network so: save the one inside, model._orig_mod",
    "module.": "DataParallel wraps a network so: save the one inside, model.module",
    "model.": "a Lightning module wraps a network so: save the one inside",
}
"""Prefixes of all keys, by which one sees what was saved instead of the network; others are of wrappers unknown."""


def variant_of(folder: Path) -> str | None:
    """Variant (``fp16``, say) of the weights in a pipeline or one of its parts; ``None`` where there are plain ones."""
    found: set[str] = set()
    for file in (*folder.glob("*"), *folder.glob("*/*")):
        if file.suffix in (".safetensors", ".bin"):
            inner = file.stem.split(".")[1:]
            if not inner:
                return None
            found.add(inner[0].split("-")[0])
    return min(found, default=None)


def name_plainly(folder: Path) -> None:
    """Give the weights of a pipeline's parts that are there as a variant alone the names of plain ones.

    One part of a pipeline without a variant (a UNet that was put into it, say) makes diffusers want all parts so.
    """
    for part in folder.iterdir():
        variant = variant_of(part) if part.is_dir() else None
        if variant is None:
            continue
        for file in part.iterdir():
            plain = file.name.replace(f".{variant}.", ".").replace(f".{variant}-", "-")
            if plain != file.name:
                if file.suffix == ".json":  # the list of shards names them, too
                    text = file.read_text(encoding="utf-8")
                    file.write_text(text.replace(f".{variant}-", "-"), encoding="utf-8")
                file.rename(part / plain)


def read_index(folder: Path) -> dict[str, Any]:
    """``model_index.json`` of a pipeline folder, whose parts lie within it.

    Raises:
        JobError: there is none, it is no JSON object, or it names a part that lies elsewhere.
    """
    file = folder / "model_index.json"
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise JobError(f"{str(file)!r} cannot be read ({error}): give the folder of a diffusers pipeline.") from error
    if not isinstance(index, dict):
        raise JobError(f"{str(file)!r} holds no object: give the folder of a diffusers pipeline.")
    for name, entry in index.items():
        names = [name, *(part for part in (entry if isinstance(entry, list) else [entry]) if isinstance(part, str))]
        if odd := next((part for part in names if "/" in part or "\\" in part or part in (".", "..")), None):
            if name.startswith("_") and not isinstance(entry, list):  # such as _name_or_path
                continue
            raise JobError(f"{str(file)!r} names {odd!r}, which lies outside the pipeline: get it from who made it.")
    return index


def refuse_links(folder: Path) -> None:
    """Refuse a pipeline that is to be copied and holds a link to something that is no part of it.

    Hugging Face's cache keeps the files of a pipeline in ``blobs`` beside its ``snapshots``: these are a part.

    Raises:
        JobError: as said; the link is named.
    """
    own = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        own.append(folder.resolve().parents[1] / "blobs")
    for path in folder.rglob("*"):
        if path.is_symlink() and not any(path.resolve().is_relative_to(place) for place in own):
            raise JobError(
                f"{str(path)!r} is a link out of its pipeline to {str(path.resolve())!r}: if it is a part, put a copy "
                f"in its place."
            )


def tell_of_code(folder: Path, trust: bool) -> None:
    """Say that Python files of a pipeline may run, where it has some and that was allowed."""
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.py")) if trust else []
    if files:
        print(
            f"nni-diffnas: code of the pipeline {folder} may run, since trust_remote_code is true: {', '.join(files)}",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def silent_diffusers() -> Iterator[None]:
    """Let diffusers log nothing for a while, and then what it logged before."""
    from diffusers.utils import logging as theirs

    before = theirs.get_verbosity()
    theirs.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        theirs.set_verbosity(before)


def load_part(kind: Any, folder: Path) -> Any:
    """Load a network of a pipeline with all of its weights.

    Args:
        kind: its class, with diffusers' ``from_pretrained``.
        folder: of the part.

    Raises:
        JobError: weights that are missing, that the network does not have, or that are no finite numbers.
        OSError, ValueError, RuntimeError: the files cannot be read.
    """
    # Where only pickled weights are, diffusers would log an error about the others first.
    safe = any(file.suffix == ".safetensors" for file in folder.iterdir())
    options = {"low_cpu_mem_usage": False, "local_files_only": True, "variant": variant_of(folder)}
    with silent_diffusers():  # what it would warn of, with another remedy, is refused
        network, found = kind.from_pretrained(folder, output_loading_info=True, use_safetensors=safe, **options)
    _check(kind.__name__, folder, found["missing_keys"], found["unexpected_keys"])
    _refuse_whole_numbers(folder, {name for name, weight in network.named_parameters() if weight.is_floating_point()})
    _refuse_no_numbers(folder, network)
    return network


def _refuse_no_numbers(folder: Path, network: torch.nn.Module) -> None:
    """Refuse weights that are NaN or infinite, of which a student's training would be said to diverge.

    Raises:
        JobError: as said.
    """
    odd = next((name for name, weight in network.state_dict().items() if not weight.isfinite().all()), None)
    if odd is not None:
        raise JobError(
            f"The weights in {str(folder)!r} hold numbers that are not finite, the first in {odd!r}: the training has "
            f"diverged, or they were saved as too coarse a type; save a sound network there."
        )


def _refuse_whole_numbers(folder: Path, weights: Set[str]) -> None:
    """Refuse weights that were rounded to whole numbers, which diffusers takes for what they say without their scales.

    Raises:
        JobError: as said.
    """
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as content:
            for name in sorted(weights & set(content.keys())):
                kind = content.get_slice(name).get_dtype()
                if kind[0] in "IUB" and not kind.startswith("BF"):
                    raise JobError(
                        f"The weights in {str(file)!r} are whole numbers ({name!r} is {kind}): save the network as it "
                        f"was before it was quantised, as float16, say."
                    )


def check_parts(pipeline: Any, folder: Path) -> None:
    """Refuse a pipeline one of whose networks was loaded with weights that are not its own: diffusers only warns.

    Args:
        pipeline: loaded from the folder.
        folder: of the pipeline.

    Raises:
        JobError: as said.
    """
    import diffusers
    import torch

    for name, part in pipeline.components.items():
        if not isinstance(part, torch.nn.Module) or not (folder / name).is_dir():
            continue
        kind = type(part)
        if isinstance(part, diffusers.ModelMixin):
            load_part(kind, folder / name)
        elif hasattr(kind, "from_pretrained"):  # of transformers, which knows itself which further keys do no harm
            _, found = kind.from_pretrained(folder / name, output_loading_info=True, local_files_only=True)
            _check(kind.__name__, folder / name, found.get("missing_keys", ()), ())
            _refuse_no_numbers(folder / name, part)


def _check(kind: str, folder: Path, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    if not missing and not unexpected:
        return
    missing, unexpected = sorted(missing), sorted(unexpected)
    counts = [
        f"{len(keys)} are {what}, the first {keys[0]!r}"
        for keys, what in ((missing, "missing"), (unexpected, "not known to it"))
        if keys
    ]
    known, first = set(missing), unexpected[0] if unexpected else ""
    prefixes = [first[: at + 1] for at, letter in enumerate(first) if letter == "."]
    shared = (prefix for prefix in prefixes if all(key.startswith(prefix) for key in unexpected))
    wrapped = next((prefix for prefix in shared if known & {key.removeprefix(prefix) for key in unexpected}), "")
    what = WRAPPERS.get(wrapped, "something wraps the network so: save the one inside")
    remedy = f"all begin with {wrapped!r}; {what}" if wrapped else "save the whole trained network there"
    raise JobError(f"The weights in {str(folder)!r} do not fit their {kind}: {' and '.join(counts)}: {remedy}.")
