"""Ring 1: order only. A flow reads like a table of contents."""

from retune.proxies import settle_proxies
from retune.streams import settle_streams

# A worker, a script and `python -m` come through here before Prefect is imported, which keeps the
# streams that it finds for its log, and asks its own server.
settle_streams()
settle_proxies()
