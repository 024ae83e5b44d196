"""The settings file: one for training and serving."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from cli.console import fail
from features.workspace import Workspace

if TYPE_CHECKING:
    from models.llm import LLMConfig
    from models.ports import LLMEngine
    from serving.config import ServeConfig
    from training.config import TrainConfig


class Settings(BaseModel):
    """The settings file: ``[online_store]`` and ``[llm]`` are shared by training and serving."""

    model_config = ConfigDict(extra="forbid")

    online_store: dict[str, Any] = {}
    llm: dict[str, Any] | bool = {}
    """``llm = false`` trains and serves without one."""
    gateway: dict[str, Any] = {}
    train: dict[str, Any] = {}
    serve: dict[str, Any] = {}

    def _shared(self) -> dict[str, Any]:
        shared: dict[str, Any] = {"online_store": self.online_store}
        if self.llm is False:
            shared["llm"] = None
        elif isinstance(self.llm, dict) and self.llm:
            shared["llm"] = self.llm
        return shared

    def train_config(self) -> TrainConfig:
        from training.config import TrainConfig

        return TrainConfig.model_validate({**self._shared(), **self.train})

    def serve_config(self) -> ServeConfig:
        from serving.config import ServeConfig

        gateway = {"gateway": self.gateway} if self.gateway else {}
        return ServeConfig.model_validate({**self._shared(), **gateway, **self.serve})


def opener(workspace: Workspace, settings: Settings) -> Callable[[LLMConfig], LLMEngine]:
    """What opens a model for training: behind the gateway, its answers judged as in the service."""

    def opened(model: LLMConfig) -> LLMEngine:
        from serving.patient import open_patient

        return open_patient(workspace, settings.serve_config(), model, "train", judged=True)

    return opened


def read_settings(path: Path | None) -> Settings:
    if path is None:
        return Settings()
    try:
        return Settings.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        fail(f"the settings file {path} cannot be read ({error.strerror}); check --config")
    except tomllib.TOMLDecodeError as error:
        fail(f"the settings file {path} is no TOML: {error}")
