"""The search: it measures every recipe, picks the fastest that passes, and repairs what does not."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_models.config import BuildConfig
from build_models.pipeline import build
from build_models.plot import Outcome
from build_models.quality.gate import Gate
from build_models.recipes import AUTO, FP32, RECIPES, parse_recipes
from build_models.search_space import in_best_form, other_forms, repairs
from build_models.trials import Trial, conclude, points
from worker.bundle import PARETO, read_bundle
from worker.cpu_flags import Cpu

INT8 = RECIPES["int8"]
FORMS = [recipe.name for recipe in other_forms([INT8])]


def _build(model: Path, data: Path, out: Path, gate: Gate) -> Mapping[str, Trial]:
    built = build(
        BuildConfig(
            model=str(model),
            out=out,
            recipes=parse_recipes(AUTO),
            search=True,
            eval_data=(data,),
            gate=gate,
        )
    )
    assert built.report.candidates[-1].manifest == replace(
        built.manifest, files=built.report.candidates[-1].manifest.files
    )
    return {trial.recipe: trial for trial in built.report.trials}


def test_the_fastest_that_passes(tiny_model_dir: Path, eval_data: Path, tmp_path: Path) -> None:
    """Every recipe and form is in the report; none that passed and is faster than the chosen was left."""
    out = tmp_path / "out"
    trials = _build(tiny_model_dir, eval_data, out, Gate(min_retention=0.5, min_bound=0, min_overlap=0))
    assert set(trials) >= {*RECIPES, *FORMS}
    (chosen,) = [trial for trial in trials.values() if trial.outcome is Outcome.CHOSEN]
    assert read_bundle(out).manifest.recipe["name"] == chosen.recipe
    assert (out / PARETO).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for trial in trials.values():
        if trial.relative < chosen.relative:
            # A form is no candidate of its own: it is taken up only if it saves more than noise.
            assert trial.outcome is Outcome.REFUSED or trial.overlap is None, trial


def test_repair(tiny_model_dir: Path, eval_data: Path, tmp_path: Path) -> None:
    """Where every integer recipe is refused, the nearest gets floats back, and then floats remain."""
    trials = _build(
        tiny_model_dir, eval_data, tmp_path / "out", Gate(min_retention=0, min_bound=0, min_overlap=1)
    )
    manifest = read_bundle(tmp_path / "out").manifest
    repaired = [name for name in trials if name.endswith("-float")]
    assert len(repaired) == 3
    base = max((name for name in RECIPES if RECIPES[name].quantized), key=lambda n: trials[n].overlap or 0)
    assert all(name.startswith(base.split("/")[0]) for name in repaired)
    assert manifest.recipe["name"] in {*repaired, "fp32", "fp32-fused"}
    assert manifest.quality["overlap@10"] == 1


def test_forms_differ_in_one_setting() -> None:
    """Each form is the base recipe with one setting changed, under a name that says which."""
    for recipe in other_forms(list(RECIPES.values())):
        settings, base = recipe.settings(), INT8.settings()
        assert recipe.name.startswith("int8/")
        assert len([key for key in base if settings[key] != base[key]]) == 2  # the name, and that setting
    assert other_forms([FP32]) == []


@given(
    st.lists(st.integers(500, 1500), min_size=len(FORMS), max_size=len(FORMS)), st.sampled_from(list(RECIPES))
)
def test_a_form_is_kept_if_it_is_faster(relative: list[int], name: str) -> None:
    """Integer recipes take every form that saved more than noise, and no other; floats stay as they are."""
    times = {"int8": 1000.0} | {form: float(share) for form, share in zip(FORMS, relative, strict=True)}
    recipe = in_best_form(RECIPES[name], times)
    faster = [form.removeprefix("int8/") for form in FORMS if times[form] < 980]
    if not RECIPES[name].quantized:
        assert recipe == RECIPES[name]
    else:
        assert recipe.name == "/".join([name, *faster])
        assert (recipe.approximate_gelu, recipe.merged_projections) == (
            "tanh-gelu" in faster,
            "merged" in faster,
        )


@given(st.dictionaries(st.text("abcdef", min_size=1), st.integers(-99, 99), max_size=30))
def test_repairs_begin_with_the_most_sensitive(gains: dict[str, int]) -> None:
    """Each repair has more floats than the one before, never all, and always those that gain the most."""
    found = repairs(INT8, gains)
    counts = [len(recipe.float_groups) for recipe in found]
    assert counts == sorted(set(counts))
    for recipe in found:
        kept = [gains[name] for name in gains if name not in recipe.float_groups]
        assert min(gains[name] for name in recipe.float_groups) >= max(kept)


@pytest.mark.parametrize("names", ["auto", " auto ", "fast", "int8, fp32"])
def test_lists_of_recipes(names: str) -> None:
    """Lists have names; all of their recipes exist, and the safest is the last."""
    recipes = parse_recipes(names)
    assert set(recipes) <= set(RECIPES.values())
    assert not recipes[-1].quantized


def test_the_bits_of_a_kind_of_cpu() -> None:
    """For VNNI every recipe of safe weights gets whole eight bits, and says so in its settings."""
    for recipe in RECIPES.values():
        there = recipe.for_cpu(Cpu.VNNI)
        if recipe.quantized and there != recipe:
            assert (there.weight_bits, there.paired_weights, there.cpu) == (8, False, Cpu.VNNI)
            assert there.settings() != recipe.settings()
        assert recipe.for_cpu(Cpu.ANY) == recipe


def test_conclusions() -> None:
    """Trials end with what the gate said; those that never got there keep why."""
    trials = [
        Trial("slow", 3.0, 0.9, 1, 1.0),
        Trial("fast", 1.0, 0.3, 1, 0.8),
        Trial("mid", 2.0, 0.6, 1, 0.9),
    ]
    fast, mid, slow = conclude(trials, {"fast": "lost too much", "mid": None})
    assert (fast.outcome, fast.reason) == (Outcome.REFUSED, "lost too much")
    assert mid.outcome is Outcome.CHOSEN
    assert (slow.outcome, slow.reason) == (Outcome.PRUNED, "slower than the one that was chosen")
    (form,) = conclude([Trial("int8/merged", 1.0, 0.3, 1)], {})
    assert (form.outcome, form.reason) == (Outcome.PRUNED, "a form that saved too little")
    assert [(p.name, p.milliseconds, p.quality) for p in points([fast])] == [("fast", 1.0, 0.8)]
