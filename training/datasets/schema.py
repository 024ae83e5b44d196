"""The canonical contract: what every dataset looks like once ingested, whatever it came from.

==============  ==============================  ======================================================================
table           column                          dtype and meaning
==============  ==============================  ======================================================================
items           ``item_id``                     String, unique; rows sorted by it
\\               ``title``                       String, 1 to 2,000 characters; the item_id where the source has none
\\               ``text``                        String, null where the source has none
\\               any other                       an attribute: String (categorical), Float64 (numeric), List[String]
interactions    ``user_id``, ``item_id``        String; every item_id is in items, or arrived (features.arrivals)
\\               ``timestamp``                   Datetime('us', 'UTC'), 1990 to a day after the ingest
\\               ``event``                       String, one of EVENTS
\\               ``value``                       Float64, finite: quantity, rating, seconds watched, ...
\\               ``session_id``                  String: basket or visit; user and calendar day (UTC) where not given
\\               ``place``                       String: store, branch or channel, null where not told; the column
\\                                               may lack
\\               ``price``                       Float64: of one unit, above 0, null where not told; may lack
\\               any other                       as the source has it
users           ``user_id``                     String, unique; rows sorted by it
\\               any other                       an attribute, as for items
offers          ``offer_id``, ``item_id``       String, each pair once, sorted; every item_id is in items, or arrived.
\\                                               What stands together in a coupon, a promotion, a bundle; no table where
\\                                               none was given
==============  ==============================  ======================================================================

Interactions are sorted by (user_id, timestamp, session_id, item_id), ties in source order.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import polars as pl

VERSION: Final = 2
"""Part of every fingerprint: raise it when the canonical form of the same sources changes."""

TableName = Literal["items", "interactions", "users", "offers"]
AttributeKind = Literal["categorical", "numeric", "list"]

REQUIRED: Final[dict[TableName, tuple[str, ...]]] = {
    "items": ("item_id", "title"),
    "interactions": ("user_id", "item_id", "timestamp"),
    "users": ("user_id",),
    "offers": ("offer_id", "item_id"),
}
EVENTS: Final = ("view", "click", "cart", "purchase", "rating")
DEFAULT_EVENT: Final = "purchase"
DEFAULT_VALUE: Final = 1.0
TITLE_LIMIT: Final = 2_000
"""Characters. A longer title is a description in the wrong column; it is cut and counted."""

TIMESTAMP: Final = pl.Datetime("us", "UTC")
EARLIEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
FUTURE_TOLERANCE: Final = timedelta(days=1)
"""Local times without an offset are read as UTC and may lie up to 14 hours ahead of it."""
CURRENT: Final = timedelta(days=30)
"""A dataset whose last event is older than this runs on the data's clock."""

INTERACTION_COLUMNS: Final = ("user_id", "item_id", "timestamp", "event", "value", "session_id")
OPTIONAL_COLUMNS: Final = ("place", "price")
INTERACTION_ORDER: Final = ("user_id", "timestamp", "session_id", "item_id")
REJECT_COLUMNS: Final = ("reject_row", "reject_reason")
"""Added to a set-aside source row: its number (1 = first data row) and why it was set aside."""

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "item_id": ("product_id", "sku", "asin", "movie_id", "article_id", "business_id", "id", "item", "product"),
    "user_id": ("customer_id", "household_id", "member_id", "visitor_id", "client_id", "user", "customer", "id"),
    "timestamp": ("time", "date", "datetime", "event_time", "created_at", "transaction_timestamp", "ts", "t_dat"),
    "offer_id": ("coupon_upc", "promotion_id", "campaign_id", "bundle_id", "offer", "coupon", "promotion", "bundle"),
    "title": ("name", "item_name", "product_name", "product_title", "label"),
    "event": ("event_type", "event_name", "action", "behavior", "behaviour", "interaction"),
    "value": ("quantity", "qty", "units", "count"),
    "session_id": ("session", "basket_id", "order_id", "visit_id", "invoice_no", "invoice_id", "transaction_id"),
    "place": ("store", "store_id", "branch", "channel", "shop", "location"),
    "price": ("unit_price", "sales_price", "selling_price"),
}
"""Names other exports give a column: only ever suggested, never assumed."""
