"""The database: engine, tables and queries."""
