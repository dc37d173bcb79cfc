"""Redis topologies, clients, keys and the event log."""
