"""Rows of a query as a data frame that keeps what they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["data_frame"]


def data_frame(rows: Iterable[Sequence[Any]], names: Sequence[str]) -> pd.DataFrame:
    """A data frame of `rows`.

    Whole numbers stay whole where some are NULL (pandas' Int64): as floats,
    the last digits of a source_id would be lost. Decimal numbers, which
    PostgreSQL's averages are, become float64 with NaN for NULL.
    """
    import pandas as pd  # a quarter of a second: only where there are rows to show

    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    frame = pd.concat([_series(values) for values in columns], axis=1) if names else pd.DataFrame()
    frame.columns = pd.Index(names)
    return frame


def _series(values: Sequence[Any]) -> pd.Series[Any]:
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return pd.Series(values, dtype="Int64" if None in values else "int64")
    if kinds and kinds <= {float, int, Decimal}:
        return pd.Series([None if value is None else float(value) for value in values], dtype="float64")
    return pd.Series(values, dtype=None if kinds else "object")
