"""Finds the fastest recipe that keeps the quality asked for, by measuring on this CPU and the user's texts.

Every recipe is timed on the lengths of the user's documents, and compared with FP32 on a sample of them; what
is far from FP32 is dropped. The rest goes to the gate in the order of its time. If the gate refuses every
integer recipe, the nearest is repaired: its most sensitive groups go back to floating point.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_models.candidates import Candidate
from build_models.exported import ExportedModel
from build_models.graphs.quantize import quantized_groups
from build_models.progress import progress, say
from build_models.quality.encode import encoder
from build_models.quality.evaluate import Reference
from build_models.quality.gate import Gate
from build_models.quality.sample import Sample
from build_models.quality.speed import time_documents
from build_models.recipes import Recipe
from build_models.search_space import in_best_form, other_forms, repairs
from build_models.trials import Trial
from worker.session import Session

# Overlap on the sample this far below what is wanted cannot be a sample's luck: its standard deviation is
# near .01 for 150 queries.
_MARGIN = 0.03
_PROBES = 24  # texts that a group's rounding is measured on; arbitrary


class RecipeSearch:
    """One search; `candidates` gives what should be asked of the gate, in order."""

    def __init__(
        self, model: ExportedModel, references: Sequence[Reference], gate: Gate, folder: Path, seed: int
    ) -> None:
        self._model, self._gate, self._folder = model, gate, folder
        self._samples = [Sample(reference, seed) for reference in references]
        self._tokens = np.concatenate([reference.vectors.document_tokens for reference in references])
        self._made: dict[str, Candidate] = {}
        self.trials: dict[str, Trial] = {}

    def candidates(self, recipes: Sequence[Recipe]) -> Iterator[Candidate]:
        """Yields candidates, fastest first; asked for more than there are, it repairs the nearest."""
        for recipe in recipes:
            self._time(recipe)
        for recipe in other_forms(recipes):
            self._time(recipe)
        times = {name: trial.relative for name, trial in self.trials.items()}
        for recipe in (in_best_form(recipe, times) for recipe in recipes):
            if recipe.name not in self.trials:
                self._time(recipe)
            self._compare(recipe.name)
        hopeful = [name for name in self._by_time() if self.trials[name].overlap is not None]
        quantized = [name for name in hopeful if self._made[name].recipe.quantized]
        yield from (self._made[name] for name in quantized if self._hope(name))
        yield from self._repaired(quantized)
        yield from (self._made[name] for name in hopeful if name not in quantized)

    def _time(self, recipe: Recipe) -> None:
        self.timed(self._model.make(recipe, self._folder))

    def timed(self, candidate: Candidate) -> Candidate:
        """Returns the candidate, once it was timed on documents as long as the user's."""
        recipe = candidate.recipe
        relative, milliseconds = time_documents(
            self._model.reference, candidate, self._tokens, self._model.vocabulary
        )
        self._made[recipe.name] = candidate
        self.trials[recipe.name] = Trial(recipe.name, milliseconds, relative, candidate.model_bytes)
        say(f"{recipe.name}: {milliseconds:.2f} ms a document, {relative:.2f} of FP32")
        return candidate

    def _compare(self, name: str) -> None:
        """Measures a recipe on the samples; floats are FP32's own vectors but for rounding."""
        candidate = self._made[name]
        found = [(1.0, 1.0)]
        if candidate.recipe.quantized:
            with encoder(candidate.bundle) as texts:
                found = [sample.compare(texts.eval_set(sample.data, name)) for sample in self._samples]
        nearest, cosine = (min(values) for values in zip(*found, strict=True))
        self.trials[name] = replace(self.trials[name], overlap=nearest, cosine=cosine)
        say(f"{name}: overlap@10 {nearest:.4f}, cosine {cosine:.5f} on the sample")

    def _by_time(self) -> list[str]:
        return sorted(self.trials, key=lambda name: self.trials[name].relative)

    def _hope(self, name: str) -> bool:
        trial = self.trials[name]
        if trial.overlap is None or trial.cosine is None:
            return False
        if trial.overlap >= self._gate.min_overlap - _MARGIN and trial.cosine >= self._gate.min_cosine:
            return True
        self.trials[name] = replace(trial, reason="too far from FP32 on the sample")
        return False

    def _repaired(self, quantized: Sequence[str]) -> Iterator[Candidate]:
        """Yields the nearest integer recipe with more and more of it in floating point."""
        whole = [name for name in quantized if self._made[name].recipe.invariant]
        if not whole:
            return
        nearest = max(whole, key=lambda name: (self.trials[name].overlap or 0, name))
        recipe = self._made[nearest].recipe
        for repaired in repairs(recipe, self._gains(recipe)):
            self._time(repaired)
            self._compare(repaired.name)
            if self._hope(repaired.name):
                yield self._made[repaired.name]

    def _gains(self, recipe: Recipe) -> dict[str, float]:
        """Returns how much nearer the vectors come to FP32's with one group in floating point."""
        reference = self._model.reference.bundle
        probes = self._samples[0].probes(reference, _PROBES)
        wanted = Session(reference).embed(probes)
        before = _distance(wanted, Session(self._made[recipe.name].bundle).embed(probes))
        groups = quantized_groups(reference.model)
        gains = {}
        with progress(f"sensitivity of {recipe.name}", len(groups), "groups") as advance:
            for group in groups:
                lone = replace(recipe, name=f"{recipe.name}/without", float_groups=(group,))
                candidate = self._model.make(lone, self._folder)
                gains[group] = before - _distance(wanted, Session(candidate.bundle).embed(probes))
                candidate.discard()
                advance(1)
        return gains


def _distance(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
    return float(1 - (np.einsum("nd,nd->n", wanted, found) / norms).mean())
