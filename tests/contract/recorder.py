"""Messages between clients and a server, kept or replaced: what shows that nothing else reaches a client."""

from __future__ import annotations

from kdlosses.rounds import Message, Traffic


class Recorder(Traffic):
    """Keep all messages, or put those of another run in place of what a client is told."""

    def __init__(self, instead: dict[tuple[str, int, int], Message] | None = None) -> None:
        super().__init__()
        self.kept: dict[tuple[str, int, int], Message] = {}
        self.instead = instead or {}

    def pass_on(self, way: str, turn: int, client: int, message: Message) -> Message:
        self.kept[way, turn, client] = message
        return super().pass_on(way, turn, client, self.instead.get((way, turn, client), message))
