"""The review desk of one process: what becomes a case, and which groups go to review."""

from __future__ import annotations

import asyncio
import logging
import queue
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from features.errors import StoreUnavailable
from serving.review.audit import enough, sampled
from serving.review.cases import Change, Proposal, Resolved, Word
from serving.review.commit import GroupCommit
from serving.review.config import ReviewConfig
from serving.review.queue import ReviewQueue

_log = logging.getLogger(__name__)
_WAITING: Final = 1_024
"""Calls whose cases may wait to be written; a disk that is so far behind answers nobody in time."""
_FRESH_S: Final = 0.25
"""How old the known switches may be: what another process switched is obeyed no later."""


class ReviewDesk:
    """Puts cases into the queue as a service answers, and obeys the audit's switches.

    ``clock``: seconds since 1970, of cases, leases and words. ``ticks``: seconds that only grow. Raises
    StoreUnavailable where the queue cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        config: ReviewConfig,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.clock = clock
        self.queue = ReviewQueue(path, config, clock)
        enough(config.promise, config.confidence)  # a tenth of a second once, that no verdict waits for
        self._ticks = ticks
        self._writer = GroupCommit(self.queue.put, self.queue.sync, _WAITING)
        self._switched: frozenset[str] = frozenset(self.queue.switched())
        self._read_at = ticks()

    def audited(self, item_id: str, tag: str, release: str) -> bool:
        """Whether people check this accepted tag."""
        return sampled(item_id, tag, release, self.config.audit_rate)

    def review_only(self, group: str) -> bool:
        """Whether the group's accepted tags go to review. A set's look-up, but for a read every quarter of a second.

        Never raises: where the queue does not answer, what was known holds on.
        """
        now = self._ticks()
        if now - self._read_at >= _FRESH_S:
            self._read_at = now
            try:
                self._switched = frozenset(self.queue.switched())
            except StoreUnavailable as error:
                _log.error("the audit's switches are those of before: %s", error)
        return group in self._switched

    async def put_up(self, proposals: Sequence[Proposal], patience_s: float) -> str:
        """Have cases written; "" once no end of this process can lose them, or why that is not so (yet).

        At once where nobody else is writing, else in line with other answers, so that the event loop never waits.
        Waits ``patience_s`` seconds at most. What was not written in that time is written all the same, unless the
        reason says otherwise; a later Tag of the item brings it again.
        """
        if not proposals:
            return ""
        try:
            # Another thread's turn can be milliseconds away on a busy machine, this write is a fraction of one.
            if self.queue.put_at_once(proposals):
                self._writer.follow()
                return ""
            written = asyncio.wrap_future(self._writer.put(proposals))
            await asyncio.wait_for(asyncio.shield(written), max(0.0, patience_s))
        except queue.Full:
            return "the review queue is behind and took no cases for these tags"
        except TimeoutError:
            return "the review queue is behind; these tags' cases are not written yet"
        except StoreUnavailable as error:
            _log.error("no cases for %d tags: %s", len(proposals), error)
            return "the review queue does not answer; these tags have no cases"
        return ""

    def resolve(self, number: int, word: Word, release: str, *, overrule: bool = False) -> Resolved:
        """As `ReviewQueue.resolve`; a group it switches goes to review with this process's next tag."""
        resolved = self.queue.resolve(number, word, release, overrule=overrule)
        if resolved.switched:
            self._switched |= {resolved.switched}
        return resolved

    def reset(self, group: str, person: str, reason: str) -> Change:
        """As `ReviewQueue.reset`; the group may accept with this process's next tag."""
        change = self.queue.reset(group, person, reason)
        self._switched -= {group}
        return change

    def close(self) -> None:
        """Write what waits and let go of the queue."""
        self._writer.close()
        self.queue.close()
