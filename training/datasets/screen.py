"""Which rows of a source table stay, and why each of the others does not: no row disappears without a reason."""

from __future__ import annotations

from collections import Counter

import polars as pl

from training.datasets.report import Findings, TableCount, examples
from training.datasets.schema import REJECT_COLUMNS, TableName
from training.datasets.sources import Table

DUPLICATE = "exact duplicate of an earlier row"


class Screen:
    """Gives every row at most one reason to be set aside, the first that applies.

    Excluded rows come first (they are no fault), so that every check after them speaks of the rows that matter.
    """

    def __init__(self, name: TableName, table: Table, findings: Findings) -> None:
        self._name = name
        self._table = table
        self._findings = findings
        self._reason = pl.Series("reason", [None], pl.String).new_from_index(0, table.frame.height)
        self._excluded: set[str] = set()
        self.apply_rules(excluded=True)

    @property
    def kept(self) -> pl.Series:
        return self._reason.is_null()

    @property
    def rejects(self) -> pl.DataFrame:
        """The rows set aside as the source had them, after their number (1 = first data row) and reason."""
        row, reason = REJECT_COLUMNS
        frame = self._table.frame.with_row_index(row, offset=1).insert_column(1, self._reason.alias(reason))
        return frame.filter(~self.kept)

    def set_aside(self, mask: pl.Series, reason: str, shown: pl.Series, *, excluded: bool = False) -> None:
        """Set aside the rows where the mask holds; ``shown`` supplies the examples of the notice."""
        new = mask.fill_null(False) & self.kept
        if not new.any():
            return
        self._reason = self._reason.set(new, reason)
        notice = self._findings.note if excluded else self._findings.warn
        notice(self._name, reason, int(new.sum()), examples(shown, new))
        if excluded:
            self._excluded.add(reason)

    def apply_rules(self, *, excluded: bool) -> None:
        for rule in self._table.rules:
            if rule.excluded == excluded:
                mask = self._table.frame.select(rule.when.alias("mask"))["mask"]
                self.set_aside(mask, rule.reason, self._table.frame["item_id"], excluded=excluded)

    def drop_duplicates(self, shown: pl.Series) -> None:
        self.set_aside(self._repeated(), DUPLICATE, shown)

    def note_duplicates(self, kind: str, shown: pl.Series) -> None:
        """Count what `drop_duplicates` would set aside, and keep it."""
        repeated = self._repeated() & self.kept
        self._findings.note(self._name, kind, int(repeated.sum()), examples(shown, repeated))

    def _repeated(self) -> pl.Series:
        return ~self._table.frame.select(pl.struct(pl.all()).is_first_distinct().alias("first"))["first"]

    def count(self) -> TableCount:
        reasons = Counter(self._reason.drop_nulls().to_list()) if not self.kept.all() else Counter()
        return TableCount(
            rows_in=self._reason.len(),
            rows_out=int(self.kept.sum()),
            rejected={reason: n for reason, n in sorted(reasons.items()) if reason not in self._excluded},
            excluded={reason: n for reason, n in sorted(reasons.items()) if reason in self._excluded},
        )
