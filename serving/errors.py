"""Errors of serving itself. Messages of these classes reach clients, so they hold no internals."""


class ServingError(Exception):
    """Base of every error raised by `serving`."""


class InvalidRequest(ServingError):
    """A request breaks a bound or names something that cannot be: the message names the field, value and remedy."""


class Unauthenticated(ServingError):
    """The call carries no API key, or another one."""


class DeadlineExceeded(ServingError):
    """The caller's time was over before there was any answer."""


class NotAsserted(ServingError):
    """A fact cannot be taken back, for no service asserted it: it is stated elsewhere, or follows from other facts."""


class NotReady(ServingError):
    """The release lacks what the call needs; the message says how to get it."""


class BackfillFailed(ServingError):
    """A backfill could not run as asked; the message names the file and the remedy."""
