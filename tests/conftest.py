"""What all tests share."""

from hypothesis import settings

settings.register_profile("noisy-machine", deadline=None)  # unit tests are not timed
settings.load_profile("noisy-machine")
