"""A prompt goes live, or back, as a release: the same trees and index, another version of one prompt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models import release
from models.errors import ArtifactMismatch
from models.prompts.registry import Entry, PromptRegistry, last_of
from models.release import Release

PROMPTS = "prompts"
CANDIDATES = "prompt_candidates"
LEARNED_WITH = "guardrail_prompts"
"""Entries of a release's versions. The last: versions the guardrails were trained with, where others serve now."""


def release_prompt(
    releases: Path,
    registry: PromptRegistry,
    name: str,
    version: str,
    now: str,
    share: float = 1.0,
    figures: Mapping[str, Any] | None = None,
    against: str | None = None,
) -> Release:
    """Make and promote the release in which this version serves everybody, or below a ``share`` of 1 is the candidate.

    ``figures``: of its trial, kept in the release and in the history. ``against``: the version it was tried against,
    which must still be production's. ``now``: ISO 8601. Raises ArtifactMismatch.
    """
    registry.get(name, version)
    with registry.locked():
        current, _ = release.read(releases)
        previous = str(current.versions[PROMPTS].get(name, ""))
        if against is not None and against != previous:
            raise ArtifactMismatch(
                f"version {version} of the prompt {name!r} was tried against {against}, but {previous} is production "
                f"now: try it again, tandem prompts test {name} {version}"
            )
        if share < 1.0 and version == previous:
            raise ArtifactMismatch(f"version {version} of the prompt {name!r} serves everybody: it is no candidate")
        trials = {**current.metrics.get(PROMPTS, {}), name: {"version": version, "share": share, **(figures or {})}}
        # A version named for the first time is kept before a release names it, be it only shipped until now.
        registry.keep_shipped()
        changes = _changes(current.versions, name, version, share)
        made = release.derive(releases, current.id, changes, {PROMPTS: trials})
        if made.id != current.id:
            registry.record(Entry(now, "release", name, version, previous, made.id, current.id, share, figures or {}))
            release.promote(releases, made.id)
    return made


def _changes(versions: Mapping[str, Any], name: str, version: str, share: float) -> dict[str, Any]:
    serving: dict[str, str] = dict(versions[PROMPTS])
    candidates: dict[str, Any] = dict(versions.get(CANDIDATES) or {})
    learned: dict[str, str] = dict(versions.get(LEARNED_WITH) or serving)
    if share < 1.0:
        candidates[name] = {"version": version, "share": share}
    else:
        serving[name] = version
        candidates.pop(name, None)
    return {
        PROMPTS: serving,
        CANDIDATES: candidates or None,
        # The trees weigh an LLM's answer as they saw it answer in training; whoever asks must be able to see that.
        LEARNED_WITH: learned if learned != serving or candidates else None,
    }


def roll_back(releases: Path, registry: PromptRegistry, now: str) -> Entry:
    """Promote what was promoted before the prompt released last; answers the history's entry of it.

    Raises ArtifactMismatch where the promoted release is not one that a prompt's release made.
    """
    with registry.locked():
        current, _ = release.read(releases)
        done = last_of(registry.history(), current.id)
        if done is None:
            raise ArtifactMismatch(
                f"the promoted release {current.id} does not come from a prompt's release: there is nothing to roll "
                "back. A version goes live by: tandem prompts release NAME VERSION"
            )
        before, _ = release.read(releases, done.previous_release)
        registry.of_release(before.versions)
        version = str(before.versions[PROMPTS][done.name])
        entry = Entry(now, "rollback", done.name, version, done.version, before.id, current.id)
        registry.record(entry)
        release.promote(releases, before.id)
    return entry


def trial_lengths(metrics: Mapping[str, Any]) -> dict[str, list[int]]:
    """By prompt: completion tokens of the good answers in the trial of the version that serves everybody.

    What the quality monitors compare live answers with; prompts that were never tried are left out.
    """
    trials = metrics.get(PROMPTS) or {}
    return {
        name: list(trial["lengths"]) for name, trial in trials.items() if trial["share"] == 1.0 and "lengths" in trial
    }
