"""Errors of the model side. A message names what failed, the value and the remedy; serving maps classes to codes."""

import math


class ModelError(Exception):
    """Base of every error raised by `models`."""


class ArtifactMismatch(ModelError):
    """An artifact is missing, damaged, or was made for another schema than the code that loads it."""


class PromptTooLong(ModelError):
    """The prompt does not fit into the model's context beside the tokens to generate."""


class EngineTimeout(ModelError):
    """An engine did not answer within its time."""


class EngineUnavailable(ModelError):
    """An engine is not loaded, has died, or answered with an error of its own.

    ``retry_after_s``: how long it asks to be left alone, NaN where it does not say. ``usage``: prompt and completion
    tokens it counted all the same, (0, 0) where the work cannot have begun, None where nobody knows.
    """

    def __init__(self, *args: object, retry_after_s: float = math.nan, usage: tuple[int, int] | None = (0, 0)) -> None:
        super().__init__(*args)
        self.retry_after_s = retry_after_s
        self.usage = usage


class EngineLoading(EngineUnavailable):
    """An engine is still being loaded: it has not failed, and will answer later."""


class UnusableAnswer(ModelError):
    """Every answer of the LLM broke its schema, named what does not exist, or may not be shown."""


class InvalidVocabulary(ModelError):
    """A vocabulary cannot be read or is not sound; the message lists what is wrong with which label or attribute."""


class MissingExtra(ModelError):
    """A library of an optional extra is not installed; the message is the exact command that installs it."""
