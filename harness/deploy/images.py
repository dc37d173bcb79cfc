"""The images of the container host and of the compose files, made without a registry."""

from __future__ import annotations

from harness.deploy.image_archives import import_image
from harness.deploy.image_builds import BUILDS, build_from_sources
from harness.deploy.image_recipes import RECIPES

COMPOSE = ("redis", "nginx", "postgres", "runtime")  # what the files of deploy/compose start
SETS = {"all": tuple(RECIPES), "compose": COMPOSE}


def build(part: str = "redis") -> str:
    """Build a part's image and return what was made; raise MissingPart, UserError."""
    return build_from_sources(part) if part in BUILDS else import_image(part)
