"""Runs a tagger's bundle: words to tags, one sentence at a time on one thread.

The same in a program of yours:

    from pathlib import Path

    from build_models.ner.tagger import Tagger

    tagger = Tagger(Path("bundle"))
    tagger.tag(["Aspirin", "helped", "."])  # ["B-Chemical", "O", "O"]
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from build_models.ner.decode import best_tags, word_logits
from build_models.ner.words import WordTokenizer
from worker.bundle import Bundle, Task, read_bundle
from worker.errors import BundleError
from worker.session import TokenSession


class Tagger:
    """A bundle, ready to tag; may be called from several threads at once.

    Args:
        bundle: The folder of a bundle that was built with `--task ner`, or one that was read.

    Raises:
        BundleError: There is no such bundle, it is damaged, or it holds no tagger.
        ModelError: Its graph cannot be loaded.
    """

    def __init__(self, bundle: Path | Bundle) -> None:
        read = read_bundle(bundle) if isinstance(bundle, Path) else bundle
        manifest = read.manifest
        if manifest.task is not Task.NER or not manifest.labels:
            raise BundleError(
                f"bundle {read.path} is built for the task {manifest.task}, a tagger's is {Task.NER}; "
                "build one with 'python -m build_models build --task ner'"
            )
        self.labels = manifest.labels
        self._tokenizer = WordTokenizer(read.tokenizer, manifest.max_tokens)
        self._session = TokenSession(read)

    def tag(self, words: Sequence[str]) -> list[str]:
        """Returns one tag for each word of a sentence, valid IOB2; long sentences are cut between words.

        Raises:
            ModelError: The model could not compute.
        """
        (windows,) = self._tokenizer.encode([words])
        logits = word_logits(
            [(window, self._session.logits(window.ids)) for window in windows], len(words), self.labels
        )
        return best_tags(logits, self.labels)

    def logits(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the logits of token ids `[tokens]`: float32 `[tokens, labels]`."""
        return self._session.logits(ids)
