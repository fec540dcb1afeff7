"""The peers and the settings that are tried for each of them."""

from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import environments
from tests.bench.systems import Child, Peer

# Batch sizes that are tried; the first is sentence-transformers' default. It sorts by length itself.
SENTENCE_TRANSFORMERS = {"fp32": (32, 8), "int8": (32, 8, 1)}

# The first is fastembed's default. It does not sort, so small batches pad less.
FASTEMBED = (
    {"batch": 256, "parallel": None},
    {"batch": 32, "parallel": None},
    {"batch": 32, "parallel": 2},
    {"batch": 1, "parallel": None},
    {"batch": 1, "parallel": 2},
)


@dataclass
class Library:
    """A library with a model, at several settings.

    Attributes:
        name: What the tables call it.
        settings: The settings, the documented or default one first.
        children: The processes that the settings run in.
    """

    name: str
    settings: list[Peer] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)

    def choose(self, corpus: Path) -> Peer:
        """Runs every setting once and returns the fastest."""
        rates = {}
        for peer in self.settings:
            rates[peer] = peer.documents_per_second(corpus)
            print(f"  {rates[peer]:7.1f} documents/s  {peer.name}", flush=True)
        return max(rates, key=rates.__getitem__)

    def close(self) -> None:
        """Ends its processes."""
        for child in self.children:
            child.close()


def sentence_transformers(precisions: list[str]) -> Library:
    """Starts sentence-transformers: "fp32" on torch, or presets of its own ONNX INT8 export."""
    fp32 = precisions == ["fp32"]
    library = Library("sentence-transformers " + ("FP32" if fp32 else "ONNX INT8"))
    python = str(environments.python_of("sentence-transformers"))
    model, cache = str(environments.source_model()), str(environments.HOME / "models")
    for precision in precisions:
        module = "tests.bench.peer_sentence_transformers"
        child = Child(f"sentence-transformers-{precision}", python, "-m", module, model, cache, precision)
        library.children.append(child)
        preset = "" if fp32 else f" ({precision} preset)"
        for batch in SENTENCE_TRANSFORMERS["fp32" if fp32 else "int8"]:
            library.settings.append(Peer(f"{library.name}{preset}, batch {batch}", child, {"batch": batch}))
    return library


def fastembed(preset: str) -> Library:
    """Starts fastembed on the INT8 graph that sentence-transformers made with a preset."""
    made = environments.HOME / "models" / f"sentence-transformers-{preset}" / "onnx"
    folder = environments.fastembed_model(made / f"model_qint8_{preset}.onnx", preset)
    python = str(environments.python_of("fastembed"))
    child = Child(f"fastembed-{preset}", python, "-m", "tests.bench.peer_fastembed", str(folder))
    library = Library("fastembed INT8", children=[child])
    for setting in FASTEMBED:
        parallel = f", parallel {setting['parallel']}" if setting["parallel"] else ""
        name = f"fastembed INT8 (the same {preset} graph), batch {setting['batch']}{parallel}"
        library.settings.append(Peer(name, child, setting))
    return library


def int8_presets() -> list[str]:
    """Returns the preset meant for this CPU, and that for avx512: it may be faster even without AVX-512."""
    return list(dict.fromkeys([environments.preset(), "avx512"]))
