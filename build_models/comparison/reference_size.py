"""The table of a model of a well-known size with random weights: size and speed, no quality."""

from pathlib import Path

from build_models.comparison.config import CompareConfig
from build_models.comparison.embedding import fp32_row, query_ids, served_systems, torch_system
from build_models.comparison.retrieval import read_sets
from build_models.comparison.served import served, timed_rows
from build_models.comparison.stand_in import write_stand_in
from build_models.comparison.subjects import Subject
from build_models.comparison.table import Table
from build_models.comparison.torch_baseline import TorchBaseline, threads
from build_models.description import describe
from build_models.exported import export_model
from build_models.progress import say
from build_models.recipes import RECIPES, Recipe
from build_models.sources import ModelFolder
from worker.bundle import Bundle, Pooling, Task

_DEFAULT_RECIPE = "int8"  # beside bundles that are not quantized, or by a recipe of another release
_CALIBRATION_TEXTS = 16  # ranges of random weights say nothing: the graph only has to be made; arbitrary
_NOTE = "Random weights: size and speed only. Neither depends on the weights' values, quality does."


def reference_size_table(config: CompareConfig, subject: Subject, folder: Path) -> Table:
    """Returns the table of the model that the configuration names, quantized as the first bundle is.

    Args:
        config: How to compare.
        subject: Whose first bundle's tokenizer and recipe are taken over, and whose texts are timed.
        folder: For files that are needed only now.

    Raises:
        BuildError: It cannot be made or exported.
    """
    size, first = config.reference_size, subject.bundles[0]
    say(f"making a model of {size}'s size with random weights")
    home = ModelFolder(f"{size}-sized", folder / str(size))
    write_stand_in(size, first.tokenizer, home.path)
    baseline = TorchBaseline(describe(home, pooling=Pooling.MEAN))
    exported = export_model(baseline, baseline.source, folder)
    fp32 = fp32_row(exported)
    baseline.use_default_attention()
    texts = read_sets(subject.eval_data if subject.task is Task.EMBEDDING else (), config)
    # A tokenizer of more pieces than the vocabulary gives ids that no embedding has.
    ids = query_ids(texts, config, first) % baseline.vocabulary
    int8 = served(exported.calibrated(list(ids[:_CALIBRATION_TEXTS])).make(recipe_for(first), folder).bundle)
    systems = [torch_system(baseline, ids), *served_systems([fp32, int8], ids)]
    with threads(1):
        rows = timed_rows(systems, home.name)
    return Table(f"{home.name} model, random weights", Task.EMBEDDING, tuple(rows), (_NOTE,))


def recipe_for(bundle: Bundle) -> Recipe:
    """Returns the recipe of a bundle, if this release has it and it quantizes, else the default one."""
    recipe = RECIPES.get(str(bundle.manifest.recipe.get("name")))
    return recipe if recipe is not None and recipe.quantized else RECIPES[_DEFAULT_RECIPE]
