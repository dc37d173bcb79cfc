"""The folder of one run under reports/: where every stage puts its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """Paths inside reports/<time>-<scenario>/."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> RunFolder:
        """Make the folder and its sub-folders."""
        folder = cls(root)
        for path in (folder.history, folder.logs, folder.data):
            path.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def history(self) -> Path:
        """Return the folder of history files, one per writing process."""
        return self.root / "history"

    @property
    def logs(self) -> Path:
        """Return the folder of logs, one per process of the run."""
        return self.root / "logs"

    @property
    def data(self) -> Path:
        """Return the folder of Redis and database files; removed at the end of the run."""
        return self.root / "data"

    @property
    def plan(self) -> Path:
        """Return the plan file."""
        return self.root / "plan.json"

    @property
    def undo(self) -> Path:
        """Return the file of what to take back in an external deployment, see `undo.py`."""
        return self.data / "undo.jsonl"

    @property
    def accounts(self) -> Path:
        """Return the file of accounts and tokens that load processes read; removed at the end."""
        return self.data / "accounts.json"
