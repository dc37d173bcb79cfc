"""Redis as the runtime uses it: topology, clients, keys, pub/sub, the event log."""
