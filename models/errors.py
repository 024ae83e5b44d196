"""Errors of the model side. A message names what failed, the value and the remedy; serving maps classes to codes."""


class ModelError(Exception):
    """Base of every error raised by `models`."""


class ArtifactMismatch(ModelError):
    """An artifact is missing, damaged, or was made for another schema than the code that loads it."""


class PromptTooLong(ModelError):
    """The prompt does not fit into the model's context beside the tokens to generate."""


class EngineTimeout(ModelError):
    """An engine did not answer within its time."""


class EngineUnavailable(ModelError):
    """An engine is not loaded, has died, or answered with an error of its own."""


class MissingExtra(ModelError):
    """A library of an optional extra is not installed; the message is the exact command that installs it."""
