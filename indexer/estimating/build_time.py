"""How long FAISS takes to build and tune an index: what it multiplies, over what a core does in a second.

Counted are distances of vectors to centroids, nearly all of the work: for learning in rounds over the sample,
for adding once. Reading units and writing the index is left out: that is the disk's.

Compared with `python -m tests.bench.index_scale --vectors 1000000` on two cores of an AMD EPYC (Zen 3) of 78
GFLOP/s each: 2,000 lists of FastScan codes were made in 35 s (this says 37), 4,000 in 112 s (111). With the
CPUs to itself expect a quarter more or less, of a graph half or double. Beside other work on the same CPUs,
learning short codes can take twenty times as long: its threads wait for each other thousands of times.
"""

import math
import time

import numpy as np

from indexer.config import Wishes
from indexer.index.index_rule import query_ms, sample_size
from indexer.index.memory_rule import Kind, Shape
from indexer.index.tuning import QUERIES

_LIST_ROUNDS = 10  # of k-means for inverted lists: FAISS's `Level1Quantizer`
_CODE_ROUNDS = 25  # of k-means for codebooks: FAISS's `ClusteringParameters`
_CODE_POINTS = 256  # points for each entry of a codebook at most, likewise
_EFFICIENCY = 0.64  # of FAISS's k-means, against one large product; fitted to the two figures above
# One thread adds a vector of 384 values to a graph of 60,000 in 0.42 ms (measured: 25 s of CPU time for all);
# that grows with the logarithm of their number. Half or twice that on other data.
_GRAPH_SECONDS, _GRAPH_AT, _GRAPH_DIM = 0.42e-3, 60_000, 384
# Learning a codebook of 16 entries takes this beside its multiplications (192 of them: 1.6 s on one thread).
_CODEBOOK_SECONDS = 8e-3
_COPY_BYTES = 1e9  # a second, of exact search: vectors are only copied; a cautious server
_SETTINGS = 12  # that tuning tries with each query, about
_PASSES = 2  # over all vectors, for exact answers and exact scores

_TRIAL = (1024, 384, 4096)  # rows, inner length and columns of the product that is timed
_TRIAL_SECONDS = 0.3


def core_flops() -> float:
    """Returns the float32 operations that one core of this machine does in a second, in numpy's product.

    In CPU time, so that other work on the machine does not count.
    """
    rows, inner, columns = _TRIAL
    rng = np.random.default_rng(0)
    left = rng.standard_normal((rows, inner), dtype=np.float32)
    right = rng.standard_normal((inner, columns), dtype=np.float32)
    left @ right  # the first wakes threads and loads code
    started, done = time.process_time(), 0
    while (spent := time.process_time() - started) < _TRIAL_SECONDS:
        left @ right
        done += 1
    return 2.0 * rows * inner * columns * done / spent


def build_seconds(shape: Shape, count: int, dim: int, cores: int, flops: float) -> float:
    """Returns the seconds that FAISS takes for an index of `count` vectors on `cores` of `flops` each."""
    if shape.kind is Kind.FLAT:
        return 4 * dim * count / _COPY_BYTES
    if shape.kind is Kind.HNSW:
        growth = max(1.0, math.log(max(count, 2)) / math.log(_GRAPH_AT))
        return count * _GRAPH_SECONDS * dim / _GRAPH_DIM * growth
    sample, overhead = sample_size(shape.lists, count), 0.0
    distances = shape.lists * (_LIST_ROUNDS * sample + count)
    if shape.code_bytes:
        entries = 256 if shape.kind is Kind.IVF_PQ else 16
        overhead = _CODEBOOK_SECONDS * shape.code_bytes * (1 if shape.kind is Kind.IVF_PQ else 2)
        distances += entries * (_CODE_ROUNDS * min(sample, _CODE_POINTS * entries) + count)
    return overhead + 2 * dim * distances / (_EFFICIENCY * flops * cores)


def tuning_seconds(shape: Shape, count: int, dim: int, cores: int, flops: float, wishes: Wishes) -> float:
    """Returns the seconds of measuring a new index against exact search; 0 where nothing is wished."""
    if not wishes.tuned or not count:
        return 0.0
    exact = 2 * dim * count * min(QUERIES, count) * _PASSES / (_EFFICIENCY * flops * cores)
    return exact + _SETTINGS * QUERIES * query_ms(shape, count, dim, wishes) / 1000
