"""The pipelines: straight-line code from a query to its answer. Importing them loads no heavy library."""

from serving.pipeline.recommend import recommend
from serving.pipeline.record import record_events
from serving.pipeline.score import score
from serving.pipeline.tag import tag
from serving.pipeline.upsert import upsert_items

__all__ = ["recommend", "record_events", "score", "tag", "upsert_items"]
