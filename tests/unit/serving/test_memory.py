"""What a service does with its memory."""

from __future__ import annotations

import gc

from serving.memory import keep_for_good


def test_what_is_loaded_is_not_looked_through_for_garbage() -> None:
    loaded = [[number] for number in range(1_000)]
    try:
        keep_for_good()
        assert gc.get_freeze_count() > len(loaded)
        assert not any(each is loaded for each in gc.get_objects())
    finally:
        gc.unfreeze()
