"""What the rows of a plan hold: ids and passages from the units, columns and filters from the inputs.

Generations of one plan share it, so that an update that only deletes leaves nothing to be read again.
Guarantees: any thread may ask; memory is bounded by bytes.
"""

import numpy as np
from numpy.typing import NDArray

from indexer.inputs import filters
from indexer.inputs.columns import ColumnReader
from indexer.plan import Plan
from indexer.search.byte_cache import ByteCache
from indexer.search.documents import Documents
from indexer.store.layout import Layout

MASK_BYTES = 128 << 20  # of filters' outcomes kept, a byte a row: 12 filters over 10 million rows. Arbitrary


class Contents:
    """The rows of one edition of an index.

    Args:
        layout: Where it lies.
        plan: Its plan.

    Attributes:
        documents: Ids and passages by row id.
        columns: Columns of the inputs by row id.
    """

    def __init__(self, layout: Layout, plan: Plan) -> None:
        self.layout, self.plan = layout, plan
        self.documents = Documents(layout, plan)
        self.columns = ColumnReader(plan)
        self._masks: ByteCache[str, NDArray[np.bool_]] = ByteCache(MASK_BYTES, lambda mask: mask.nbytes)

    def mask(self, text: str) -> NDArray[np.bool_]:
        """Returns which rows meet a filter, bool `[plan.end]` by row id; not to be written to.

        Raises:
            ConfigError: It cannot be read, or names a column that is not there; says what there is.
            InputError: An input is gone, damaged or has changed.
        """
        return self._masks.get(text, lambda: filters.mask(self.plan, filters.parse(text)))
