"""What mutants share: run the runtime's command line after something was patched."""

from __future__ import annotations

from runtime.cli import main


def serve() -> None:
    """Run the runtime as it is now: patched."""
    main()
