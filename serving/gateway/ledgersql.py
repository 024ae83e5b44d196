"""The tables of the ledger and what is asked of them. Costs are whole billionths of the currency."""

from __future__ import annotations

from typing import Final

import polars as pl

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS account (
    scope TEXT, key TEXT, period TEXT, tokens INTEGER NOT NULL, units INTEGER NOT NULL,
    PRIMARY KEY (scope, key, period)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held (
    scope TEXT, key TEXT, period TEXT, owner TEXT, tokens INTEGER NOT NULL, units INTEGER NOT NULL,
    PRIMARY KEY (scope, key, period, owner)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owner (name TEXT PRIMARY KEY, beat REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spend (
    day TEXT, tenant TEXT, task TEXT, job TEXT, target TEXT, model TEXT,
    calls INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    assumed_tokens INTEGER NOT NULL, units INTEGER NOT NULL,
    PRIMARY KEY (day, tenant, task, job, target, model)
) WITHOUT ROWID;
"""

COLUMNS: Final = {
    **dict.fromkeys(("day", "tenant", "task", "job", "target", "model"), pl.String),
    **dict.fromkeys(("calls", "prompt_tokens", "completion_tokens", "assumed_tokens", "cost"), pl.Int64),
}

SPENT: Final = "SELECT * FROM spend WHERE day >= ? AND day <= ? ORDER BY day, tenant, task, job, target, model"
ACCOUNT: Final = "SELECT tokens, units FROM account WHERE scope = ? AND key = ? AND period = ?"
OTHERS: Final = """
SELECT coalesce(sum(tokens), 0), coalesce(sum(units), 0) FROM held
WHERE scope = ? AND key = ? AND period = ? AND owner <> ?
"""
ADD_ACCOUNT: Final = """
INSERT INTO account VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens, units = units + excluded.units
"""
ADD_SPEND: Final = """
INSERT INTO spend VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    calls = calls + excluded.calls,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    assumed_tokens = assumed_tokens + excluded.assumed_tokens,
    units = units + excluded.units
"""
HOLD: Final = "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?)"
UNHOLD: Final = "DELETE FROM held WHERE scope = ? AND key = ? AND period = ? AND owner = ?"
BEAT: Final = "UPDATE owner SET beat = ? WHERE name = ?"
JOIN: Final = "INSERT INTO owner VALUES (?, ?)"
STALE: Final = "SELECT name FROM owner WHERE beat < ?"
BOOK_LOST: Final = """
INSERT INTO account SELECT scope, key, period, tokens, units FROM held WHERE owner = ?
ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens, units = units + excluded.units
"""
REPORT_LOST: Final = """
INSERT INTO spend SELECT period, '', '(lost)', '', '', '', 0, 0, 0, tokens, units
FROM held WHERE owner = ? AND scope = '' AND period <> ''
ON CONFLICT DO UPDATE SET
    assumed_tokens = assumed_tokens + excluded.assumed_tokens, units = units + excluded.units
"""
FORGET_HELD: Final = "DELETE FROM held WHERE owner = ?"
FORGET: Final = "DELETE FROM owner WHERE name = ?"
