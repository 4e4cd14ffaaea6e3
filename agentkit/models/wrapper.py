"""A base for models that wrap another model: caches, counters, loggers, routers."""

from __future__ import annotations

from typing import Any

from ..errors import SettingsError
from ..model import DeltaSink, Model, ModelInfo, ModelReply, ModelRequest, close, info_of
from ..names import with_article

__all__ = ["ModelWrapper"]


class ModelWrapper:
    """A model that wraps another one. A subclass overrides `reply`; everything else is forwarded to the wrapped model.

        class Counting(ModelWrapper):
            count = 0

            async def reply(self, request, on_delta=None):
                self.count += 1
                return await self.model.reply(request, on_delta)

    `info`, `aclose` and every public attribute that the wrapper does not define are forwarded to `model`. A wrapper with its
    own `__init__` calls `super().__init__(model)`. A copy of a wrapper shares the model. A deep copy or a pickle contains the
    model, if the model supports that.
    """

    def __init__(self, model: Model) -> None:
        if isinstance(model, type) or not hasattr(model, "reply"):
            found = model.__name__ if isinstance(model, type) else with_article(type(model).__name__)
            raise SettingsError(f"{type(self).__name__} wraps {found}; allowed: a model with `reply`, such as ChatModel(...)")
        self.model = model

    @property
    def info(self) -> ModelInfo:
        """The wrapped model's info. Override it with `dataclasses.replace(super().info, ...)`."""
        return info_of(self.model)

    async def reply(self, request: ModelRequest, on_delta: DeltaSink | None = None) -> ModelReply:
        """The wrapped model's reply."""
        return await self.model.reply(request, on_delta)

    async def aclose(self) -> None:
        """Close the wrapped model."""
        await close(self.model)

    def __getattr__(self, name: str) -> Any:
        # Only for names that are not found otherwise. `copy` and `pickle` ask for underscored ones before `model` is set.
        if name.startswith("_") or hasattr(type(self), name):  # a property of the wrapper raised an AttributeError
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        if name == "model":
            raise SettingsError(f"{type(self).__name__} has no model yet; its __init__ must call super().__init__(model)")
        return getattr(self.model, name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"
