"""Socket.IO across workers."""
