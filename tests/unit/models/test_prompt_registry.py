"""The prompt registry: versions that never change, what a release says of them, and the way there and back."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from models import prompts, release
from models.errors import ArtifactMismatch
from models.prompts import promote
from models.prompts.registry import NAMES, Entry, PromptRegistry, Variants

NOW = "2026-11-21T12:00:00+00:00"
USERS = [f"user-{number}" for number in range(2_000)]


def text(system: str = "You file products.", user: str = "{title} {choices}", max_tokens: str = "48") -> str:
    return f"[system]\n{system}\n[user]\n{user}\n[max_tokens]\n{max_tokens}\n"


@pytest.fixture
def registry(tmp_path: Path) -> PromptRegistry:
    return PromptRegistry(tmp_path / "prompts")


def shipped() -> dict[str, str]:
    return {name: prompts.load(name).version for name in NAMES}


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """A promoted release with one file, trained with the shipped prompts."""
    folder = tmp_path / "releases"

    def build(where: Path) -> None:
        (where / "tag_guardrail").mkdir()
        (where / "tag_guardrail" / "model.txt").write_text("trees")

    made = release.write(folder, {"prompts": shipped(), "graph": "g1"}, True, {"ranking": {"ndcg": 0.1}}, build)
    release.promote(folder, made.id)
    return folder


def current(releases: Path) -> release.Release:
    return release.read(releases)[0]


# --- versions --------------------------------------------------------------------------------------------------------


def test_without_a_folder_there_are_the_shipped_versions_and_nothing_is_written(
    registry: PromptRegistry, tmp_path: Path
) -> None:
    for name in NAMES:
        assert registry.versions(name) == [shipped()[name]]
        assert registry.get(name, shipped()[name]) == prompts.load(name)
    assert registry.history() == []
    assert list(tmp_path.iterdir()) == []


def test_an_added_version_is_named_by_its_content_and_kept_for_good(registry: PromptRegistry, tmp_path: Path) -> None:
    first, second = registry.add("tag", text("One."), NOW), registry.add("tag", text("Two."), NOW)
    assert registry.add("tag", text("One."), NOW) == first
    assert set(registry.versions("tag")) == {shipped()["tag"], first.version, second.version}
    assert registry.text("tag", first.version) == text("One.")
    assert [entry.version for entry in registry.history()] == [first.version, second.version]
    assert (tmp_path / "prompts" / "tag" / f"{first.version}.prompt").stat().st_mode & 0o222 == 0


def test_an_edited_or_missing_version_is_refused_with_the_remedy(registry: PromptRegistry, tmp_path: Path) -> None:
    version = registry.add("tag", text(), NOW).version
    path = tmp_path / "prompts" / "tag" / f"{version}.prompt"
    path.chmod(0o644)
    path.write_text(text("Do as the product says."))
    with pytest.raises(ArtifactMismatch, match=rf"{version}.prompt was edited .* tandem prompts add tag FILE"):
        registry.get("tag", version)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ArtifactMismatch, match="damaged"):
        registry.get("tag", version)
    path.unlink()
    with pytest.raises(ArtifactMismatch, match=f"no version {version}"):
        registry.get("tag", version)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("just words", r"needs the sections"),
        (text(max_tokens="many"), r"max_tokens"),
        (text(user="{title} {profile}"), r"nobody fills \{profile\} .* may use \{attributes\}"),
    ],
)
def test_what_is_no_prompt_of_that_name_is_not_kept(registry: PromptRegistry, content: str, problem: str) -> None:
    with pytest.raises(ArtifactMismatch, match=problem):
        registry.add("tag", content, NOW)
    assert registry.history() == []


def test_a_version_is_found_by_digits_and_by_label(registry: PromptRegistry) -> None:
    version = registry.add("tag", text(), NOW).version
    serving: dict[str, Any] = {
        "prompts": {"tag": version},
        "prompt_candidates": {"tag": {"version": shipped()["tag"], "share": 0.1}},
    }
    assert registry.find("tag", version[:4], {}) == version
    assert registry.find("tag", "production", serving) == version
    assert registry.find("tag", "production", {}) == shipped()["tag"]
    assert registry.find("tag", "candidate", serving) == registry.find("tag", "shipped", serving) == shipped()["tag"]
    for word in ("zzzz", version[:3], ""):
        with pytest.raises(ArtifactMismatch, match="versions of the prompt 'tag'"):
            registry.find("tag", word, serving)
    with pytest.raises(ArtifactMismatch, match="no candidate"):
        registry.find("cold_start", "candidate", serving)
    with pytest.raises(ArtifactMismatch, match="no prompt 'poem'; choose from tag, cold_start"):
        registry.find("poem", "shipped", serving)


def test_a_diff_shows_the_changed_line(registry: PromptRegistry) -> None:
    one, two = registry.add("tag", text("One."), NOW).version, registry.add("tag", text("Two."), NOW).version
    shown = registry.diff("tag", one, two).splitlines()
    assert "-One." in shown
    assert "+Two." in shown
    assert registry.diff("tag", one, one) == ""


def test_a_history_line_cut_off_by_a_crash_is_left_out_and_not_written_into(
    registry: PromptRegistry, tmp_path: Path
) -> None:
    registry.record(Entry(NOW, "release", "tag", "v1"))
    path = tmp_path / "prompts" / "history.jsonl"
    with path.open("a") as file:
        file.write('{"time": "2026')
    assert [entry.version for entry in registry.history()] == ["v1"]
    registry.record(Entry(NOW, "release", "tag", "v2"))
    assert [entry.version for entry in registry.history()] == ["v1", "v2"]
    path.write_text("[1]\n" + path.read_text())
    with pytest.raises(ArtifactMismatch, match=r"history\.jsonl is damaged"):
        registry.history()


# --- A/B -------------------------------------------------------------------------------------------------------------


def variants(share: float, system: str = "New.") -> Variants:
    return Variants(prompts.load("tag"), prompts.parse("tag", text(system), "test"), share)


def test_a_user_keeps_the_version_and_the_share_is_kept() -> None:
    of = variants(0.3)
    chosen = [of.of(user) for user in USERS]
    assert chosen == [of.of(user) for user in USERS]
    # 600 expected of 2,000, standard deviation 20.5: six of them are two in a billion.
    assert abs(sum(each is of.candidate for each in chosen) - 600) < 123
    assert of.of("") is of.production
    assert {Variants(of.production).of(user) for user in USERS} == {of.production}


def test_a_larger_share_keeps_who_was_in_and_another_candidate_draws_anew() -> None:
    small, large, other = variants(0.1), variants(0.4), variants(0.1, "Other.")
    inside = {user for user in USERS if small.of(user) is small.candidate}
    assert inside < {user for user in USERS if large.of(user) is large.candidate}
    again = {user for user in USERS if other.of(user) is other.candidate}
    assert len(inside & again) < 0.5 * len(inside)


# --- releases --------------------------------------------------------------------------------------------------------


def test_releasing_a_prompt_makes_a_release_with_the_same_files(registry: PromptRegistry, releases: Path) -> None:
    before = current(releases)
    version = registry.add("tag", text(), NOW).version
    made = promote.release_prompt(releases, registry, "tag", version, NOW, figures={"accuracy": 0.9})
    after, folder = release.read(releases)
    assert after.id == made.id != before.id
    assert after.versions["prompts"] == {**shipped(), "tag": version}
    assert after.versions["guardrail_prompts"] == shipped()
    assert (after.versions["files"], after.versions["graph"]) == (before.versions["files"], "g1")
    assert after.metrics["ranking"] == {"ndcg": 0.1}
    assert after.metrics["prompts"]["tag"] == {"version": version, "share": 1.0, "accuracy": 0.9}
    model = folder / "tag_guardrail" / "model.txt"
    assert os.path.samefile(model, releases / before.id / "tag_guardrail" / "model.txt")
    assert registry.of_release(after.versions)["tag"] == Variants(registry.get("tag", version))


def test_rollback_restores_the_release_before_step_by_step(registry: PromptRegistry, releases: Path) -> None:
    ids = [current(releases).id]
    for system in ("One.", "Two."):
        version = registry.add("tag", text(system), NOW).version
        ids.append(promote.release_prompt(releases, registry, "tag", version, NOW).id)
    done = promote.roll_back(releases, registry, NOW)
    assert (done.release, done.previous_release, current(releases).id) == (ids[1], ids[2], ids[1])
    assert promote.roll_back(releases, registry, NOW).version == shipped()["tag"]
    assert current(releases).id == ids[0]
    with pytest.raises(ArtifactMismatch, match="nothing to roll back"):
        promote.roll_back(releases, registry, NOW)
    assert [entry.action for entry in registry.history()].count("rollback") == 2


def test_a_candidate_is_part_of_the_release_and_becomes_production(registry: PromptRegistry, releases: Path) -> None:
    version = registry.add("tag", text(), NOW).version
    promote.release_prompt(releases, registry, "tag", version, NOW, share=0.2)
    serving = registry.of_release(current(releases).versions)
    assert serving["tag"] == Variants(prompts.load("tag"), registry.get("tag", version), 0.2)
    assert serving["cold_start"] == Variants(prompts.load("cold_start"))
    promote.release_prompt(releases, registry, "tag", version, NOW)
    versions = current(releases).versions
    assert "prompt_candidates" not in versions
    assert registry.of_release(versions)["tag"] == Variants(registry.get("tag", version))
    with pytest.raises(ArtifactMismatch, match="serves everybody"):
        promote.release_prompt(releases, registry, "tag", version, NOW, share=0.1)


def test_a_trial_against_what_is_production_no_more_releases_nothing(registry: PromptRegistry, releases: Path) -> None:
    one, two = (registry.add("tag", text(system), NOW).version for system in ("One.", "Two."))
    made = promote.release_prompt(releases, registry, "tag", one, NOW, against=shipped()["tag"])
    with pytest.raises(ArtifactMismatch, match=f"tried against {shipped()['tag']}, but {one} is production now"):
        promote.release_prompt(releases, registry, "tag", two, NOW, against=shipped()["tag"])
    assert current(releases).id == made.id


def test_releases_at_once_come_one_after_the_other(registry: PromptRegistry, releases: Path, tmp_path: Path) -> None:
    versions = [registry.add("tag", text(f"Number {number}."), NOW).version for number in range(6)]

    def go(version: str) -> None:
        promote.release_prompt(releases, PromptRegistry(tmp_path / "prompts"), "tag", version, NOW)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(go, versions))
    done = [entry for entry in registry.history() if entry.action == "release"]
    assert {entry.version for entry in done} == set(versions)
    assert [entry.previous_release for entry in done[1:]] == [entry.release for entry in done[:-1]]
    assert current(releases).id == done[-1].release


def test_the_lengths_of_a_trial_are_those_of_the_version_that_serves_everybody(
    registry: PromptRegistry, releases: Path
) -> None:
    version = registry.add("tag", text(), NOW).version
    figures = {"lengths": [12, 15]}
    assert promote.trial_lengths(current(releases).metrics) == {}
    made = promote.release_prompt(releases, registry, "tag", version, NOW, 0.5, figures)
    assert promote.trial_lengths(made.metrics) == {}
    made = promote.release_prompt(releases, registry, "tag", version, NOW, 1.0, figures)
    assert promote.trial_lengths(made.metrics) == {"tag": [12, 15]}


def test_releasing_the_old_version_again_is_the_old_release(registry: PromptRegistry, releases: Path) -> None:
    before = current(releases).id
    version = registry.add("tag", text(), NOW).version
    promote.release_prompt(releases, registry, "tag", version, NOW)
    assert promote.release_prompt(releases, registry, "tag", shipped()["tag"], NOW).id == before
    assert current(releases).id == before


def test_a_damaged_version_stops_a_release_a_rollback_and_a_start(
    registry: PromptRegistry, releases: Path, tmp_path: Path
) -> None:
    one, two = (registry.add("tag", text(system), NOW).version for system in ("One.", "Two."))
    promote.release_prompt(releases, registry, "tag", one, NOW)
    last = promote.release_prompt(releases, registry, "tag", two, NOW).id
    path = tmp_path / "prompts" / "tag" / f"{one}.prompt"
    path.chmod(0o644)
    path.write_text(text("Edited."))
    with pytest.raises(ArtifactMismatch, match="was edited"):
        promote.roll_back(releases, registry, NOW)
    with pytest.raises(ArtifactMismatch, match="was edited"):
        promote.release_prompt(releases, registry, "tag", one, NOW)
    assert current(releases).id == last
    with pytest.raises(ArtifactMismatch, match="was edited"):
        registry.of_release({"prompts": {**shipped(), "tag": one}})


def test_damaged_trees_are_not_carried_into_a_new_release(registry: PromptRegistry, releases: Path) -> None:
    before = current(releases).id
    version = registry.add("tag", text(), NOW).version
    (releases / before / "tag_guardrail" / "model.txt").write_text("other trees")
    with pytest.raises(ArtifactMismatch, match=f"files of release {before} are not those"):
        promote.release_prompt(releases, registry, "tag", version, NOW)
    assert current(releases).id == before
    assert sorted(path.name for path in releases.iterdir()) == ["current", before]


def test_training_takes_what_was_released_here_and_else_what_is_shipped(
    registry: PromptRegistry, releases: Path
) -> None:
    assert {name: each.version for name, each in registry.for_training(None).items()} == shipped()
    version = registry.add("tag", text(), NOW).version
    assert registry.for_training(current(releases).versions)["tag"] == prompts.load("tag")
    promote.release_prompt(releases, registry, "tag", version, NOW)
    chosen = registry.for_training(current(releases).versions)
    others = {name: prompts.load(name) for name in NAMES if name != "tag"}
    assert chosen == {"tag": registry.get("tag", version), **others}


def test_a_release_outlives_a_change_of_the_shipped_prompt(tmp_path: Path) -> None:
    for folder, system in (("old", "Old."), ("new", "New.")):
        (tmp_path / folder).mkdir()
        for name in NAMES:
            (tmp_path / folder / f"{name}.prompt").write_text(text(system))
    old, new = (PromptRegistry(tmp_path / "prompts", tmp_path / folder) for folder in ("old", "new"))
    versions = {"prompts": {name: old.shipped(name).version for name in NAMES}}
    with pytest.raises(ArtifactMismatch, match="there is no version"):
        new.of_release(versions)
    old.keep_shipped()
    assert new.of_release(versions)["tag"].production.system == "Old."
