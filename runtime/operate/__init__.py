"""For operators: `runtime check` and diagnostics."""
