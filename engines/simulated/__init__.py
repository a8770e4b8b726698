"""The truth server: a simulated engine whose times of sending are known. Every result against it says SIMULATED.

It plays a script, or models an engine with continuous batching; either way it logs when it sent what. A process of its
own, one hand-written epoll loop: at 100,000 chunks a second an asyncio write (20 us) would be the bottleneck.
"""
