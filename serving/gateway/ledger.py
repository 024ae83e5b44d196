"""What was spent on LLMs, by whom: one SQLite file that all replicas share and a restart finds again."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars as pl

from features.errors import StoreUnavailable
from features.sqlitefile import SqliteFile
from serving.errors import BudgetExceeded
from serving.gateway import ledgersql as sql
from serving.gateway.budget import Account, Booking, Bound, Spent, frame_of, refuse

_log = logging.getLogger(__name__)

_SETTLE_S = 0.1
"""What calls really took is written together with the next reservation, or after so long."""
_AHEAD = 2
"""So much of what was reserved since the last transaction is set aside for the calls to come."""
_FADE = 0.7
"""What was usual before a transaction counts so much after it, where less was asked: calls come in bursts."""
_LINGER_S = 2.0
"""So long after the last call what is set aside ahead is kept for the next burst."""
_SPARE = 64
"""But no more than this part of what is left: near its end a budget is given out call by call."""
_BUSY_S = 0.001
"""Another process writes: it takes a fraction of this."""
_AGAIN_S = 1.0
"""Until what could not be written is tried again."""
_PATIENCE_S = 5.0
_BEAT_S = 10.0
_CHECKPOINT = 4_000
"""Transactions after which the journal is folded into the file."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Tokens and cost (`UNIT`) set aside for one engine call; `Ledger.settle` must follow.

    ``held``: the accounts they are set aside in, those of ``accounts`` that have a limit and the first, everybody's.
    """

    booking: Booking
    accounts: tuple[Account, ...]
    tokens: int
    units: int
    held: tuple[Account, ...]


@dataclass(slots=True)
class _Waiting:
    reservation: Reservation
    bounds: Sequence[Bound]
    done: asyncio.Future[None]


@dataclass(slots=True)
class _Share:
    """What this process has of an account: pairs of tokens and `UNIT`."""

    bound: Bound
    held: tuple[int, int] = (0, 0)
    """Reserved for calls under way."""
    asked: tuple[int, int] = (0, 0)
    """Reserved since the last transaction, by so many ``calls``."""
    calls: int = 0
    usual: tuple[int, int] = (0, 0)
    """Reserved between two transactions of late, by ``usual_calls``; the last at ``asked_at`` (the loop's time)."""
    usual_calls: float = 0.0
    asked_at: float = -math.inf
    ahead: tuple[int, int] = (0, 0)
    """Set aside in the file for calls to come."""
    written: tuple[int, int] = (0, 0)
    """All that the file holds for this process: for calls under way, to be booked, and ahead."""


@lru_cache(1_024)
def _accounts(bounds: tuple[Bound, ...]) -> tuple[tuple[Account, ...], tuple[Bound, ...], tuple[Account, ...]]:
    """All accounts, the bounds with a limit, and what a reservation holds: see `Reservation`."""
    accounts = tuple(bound.account for bound in bounds)
    limited = tuple(bound for bound in bounds if bound.limited)
    held = dict.fromkeys((*accounts[:1], *(bound.account for bound in limited)))
    return accounts, limited, tuple(held) if limited else ()


class Ledger:
    """Reserves the worst case of a call before it is made, and books what it came to. For one event loop.

    Reservations that come in one turn of the loop share a transaction: all their accounts are read and written under
    the file's write lock, so no two processes can give away the same rest. While calls follow each other closely a
    transaction sets something aside for the next ones too (at most a 64th of what is left), and those need none: a
    budget is never passed, but another process may be refused that much before its end. A transaction outlives the
    process; a power cut may take the last ones (``synchronous=NORMAL``: no wait for the disk). A process that dies
    leaves behind what it had set aside: after ``stale_s`` without a sign of it that is booked as spent, for nobody
    knows what the engine was still given.
    """

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time, stale_s: float = 120.0) -> None:
        """Raises StoreUnavailable."""
        self._path = path
        self._file = SqliteFile(path, sql.SCHEMA, "ledger of LLM budgets")
        self._file.db.execute("PRAGMA synchronous=NORMAL")
        self._file.db.execute("PRAGMA busy_timeout=0")  # the loop must not wait for another process
        self._file.db.execute("PRAGMA wal_autocheckpoint=0")  # nor for the disk
        self.wall = wall
        self._stale_s = stale_s
        self._owner = secrets.token_hex(8)
        self._beat = -_BEAT_S
        self._waiting: list[_Waiting] = []
        self._shares: dict[Account, _Share] = {}
        self._changed: set[Account] = set()
        self._closing = False
        self._to_account: dict[Account, tuple[int, int]] = {}
        self._to_spend: dict[Booking, Spent] = {}
        self._known: dict[Account, tuple[int, int]] = {}
        self._version = -1
        self._book_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        self._transactions = 0
        self._checkpoints = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    async def reserve(self, booking: Booking, tokens: int, units: int, bounds: Sequence[Bound]) -> Reservation:
        """Set ``tokens`` and ``units`` aside in every account of ``bounds``, or in none: BudgetExceeded.

        Where no account has a limit nothing is set aside and nothing waited for. Raises StoreUnavailable.
        """
        accounts, limited, held = _accounts(tuple(bounds))
        reservation = Reservation(booking, accounts, tokens, units, held)
        if not limited:
            return reservation
        if self._covered(reservation):
            for account in reservation.held:
                self._hold(account, tokens, units)
            self._schedule(_SETTLE_S)
            return reservation
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(reservation, limited, done))
        self._schedule(0.0)
        try:
            await done
        except asyncio.CancelledError:
            if done.done() and not done.cancelled() and done.exception() is None:
                self.settle(reservation, Spent())  # it was set aside in the very turn the caller went away
            raise
        return reservation

    def settle(self, reservation: Reservation, spent: Spent) -> None:
        """Book what the call came to, and give back what it did not take. Never waits, never raises."""
        self._unhold(reservation)
        if spent.calls:
            total = spent.tokens
            for account in reservation.accounts:
                tokens, cost = self._to_account.get(account, (0, 0))
                self._to_account[account] = (tokens + total, cost + spent.units)
            if not self._to_spend:
                self._book_at = asyncio.get_running_loop().time() + _SETTLE_S
            self._to_spend[reservation.booking] = self._to_spend.get(reservation.booking, Spent()) + spent
        self._schedule(_SETTLE_S)

    @property
    def held(self) -> dict[Account, tuple[int, int]]:
        """Tokens and cost (`UNIT`) set aside by this process for calls under way."""
        return {account: share.held for account, share in self._shares.items() if any(share.held)}

    def spent(self, since: str = "", until: str = "9999-12-31") -> pl.DataFrame:
        """What was booked from day ``since`` to day ``until`` (ISO, both included), by all processes.

        Columns day, tenant, task, job, target, model (text), calls, prompt_tokens, completion_tokens, assumed_tokens
        (integers) and cost. The last tenth of a second may be missing: see `flush`. Raises StoreUnavailable.
        """
        with self._file.guard():
            rows = self._file.db.execute(sql.SPENT, (since, until)).fetchall()
        return frame_of(rows)

    async def flush(self) -> None:
        """Write what is settled by now. Raises StoreUnavailable, also where others keep the file locked for seconds."""
        before = self._transactions
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while self._transactions == before and (self._waiting or self._to_spend or self._changed):
                    self._book_at = 0.0
                    if error := self._write():
                        raise error
                    await asyncio.sleep(0.0 if self._transactions > before else _BUSY_S)
        except TimeoutError:
            raise StoreUnavailable(
                f"the ledger of LLM budgets {self._path} was locked for {_PATIENCE_S:.0f} s: end what holds it open"
            ) from None

    async def aclose(self) -> None:
        """Write what is settled and close the file; what is still reserved is booked as spent when it is stale."""
        self._closing = True
        self._changed.update(account for account, share in self._shares.items() if any(share.ahead))
        try:
            await self.flush()
            if not self.held:
                with self._file.guard():
                    self._file.db.execute(sql.FORGET, (self._owner,))
        except StoreUnavailable as error:
            _log.error("what LLMs cost last could not be booked: %s", error)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await asyncio.get_running_loop().run_in_executor(self._checkpoints, int)  # wait for a checkpoint
            self._checkpoints.shutdown()
            self._file.close()

    def _covered(self, reservation: Reservation) -> bool:
        """Whether what the file has set aside for this process is enough for one more call."""
        if self._waiting:
            return False  # who came first is served first
        for account in reservation.held:
            share = self._shares.get(account)
            if share is None or not any(share.ahead):
                return False
            due = self._to_account.get(account, (0, 0))
            if (
                share.held[0] + due[0] + reservation.tokens > share.written[0]
                or share.held[1] + due[1] + reservation.units > share.written[1]
            ):
                return False
        return True

    def _hold(self, account: Account, tokens: int, units: int) -> None:
        share = self._shares.get(account)
        if share is None:
            share = self._shares[account] = _Share(Bound(account, None, None))
        share.held = (share.held[0] + tokens, share.held[1] + units)
        if tokens > 0 or units > 0:
            share.asked = (share.asked[0] + tokens, share.asked[1] + units)
            share.calls += 1
        self._changed.add(account)

    def _schedule(self, delay: float) -> None:
        """Have `_write` called in ``delay`` seconds, if it is not called sooner anyway."""
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        if self._due <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = loop.call_at(due, self._write), due

    def _write(self) -> StoreUnavailable | None:
        """One transaction with all that is due; whatever fails, what is settled stays due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._due = None, math.inf
        db = self._file.db
        waiting = [one for one in self._waiting if not one.done.done()]
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                self._waiting = waiting
                self._schedule(_BUSY_S)
                return None
            return self._give_up(waiting, error)
        self._waiting = []
        granted: list[_Waiting] = []
        refusals: list[tuple[_Waiting, BudgetExceeded]] = []
        book = bool(self._to_spend) and asyncio.get_running_loop().time() >= self._book_at
        try:
            self._renew(db)
            self._look(db)
            self._decide(db, waiting, granted, refusals)
            if book:
                self._book(db)
            written = self._keep_held(db, booked=book)
            db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            for one in granted:
                self._unhold(one.reservation)
            self._beat = -_BEAT_S  # a sign of life may have been undone with the rest
            return self._give_up(waiting, error)
        if book:
            self._booked()
        for account, (total, ahead) in written.items():
            share = self._shares[account]
            share.written, share.ahead, share.asked, share.calls = total, ahead, (0, 0), 0
        self._changed.clear()
        for one in granted:
            one.done.set_result(None)
        for one, refusal in refusals:
            one.done.set_exception(refusal)
        self._after()
        return None

    def _decide(
        self,
        db: sqlite3.Connection,
        waiting: list[_Waiting],
        granted: list[_Waiting],
        refusals: list[tuple[_Waiting, BudgetExceeded]],
    ) -> None:
        used: dict[Account, tuple[int, int]] = {}
        for one in waiting:
            wanted = (one.reservation.tokens, one.reservation.units)
            try:
                for bound in one.bounds:
                    if bound.account not in used:
                        used[bound.account] = self._used(db, bound.account)
                    refuse(bound, used[bound.account], wanted)
            except BudgetExceeded as error:
                refusals.append((one, error))
                continue
            granted.append(one)
            for bound in one.bounds:
                self._shares.setdefault(bound.account, _Share(bound))
            for account in one.reservation.held:
                self._hold(account, *wanted)
                if account in used:
                    used[account] = (used[account][0] + wanted[0], used[account][1] + wanted[1])

    def _look(self, db: sqlite3.Connection) -> None:
        """Forget what was read if another process has written since."""
        version = db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._version = version
            self._known.clear()

    def _used(self, db: sqlite3.Connection, account: Account) -> tuple[int, int]:
        """Spent and reserved by everybody: this process' own share as it knows it, the others' as written."""
        known = self._known.get(account)
        if known is None:
            spent = db.execute(sql.ACCOUNT, account).fetchone() or (0, 0)
            others = db.execute(sql.OTHERS, (*account, self._owner)).fetchone()
            known = self._known[account] = (spent[0] + others[0], spent[1] + others[1])
        due = self._to_account.get(account, (0, 0))
        held = share.held if (share := self._shares.get(account)) else (0, 0)
        return known[0] + due[0] + held[0], known[1] + due[1] + held[1]

    def _book(self, db: sqlite3.Connection) -> None:
        if self._to_account:
            db.executemany(sql.ADD_ACCOUNT, [(*account, *amount) for account, amount in self._to_account.items()])
        if self._to_spend:
            db.executemany(
                sql.ADD_SPEND,
                [
                    (*booking, s.calls, s.prompt_tokens, s.completion_tokens, s.assumed_tokens, s.units)
                    for booking, s in self._to_spend.items()
                ],
            )

    def _booked(self) -> None:
        for account, due in self._to_account.items():
            if (known := self._known.get(account)) is not None:
                self._known[account] = (known[0] + due[0], known[1] + due[1])
        self._to_account.clear()
        self._to_spend.clear()

    def _keep_held(
        self, db: sqlite3.Connection, *, booked: bool
    ) -> dict[Account, tuple[tuple[int, int], tuple[int, int]]]:
        """Write what this process has set aside, and with it what is settled but not booked: a kill loses neither.

        Of each account written: all of it, and what of it is ahead.
        """
        if booked:
            self._changed.update(account for account in self._to_account if account in self._shares)
        written: dict[Account, tuple[tuple[int, int], tuple[int, int]]] = {}
        # An account without a limit is ahead for the sake of those with one that a call needs as well.
        for account in sorted(self._changed, key=lambda account: not self._shares[account].bound.limited):
            share = self._shares[account]
            due = (0, 0) if booked else self._to_account.get(account, (0, 0))
            needed = share.bound.limited or any(any(ahead) for _, ahead in written.values())
            ahead = self._ahead(db, account, share) if needed else (0, 0)
            total = (share.held[0] + due[0] + ahead[0], share.held[1] + due[1] + ahead[1])
            key = (*account, self._owner)
            if any(total):
                db.execute(sql.HOLD, (*key, *total))
            else:
                db.execute(sql.UNHOLD, key)
            written[account] = (total, ahead)
        return written

    def _ahead(self, db: sqlite3.Connection, account: Account, share: _Share) -> tuple[int, int]:
        """What to set aside for the calls to come: nothing, or enough for one at least."""
        now = asyncio.get_running_loop().time()
        if any(share.asked):
            faded = int(share.usual[0] * _FADE), int(share.usual[1] * _FADE)
            share.usual = max(share.asked[0], faded[0]), max(share.asked[1], faded[1])
            share.usual_calls = max(float(share.calls), share.usual_calls * _FADE)
            share.asked_at = now
        if self._closing or now - share.asked_at >= _LINGER_S:
            return 0, 0
        part = float(_AHEAD)
        if share.bound.limited:
            limits, used = (share.bound.tokens, share.bound.units), self._used(db, account)
            for limit, spent, asked in zip(limits, used, share.usual):
                if limit is not None and asked:
                    part = min(part, (limit - spent) / (_SPARE * asked))
        if part * share.usual_calls < 1:
            return 0, 0
        return int(share.usual[0] * part), int(share.usual[1] * part)

    def _renew(self, db: sqlite3.Connection) -> None:
        """Give a sign of life now and then, and book what dead processes left reserved."""
        now = self.wall()
        if now - self._beat < _BEAT_S:
            return
        self._beat = now
        if db.execute(sql.BEAT, (now, self._owner)).rowcount == 0:
            db.execute(sql.JOIN, (self._owner, now))
            self._changed.update(account for account, share in self._shares.items() if any(share.held))
        for (owner,) in db.execute(sql.STALE, (now - self._stale_s,)).fetchall():
            if db.execute(sql.BOOK_LOST, (owner,)).rowcount > 0:
                _log.warning("a process died with LLM calls under way: what was reserved for them is booked as spent")
            db.execute(sql.REPORT_LOST, (owner,))
            db.execute(sql.FORGET_HELD, (owner,))
            db.execute(sql.FORGET, (owner,))

    def _after(self) -> None:
        ahead = held = False
        for account, share in list(self._shares.items()):
            ahead |= any(share.ahead)
            held |= any(share.held)
            if not any(share.held) and not any(share.ahead) and account not in self._to_account:
                del self._shares[account]
        if self._to_spend:
            self._schedule(max(0.0, self._book_at - asyncio.get_running_loop().time()))
        if ahead:
            # Where no call follows, it is given back.
            last = max(share.asked_at for share in self._shares.values() if any(share.ahead))
            self._schedule(max(_SETTLE_S, last + _LINGER_S - asyncio.get_running_loop().time()))
            self._changed.update(account for account, share in self._shares.items() if any(share.ahead))
        elif held:
            self._schedule(_BEAT_S)
        self._transactions += 1
        if self._transactions % _CHECKPOINT == 0:
            self._checkpoints.submit(_checkpoint, self._path)

    def _unhold(self, reservation: Reservation) -> None:
        for account in reservation.held:
            self._hold(account, -reservation.tokens, -reservation.units)

    def _give_up(self, waiting: list[_Waiting], error: Exception) -> StoreUnavailable:
        self._waiting = []
        failure = StoreUnavailable(
            f"the ledger of LLM budgets {self._path} cannot be used ({error}); "
            "check the disk and the folder's permissions"
        )
        for one in waiting:
            one.done.set_exception(failure)
        if self._to_spend:
            self._schedule(_AGAIN_S)
            if not waiting:
                _log.error("%s", failure)
        return failure


def _checkpoint(path: Path) -> None:
    """Most of it beside the writers; then, for a moment, in their place, so that the journal starts again."""
    with sqlite3.connect(path, timeout=1.0) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        db.execute("PRAGMA wal_checkpoint(RESTART)")
    db.close()
