"""The folder that the harness puts on the path of each worker; see sitecustomize.py."""
