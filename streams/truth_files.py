"""The truth of a simulated shop as two Parquet files beside its events: products, and days."""

from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from models.simulator.simulator import Shop
from models.simulator.simulator_tables import day_columns, product_columns
from schemas.errors import ServiceError

PRODUCTS_SUFFIX, DAYS_SUFFIX = ".products.parquet", ".days.parquet"
ROWS_HELD_MAX = 100_000

PRODUCTS = pa.schema(
    [
        ("sku", pa.string()),
        ("category", pa.string()),
        ("family", pa.string()),
        ("role", pa.string()),
        ("predecessor", pa.string()),
        ("listed_from_day", pa.int64()),
        ("listed_until_day", pa.int64()),
        ("list_price_minor", pa.int64()),
        ("unit_cost_minor", pa.int64()),
        ("return_cost_minor", pa.int64()),
        ("demand_rate_per_day", pa.float64()),
        ("orders_per_visit", pa.float64()),
        ("units_per_order", pa.float64()),
        ("elasticity", pa.float64()),
        ("cross_price_elasticity", pa.float64()),
        ("dearer_penalty", pa.float64()),
        ("return_logit", pa.float64()),
        ("return_slope", pa.float64()),
        (
            "family_elasticity",
            pa.list_(pa.struct([("sku", pa.string()), ("elasticity", pa.float64())])),
        ),
    ]
)
DAYS = pa.schema(
    [
        ("day", pa.string()),
        ("sku", pa.string()),
        ("shown_price_minor", pa.int64()),
        ("unit_cost_minor", pa.int64()),
        ("rate_per_day", pa.float64()),
        ("shock", pa.float64()),
        ("elasticity", pa.float64()),
        ("elasticity_at_price", pa.float64()),
        ("return_rate", pa.float64()),
        ("best_price_minor", pa.int64()),
        ("profit_per_day_minor", pa.float64()),
        ("best_profit_per_day_minor", pa.float64()),
    ]
)


class TruthWriter:
    """Writes the truth of a shop beside ``out``, day by day. Context manager.

    The products file is written at the end; its metadata has the seed, the settings and the
    totals as JSON under ``pricemaker``.
    """

    def __init__(self, out: Path, shop: Shop) -> None:
        self.products_path = out.with_name(out.name + PRODUCTS_SUFFIX)
        self.days_path = out.with_name(out.name + DAYS_SUFFIX)
        self._shop = shop
        self._held: list[pa.Table] = []
        try:
            self._days = pq.ParquetWriter(self.days_path, DAYS)
        except OSError as error:
            raise _unreachable(self.days_path, error) from error

    def __enter__(self) -> "TruthWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._flush()
            self._days.close()
            if kind is None:
                pq.write_table(self._products(), self.products_path)
        except OSError as fault:
            raise _unreachable(self.products_path, fault) from fault

    def add_day(self) -> None:
        """Note the truth of the day that the shop has just finished."""
        self._held.append(pa.Table.from_pydict(day_columns(self._shop), schema=DAYS))
        if sum(table.num_rows for table in self._held) >= ROWS_HELD_MAX:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._days.write_table(pa.concat_tables(self._held))
            self._held = []

    def _products(self) -> pa.Table:
        shop, settings = self._shop, self._shop.settings
        about: dict[str, Any] = {
            "seed": shop.seed,
            "settings": settings,
            "totals": dict(sorted(shop.totals.items())),
            "bad_records": dict(sorted(shop.bad_records.items())),
        }
        text = orjson.dumps(about, option=orjson.OPT_SORT_KEYS)
        table = pa.Table.from_pydict(product_columns(shop), schema=PRODUCTS)
        return table.replace_schema_metadata({"pricemaker": text})


def _unreachable(path: Path, error: OSError) -> ServiceError:
    return ServiceError("file_unreachable", f"{error.strerror or error}.", where=str(path))
