"""The settings file: one for training and serving."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from cli.console import UsageError, fail
from features.workspace import Workspace

if TYPE_CHECKING:
    from models.llm import LLMConfig
    from models.ports import LLMEngine
    from serving.config import ServeConfig
    from training.config import TrainConfig


Config = TypeVar("Config", bound=BaseModel)


class Settings(BaseModel):
    """The settings file: ``[online_store]`` and ``[llm]`` are shared by training and serving."""

    model_config = ConfigDict(extra="forbid")

    online_store: dict[str, Any] = {}
    llm: dict[str, Any] | bool = {}
    """``llm = false`` trains and serves without one."""
    gateway: dict[str, Any] = {}
    train: dict[str, Any] = {}
    serve: dict[str, Any] = {}
    _file: Path | None = PrivateAttr(default=None)

    def _shared(self) -> dict[str, Any]:
        shared: dict[str, Any] = {"online_store": self.online_store}
        if self.llm is False:
            shared["llm"] = None
        elif isinstance(self.llm, dict) and self.llm:
            shared["llm"] = self.llm
        return shared

    def train_config(self) -> TrainConfig:
        from training.config import TrainConfig

        return self._read(TrainConfig, {**self._shared(), **self.train}, "train")

    def serve_config(self) -> ServeConfig:
        from serving.config import ServeConfig

        gateway = {"gateway": self.gateway} if self.gateway else {}
        return self._read(ServeConfig, {**self._shared(), **gateway, **self.serve}, "serve")

    def _read(self, model: type[Config], settings: dict[str, Any], section: str) -> Config:
        try:
            return model.model_validate(settings)
        except ValidationError as error:
            raise _refused(self._file, error, self.model_dump(exclude_unset=True), section) from None


def opener(workspace: Workspace, settings: Settings) -> Callable[[LLMConfig], LLMEngine]:
    """What opens a model for training: behind the gateway, its answers judged as in the service."""

    def opened(model: LLMConfig) -> LLMEngine:
        from serving.patient import open_patient

        return open_patient(workspace, settings.serve_config(), model, "train", judged=True)

    return opened


def read_settings(path: Path | None) -> Settings:
    if path is None:
        return Settings()
    written: dict[str, Any] = {}
    try:
        written = tomllib.loads(path.read_text())
        settings = Settings.model_validate(written)
    except OSError as error:
        fail(f"the settings file {path} cannot be read ({error.strerror}); check --config")
    except tomllib.TOMLDecodeError as error:
        fail(f"the settings file {path} is no TOML: {error}")
    except UnicodeDecodeError:
        fail(f"the settings file {path} is no UTF-8; save it as UTF-8")
    except ValidationError as error:
        raise _refused(path, error, written) from None
    settings._file = path
    return settings


def _refused(file: Path | None, error: ValidationError, written: dict[str, Any], section: str = "") -> UsageError:
    from cli.settingerrors import explain

    where = f"the settings file {file} does" if file else "the settings do"
    return UsageError(f"{where} not fit: {explain(error, written, section)}")
