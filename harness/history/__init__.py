"""The record of a run: format, append-only writer, merging reader, error table."""
