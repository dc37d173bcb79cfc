"""Configuration: one version on all workers."""
