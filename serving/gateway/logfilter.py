"""What a log line may not hold: personal data and keys. A filter for handlers, so that no logger is forgotten."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Final

from serving.gateway.ports import Redactor

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SHORTEST: Final = 8
"""Characters; a shorter secret would take words out of every line."""
_KEYS: Final = re.compile(
    # Authorization: Bearer ...; "api_key": "..."; token=...; the value, up to what ends it
    r"(?P<name>(?i:[\"']?(?:authorization|proxy-authorization|x-api-key|api[_-]?key|access[_-]?key|secret(?:[_-]?key)?"
    r"|client[_-]?secret|password|passwd|pwd|(?:access|refresh|auth|id|bearer|hf)[_-]?token|private[_-]?key|cookie|set-cookie)"
    r"[\"']?\s{0,3}[:=]\s{0,3}))(?P<quote>[\"']?)(?:(?i:bearer|basic|token)\s+)?(?P<value>[^\s\"',;&}\]]{1,4096})"
    r"|(?P<bearer>\b(?i:bearer|basic)\s+)(?=[\w.~+/=-]*[\d_+/=.-])[\w.~+/=-]{8,4096}"
    # Keys known by their first letters; JSON web tokens; a password in a URL
    r"|\b(?:sk|pk|rk|gsk|xai|ak)-[\w-]{16,256}|\bhf_\w{16,128}|\b(?:ghp|gho|ghu|ghs|github_pat|glpat|xox[abprs])[_-][\w-]{16,256}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,64}|\beyJ[\w-]{8,4096}\.[\w-]{8,4096}\.[\w-]{4,4096}"
    r"|(?P<scheme>\b[a-z][a-z0-9+.-]{1,20}://[^\s/@:]{0,128}:)[^\s/@]{1,512}(?=@)"
)


class RedactingFilter(logging.Filter):
    """Takes personal data and keys out of a record: message, arguments, exception text, stack and ``extra`` strings.

    Put it on handlers. ``secrets``: exact values that never may appear, whatever stands around them. A record that
    cannot be formatted is kept as its unformatted text, redacted.
    """

    def __init__(self, redactor: Redactor, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._redactor = redactor
        long = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, long))) if long else None

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: nothing is dropped."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = f"{record.msg} {record.args}"
        record.msg, record.args = self.clean(message), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            # A formatter takes the text where there is one; a handler that makes its own would undo this.
            record.exc_text, record.exc_info = self.clean(record.exc_text), None
        if record.stack_info:
            record.stack_info = self.clean(record.stack_info)
        for name, value in vars(record).items():
            if name not in _STANDARD and isinstance(value, str):
                setattr(record, name, self.clean(value))
        return True

    def clean(self, text: str) -> str:
        """A text without secrets, keys and personal data."""
        return self._redactor.redact(
            without_keys(text if self._secrets is None else self._secrets.sub("[KEY]", text))
        ).text


def without_keys(text: str) -> str:
    """The text with what looks like a key, a token or a password replaced by ``[KEY]``."""
    return _KEYS.sub(_marked, text)


def _marked(match: re.Match[str]) -> str:
    if match["name"]:
        return f"{match['name']}{match['quote']}[KEY]"
    return f"{match['bearer'] or match['scheme'] or ''}[KEY]"
