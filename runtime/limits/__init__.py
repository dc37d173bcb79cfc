"""Rate limits: exact across workers."""
