"""Every key and channel name, in one place."""

from __future__ import annotations

import uuid
from dataclasses import dataclass


def new_life(instance: str) -> str:
    """Return a name for one life of a worker's process, under which it leases and owns things.

    A worker that is started again at once must not keep alive what its last life left.
    """
    return f"{instance}.{uuid.uuid4().hex[:8]}"


def instance_of(life: str) -> str:
    """Return the INSTANCE_ID of a life."""
    return life.rpartition(".")[0]


@dataclass(frozen=True)
class Keys:
    """Names under one prefix; the prefix is text, never a hash tag.

    Tags stand where one script writes several keys, which then have to share a slot: the event
    stream with its helpers (`{prefix:socketio}`), the keys of one document, and the session and
    usage pools with their indexes. A pool's own key has no braces: the whole key is hashed, which
    is the same slot.
    """

    prefix: str

    def key(self, purpose: str) -> str:
        """Return the key that serves `events`, `tasks` or `sessions` (for faults by purpose)."""
        return {"events": self.events, "tasks": self.tasks, "sessions": self.session_pool}[purpose]

    @property
    def events(self) -> str:
        """Stream of the cross-worker events."""
        return f"{{{self.prefix}:socketio}}:events"

    def events_origin(self, origin: str) -> str:
        """Last sequence number of one publisher that the stream holds; expires."""
        return f"{{{self.prefix}:socketio}}:origin:{origin}"

    @property
    def events_channel(self) -> str:
        """Channel of the stock pub/sub manager."""
        return f"{self.prefix}:socketio"

    @property
    def session_pool(self) -> str:
        """Hash socket id → JSON of who it is."""
        return f"{self.prefix}:session_pool"

    @property
    def session_pool_seen(self) -> str:
        """Sorted set socket id → when its worker last said that it lives (server's seconds)."""
        return f"{{{self.session_pool}}}:seen"

    @property
    def session_pool_users(self) -> str:
        """Sorted set user id → when one of the user's sockets was last said to live."""
        return f"{{{self.session_pool}}}:users"

    def session_pool_room(self, room: str) -> str:
        """Sorted set of the sockets in a room (`user:ID`, `chat:ID`, `channel:ID`, `note:ID`)."""
        return f"{{{self.session_pool}}}:room:{room}"

    @property
    def session_pool_instances(self) -> str:
        """Sorted set instance → when it last renewed its lease (server's seconds)."""
        return f"{{{self.session_pool}}}:instances"

    def session_pool_instance(self, instance: str) -> str:
        """Sorted set of the sockets of one worker."""
        return f"{{{self.session_pool}}}:instance:{instance}"

    @property
    def session_pool_fence(self) -> str:
        """Highest fencing token that cleaned the session pool."""
        return f"{{{self.session_pool}}}:fence"

    @property
    def usage_pool(self) -> str:
        """Sorted set model id → when it was last used (server's seconds)."""
        return f"{self.prefix}:usage_pool"

    def usage_pool_model(self, model: str) -> str:
        """Sorted set of the sockets that use a model."""
        return f"{{{self.usage_pool}}}:model:{model}"

    @property
    def usage_pool_fence(self) -> str:
        """Highest fencing token that cleaned the usage pool."""
        return f"{{{self.usage_pool}}}:fence"

    @property
    def models(self) -> str:
        """Hash model id → JSON of the models that the workers offer."""
        return f"{self.prefix}:models"

    def leader(self, work: str) -> str:
        """Lease of the worker that does periodic work for all."""
        return f"{self.prefix}:leader:{work}"

    def instance(self, instance: str) -> str:
        """Lease of one worker process; expires when it is dead."""
        return f"{self.prefix}:instances:{instance}"

    def session(self, identifier: str) -> str:
        """Server-side session data."""
        return f"{self.prefix}:session:{identifier}"

    def token_revoked(self, jti: str) -> str:
        """Marker that one token was revoked."""
        return f"{self.prefix}:auth:token:{jti}:revoked"

    def user_revoked(self, user: str) -> str:
        """Instant before which every token of a user is void."""
        return f"{self.prefix}:auth:user:{user}:revoked_at"

    def rate_limit(self, key: str, bucket: int) -> str:
        """Hash worker → attempts of one bucket; the tag keeps a key's buckets in one slot."""
        return f"{self.prefix}:ratelimit:{{{key}}}:{bucket}"

    def config(self, key: str) -> str:
        """Copy of one configuration value."""
        return f"{self.prefix}:config:{key}"

    @property
    def base_models(self) -> str:
        """JSON list of the base models."""
        return f"{self.prefix}:models:base"

    @property
    def base_models_tag(self) -> str:
        """Which providers and refresh the list is of; the tag gives it the list's slot."""
        return f"{{{self.base_models}}}:tag"

    @property
    def base_models_lock(self) -> str:
        """Who is asking the providers now; in the list's slot, too."""
        return f"{{{self.base_models}}}:lock"

    @property
    def tasks(self) -> str:
        """Hash task id → item id."""
        return f"{self.prefix}:tasks"

    def task(self, task: str) -> str:
        """Liveness marker of a task, with a lease; the value is the owner's instance."""
        return f"{self.prefix}:tasks:{task}"

    def tasks_item(self, item: str) -> str:
        """Set of the task ids of an item (a chat)."""
        return f"{self.prefix}:tasks:item:{item}"

    @property
    def task_commands(self) -> str:
        """Channel of stop commands."""
        return f"{self.prefix}:tasks:commands"

    def response_stream(self, task: str) -> str:
        """Log of the text of a running task; expires."""
        return f"{self.prefix}:tasks:response_streams:{task}"

    @property
    def task_stops(self) -> str:
        """Hash of durable stop intents."""
        return f"{self.prefix}:tasks:stops"

    def document(self, document: str) -> tuple[str, str, str]:
        """Keys of a collaborative document's updates, facts and users."""
        base = f"{self.prefix}:ydoc:documents:{{{document}}}"
        return f"{base}:updates", f"{base}:meta", f"{base}:users"

    @property
    def documents_unsaved(self) -> str:
        """Sorted set document → its last edit that is not in the database yet."""
        return f"{self.prefix}:ydoc:unsaved"
