"""Whether a text's vector depends on the text alone: embedded again in other processes, order and company.

Assumes runs of one: what several texts in one tensor do to each other is measured by `speed.group_cosine`.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from build_models.quality.buckets import LENGTHS, cosines, inside
from build_models.quality.encode import encoder
from build_models.quality.evaluate import Reference
from build_models.quality.figures import Invariance
from worker.bundle import Bundle
from worker.session import Session
from worker.tokenizer import Tokenizer

# Of each length, out of documents and queries of all sets: some two seconds of a small model's time, half of
# it the start of the processes. Arbitrary.
_TEXTS_PER_LENGTH = 8
_SEED = 20  # of the choice and of the order; arbitrary


def check_invariance(bundle: Bundle, references: Sequence[Reference]) -> Invariance:
    """Embeds a sample of texts of every length twice over, and compares bytes.

    First one text at a time in a session of this process; then each text twice, shuffled, by fresh processes
    that share the work: each meets other texts before it and beside it, and another start of the model,
    which is what a restart, a busy pool and a resumed index do to it.
    """
    # Runs of one, and no prompt: to the model it is text like any other.
    manifest = replace(bundle.manifest, max_group_tokens=0, document_prompt="")
    alone = Bundle(bundle.path, manifest)
    texts = pick_texts(references)
    session, tokenizer = Session(alone), Tokenizer(alone.tokenizer, manifest.max_tokens)
    wanted = np.concatenate([session.embed([tokens.ids]) for tokens in tokenizer.encode(texts)])
    rows = [*range(len(texts))] * 2
    random.Random(_SEED).shuffle(rows)  # noqa: S311  no secret
    with encoder(alone) as processes:
        found, _ = processes.documents([texts[row] for row in rows], f"{manifest.recipe['name']}: invariance")
    return compare_bytes(wanted, found, rows)


def pick_texts(references: Sequence[Reference]) -> list[str]:
    """Returns a seeded sample of documents and queries, up to the same count of each length."""
    chance = random.Random(_SEED)  # noqa: S311  no secret
    texts: list[str] = []
    for first, last in LENGTHS:
        candidates = [
            text
            for reference in references
            for held, tokens in (
                (reference.data.documents, reference.vectors.document_tokens),
                (reference.data.queries, reference.vectors.query_tokens),
            )
            for text in _of_length(held, inside(tokens, first, last))
        ]
        texts += chance.sample(candidates, min(_TEXTS_PER_LENGTH, len(candidates)))
    return texts


def compare_bytes(wanted: NDArray[np.float32], found: NDArray[np.float32], rows: Sequence[int]) -> Invariance:
    """Returns how many rows of `wanted` have other bytes in any row of `found` that repeats them.

    Args:
        wanted: float32 `[texts, dim]`.
        found: float32 `[repeats, dim]`.
        rows: For each row of `found`, the row of `wanted` that it repeats.
    """
    first = wanted[list(rows)]
    differs = (first.view(np.uint32) != found.view(np.uint32)).any(axis=1)  # a zero's sign counts too
    changed = {row for row, other in zip(rows, differs.tolist(), strict=True) if other}
    return Invariance(len(wanted), len(changed), float(cosines(first, found).min()))


def _of_length(held: Mapping[str, str], chosen: NDArray[np.bool_]) -> list[str]:
    return [text for text, wanted in zip(held.values(), chosen.tolist(), strict=True) if wanted]
