"""Live rooms: what happens in a room, shown to everyone on this process who has it open, in order and without a gap.

::

    Hub ── one for a process: hears the feed, looks after itself twice a second
     ├── WatchedRoom ── one for a room that somebody has open: its newest events, and who is there
     │    └── Subscription ── one stream's or socket's place in the room's log
     └── Connection ── one stream or socket: what is to be sent to it, within bounds
"""
