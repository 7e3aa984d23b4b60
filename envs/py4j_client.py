"""A client of Py4J that speaks on one connection only, from the caller's thread, and repeats nothing.

Py4J's own sends a dropped proxy's farewell whenever Python collects it, on further connections if need be,
sends commands again after errors, and reports them on the root logger.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from py4j import protocol
from py4j.java_gateway import GatewayClient, GatewayParameters, JavaGateway


class Client(GatewayClient):  # type: ignore[misc]  # Py4J has no types
    """Sends commands; to be used by one thread at a time."""

    def __init__(self, gateway_parameters: GatewayParameters) -> None:
        """Connects with the first command."""
        super().__init__(gateway_parameters=gateway_parameters)
        self.dropped: deque[str] = deque()
        """Objects that Python has let go of and Java still keeps."""

    def send_command(self, command: str, retry: bool = True, binary: bool = False) -> Any:
        """The answer to a command, which is sent once.

        Raises:
            Py4JNetworkError: it could not be sent, or no answer came.
        """
        connection = self._get_connection()
        try:
            answer = connection.send_command(command)
        except BaseException:
            connection.close(True)
            raise
        self._give_back_connection(connection)
        return answer

    def garbage_collect_object(self, target_id: str) -> None:
        """Remember an object to be let go of; called by Python's collector, at any moment."""
        if target_id not in (protocol.ENTRY_POINT_OBJECT_ID, protocol.GATEWAY_SERVER_OBJECT_ID):
            self.dropped.append(target_id)

    def let_go(self) -> None:
        """Have Java drop what Python has."""
        while self.dropped:
            self.send_command(
                protocol.MEMORY_COMMAND_NAME
                + protocol.MEMORY_DEL_SUBCOMMAND_NAME
                + self.dropped.popleft()
                + "\ne\n"
            )


class Gateway(JavaGateway):  # type: ignore[misc]
    """A gateway with that client."""

    def _create_gateway_client(self) -> Client:
        parameters: Any = self.gateway_parameters
        return Client(parameters)


def connect(port: int, token: str, timeout: float) -> tuple[Any, Client]:
    """A gateway to the machine that listens on a port of this computer, and its client."""
    gateway = Gateway(
        gateway_parameters=GatewayParameters(port=port, auth_token=token, read_timeout=timeout),
        start_callback_server=False,
    )
    return gateway, gateway._gateway_client
