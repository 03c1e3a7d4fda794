"""The version of the installed distribution."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("chat-api")
except PackageNotFoundError:  # a source tree that nobody installed
    VERSION = "0+unknown"
