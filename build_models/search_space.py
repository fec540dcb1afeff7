"""The recipes that a search looks at, and its decisions. Pure: figures in, recipes out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from build_models.recipes import RECIPES, Recipe
from worker.cpu_flags import Cpu

# Forms of the graph that are faster on some CPUs and slower on others, by what names them.
_FORMS: Mapping[str, Mapping[str, Any]] = {
    "plain-attention": {"fused_attention": False},
    "merged": {"merged_projections": True},
    "fused-norms": {"fused_norms": True},
    "tanh-gelu": {"approximate_gelu": True},
}
_BASE = "int8"  # whose forms are timed: what is faster with it is faster with the other integer recipes
_MIN_GAIN = 0.02  # share of the time that a form must save: less is noise; arbitrary
# Shares of the groups that are left in floating point, the most sensitive first; arbitrary.
_REPAIRS = (0.1, 0.25, 0.5)


def base_recipes(cpu: Cpu) -> list[Recipe]:
    """Returns every way to compute, each in the form that is usually the fastest."""
    return [recipe.for_cpu(cpu) for recipe in RECIPES.values()]


def other_forms(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Returns the base recipe of a search in each of its other forms, if it is among `recipes`."""
    return [
        replace(recipe, name=f"{recipe.name}/{form}", summary=f"{recipe.name}, {form}", **settings)
        for recipe in recipes
        if recipe.name == _BASE
        for form, settings in _FORMS.items()
    ]


def in_best_form(recipe: Recipe, times: Mapping[str, float]) -> Recipe:
    """Returns a recipe with all forms that proved faster, if it is one of integers.

    Args:
        recipe: One of `base_recipes`.
        times: Name of a recipe to its time over FP32's.
    """
    faster = [
        form
        for form in _FORMS
        if times.get(f"{_BASE}/{form}", float("inf")) < (1 - _MIN_GAIN) * times.get(_BASE, 0)
    ]
    if not faster or not recipe.quantized:
        return recipe
    name = "/".join([recipe.name, *faster])
    settings = {key: value for form in faster for key, value in _FORMS[form].items()}
    return replace(recipe, name=name, summary=f"{recipe.name}, {', '.join(faster)}", **settings)


def repairs(recipe: Recipe, gains: Mapping[str, float]) -> list[Recipe]:
    """Returns the recipe with more and more of its groups left in floating point.

    Args:
        recipe: A quantized recipe.
        gains: Name of a group to how much nearer the vectors come to FP32's without its rounding.
    """
    ranked = sorted(gains, key=lambda name: (-gains[name], name))
    counts = sorted({max(1, round(share * len(ranked))) for share in _REPAIRS} if ranked else set())
    return [
        replace(
            recipe,
            name=f"{recipe.name}/{count}-float",
            summary=f"{recipe.name}, its {count} most sensitive groups in floating point",
            float_groups=tuple(sorted(ranked[:count])),
        )
        for count in counts
        if count < len(ranked)
    ]
