"""The API key: made once, for its owner only, and asked for by every call."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving import auth
from serving.errors import Unauthenticated


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "api_key"


def test_key_is_made_once_and_kept(path: Path) -> None:
    key = auth.ensure_key(path)
    assert len(key) >= 32
    assert auth.ensure_key(path) == key
    assert auth.read_key(path) == key


def test_key_is_readable_by_its_owner_only_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        auth.ensure_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0


def test_two_workspaces_have_two_keys(tmp_path: Path) -> None:
    assert auth.ensure_key(tmp_path / "a" / "key") != auth.ensure_key(tmp_path / "b" / "key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_key_that_others_may_read_is_refused_with_the_command_that_helps(path: Path, mode: int) -> None:
    auth.ensure_key(path)
    path.chmod(mode)
    for use in (auth.read_key, auth.ensure_key):
        with pytest.raises(Unauthenticated, match=f"chmod 600 {path}"):
            use(path)


def test_absent_key_names_the_remedy(path: Path) -> None:
    with pytest.raises(Unauthenticated, match="tandem serve"):
        auth.read_key(path)


@pytest.mark.parametrize("content", ["", "\n", "short\n"])
def test_damaged_key_file_is_refused(path: Path, content: str) -> None:
    auth.ensure_key(path)
    path.write_text(content)
    with pytest.raises(Unauthenticated, match="delete the file"):
        auth.read_key(path)


def test_key_file_that_is_no_text_is_refused(path: Path) -> None:
    auth.ensure_key(path)
    path.write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(Unauthenticated, match="delete the file"):
        auth.read_key(path)


def test_two_starts_at_once_agree_on_one_key(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: auth.ensure_key(path), range(8)))) == 1


KEY = "k" * 32


@pytest.mark.parametrize("value", [f"Bearer {KEY}", f"Bearer {KEY}".encode()])
def test_call_with_the_key_passes(value: str | bytes) -> None:
    auth.check(KEY, [("user-agent", "test"), ("authorization", value)])


@pytest.mark.parametrize(
    "value", ["", KEY, f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", f"bearer {KEY}", "Bearer", f"Bearer {KEY} ", b"\xff\xfe"]
)
def test_call_with_another_key_is_refused_without_repeating_it(value: str | bytes) -> None:
    with pytest.raises(Unauthenticated, match="not the service's") as refused:
        auth.check(KEY, [("authorization", value)])
    assert KEY not in str(refused.value)


def test_call_without_a_key_is_told_which_metadata_to_send() -> None:
    with pytest.raises(Unauthenticated, match="authorization: Bearer KEY"):
        auth.check(KEY, [("x-request-id", "1")])
