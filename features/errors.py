"""Errors of the feature side. A message names what failed, the value and the remedy; serving maps classes to codes."""


class FeatureError(Exception):
    """Base of every error raised by `features`."""


class WorkspaceError(FeatureError):
    """A workspace is missing, was made by another version, or lacks a step that must come first."""


class SchemaMismatch(FeatureError):
    """Stored features were computed under another schema than the running code's."""


class StoreUnavailable(FeatureError):
    """The online store or the event log cannot be read or written."""


class InvalidEvent(FeatureError):
    """An event cannot be recorded as it is: its message names the field, the value and the remedy."""
