"""What the stock app is told by its environment, and its one Redis client."""

from __future__ import annotations

import os
from typing import Any

from harness.targets.stock.clients import make_client

SECRET_KEY = os.environ["SECRET_KEY"]
DATABASE = os.environ["DATABASE"]
PROVIDER = os.environ["OPENAI_API_BASE_URL"]
OWN_EVENTS = os.environ.get("STOCK_EVENTS") == "listener"  # else python-socketio's Redis manager

redis: Any = make_client(decode_responses=True)
