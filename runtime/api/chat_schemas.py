"""Bodies of the routes of chats, tasks and health, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from runtime.api.schemas import Done

Filled = Annotated[str, StringConstraints(pattern=r"\S")]


class Models(BaseModel):
    """The provider's models, in the provider's words."""

    model_config = ConfigDict(extra="allow")
    data: list[dict[str, Any]]


class NewChat(BaseModel):
    """A chat to make; its title is in `chat`."""

    chat: dict[str, Any] | None = None


class Chat(BaseModel):
    """A chat with what is known of its content."""

    model_config = ConfigDict(extra="allow")
    id: str
    user_id: str
    title: str
    chat: dict[str, Any]


class Completion(BaseModel):
    """What to answer. Further keys go to the provider."""

    model: Filled
    messages: Annotated[list[Any], Field(min_length=1)]


class Started(Done):
    """The answer is being written, by these tasks."""

    chat_id: str
    task_ids: list[str]


class MessageEvent(BaseModel):
    """Something about a message that the caller's sockets are told."""

    type: Filled
    data: Any = None


class Tasks(BaseModel):
    """All running tasks."""

    tasks: list[str]


class ChatTasks(BaseModel):
    """The running tasks of a chat."""

    task_ids: list[str]


class Stopped(BaseModel):
    """What became of a stop. `status` is false when there was nothing to stop."""

    status: bool
    message: str
    state: Literal["requested", "cancelled", "finished", "not_found"]


class ChatStopped(Stopped):
    """What became of stopping a chat's tasks."""

    task_ids: list[str] | None = None


class Health(BaseModel):
    """Whether it is well."""

    status: bool


class DatabaseHealth(Health):
    """Whether the database answers, and what is wrong if not."""

    detail: str


class Ready(Health):
    """Whether work may be sent here, why not, and what is known of each part."""

    model_config = ConfigDict(extra="allow")
    detail: str | None = None
    instance: str


def body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the description of a body that the route reads by itself."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
