"""Locust users over HTTP and Socket.IO, in subprocesses of their own."""
