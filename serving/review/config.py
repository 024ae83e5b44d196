"""What goes to people, and how an audit decides; unknown keys are refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ReviewConfig(BaseModel):
    """Section ``[serve.review]``: the queue and the audit of one service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    audit_rate: float = Field(default=0.05, ge=0, le=1)
    """Share of the accepted tags that people judge as well; 0 audits nothing, and then nothing can be switched."""
    promise: float = Field(default=0.95, gt=0, lt=1)
    """Precision that accepted tags are held to where the tag's certificate states none."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Of the audit's bounds, and of its not switching a group that keeps its promise (serving/review/audit.py)."""
    unnamed: bool = False
    """Whether products sent without an id get cases: what people say of them is about no item of the catalog."""
    lease_s: float = Field(default=900.0, gt=0, le=86_400)
    """Seconds that a claim holds a case where the claim names no other time."""
    max_lease_s: float = Field(default=86_400.0, gt=0)
    """Seconds that a claim may ask for at most."""
    page: int = Field(default=200, ge=1, le=1_000)
    """Cases on a page, or in one claim, at most."""
