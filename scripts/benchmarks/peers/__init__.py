"""Other load generators, driven against the truth server as we are: same script, same cores, same log."""

from collections.abc import Mapping

from benchmarks.peers import aiohttp_loop, aiperf, fasthttp, guidellm, openai_sdk
from benchmarks.peers.peer import Peer

PEERS: Mapping[str, Peer] = {
    peer.name: peer for peer in (guidellm.PEER, aiperf.PEER, openai_sdk.PEER, aiohttp_loop.PEER, fasthttp.PEER)
}
"""By name."""
