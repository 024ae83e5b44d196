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


class BudgetExceeded(ServingError):
    """What the LLM may cost a request, tenant or job is used up; the message says which, and when there is more."""


class BackfillFailed(ServingError):
    """A backfill could not run as asked; the message names the file and the remedy."""


class NotFound(ServingError):
    """A case of the review queue or a group of tags that is named does not exist."""


class CaseTaken(ServingError):
    """Another person holds the case, or somebody decided it; the message says who, and how to go on."""
