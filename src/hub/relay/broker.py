"""The broker: topics as they have to be, messages sent until it has them, messages received; its errors in our words.

The client's own log lines would hold keys and values: they are not written.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.net.compat import KafkaNetClient
from kafka.partitioner.default import DefaultPartitioner, murmur2
from kafka.structs import OffsetAndMetadata

from hub.errors import Busy, HubError, Misuse, Unavailable
from hub.relay import batches
from hub.relay.settings import Kafka

EVENTS, VIEWS, INGEST, REFUSED = "hub.events", "hub.view.", "hub.ingest", "hub.ingest.refused"

LARGEST_BYTES = 8 * 1024 * 1024
"""Of a message that is sent: an event of 1 MiB, sealed, with room to spare."""

LARGEST_VALUE_BYTES = LARGEST_BYTES - 64 * 1024
"""Of a value that is sent; the rest is for its key, headers and what Kafka adds."""

LARGEST_IN_BYTES = 17 * 1024 * 1024
"""Of a message that is taken: a batch of events as HTTP takes it. The broker refuses more, however it is packed."""

ANSWER_MS, DELIVERY_MS = 10_000, 20_000
"""How long the broker may take to answer, and a message to be acknowledged before its delivery has failed."""

QUIET_S = 10.0
"""After so long in which nothing came, a reader asks whether the broker is there."""

_AGAIN_S = 0.5
_CLOSE_S = 5.0
_LINGER_MS = 5
_BATCH_BYTES = 256 * 1024

_OPERATORS = (
    kafka.AuthorizationError,
    kafka.SaslAuthenticationFailedError,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
    kafka.InvalidReplicationFactorError,
    kafka.InvalidPartitionsError,
    kafka.InvalidConfigurationError,
    kafka.InvalidTopicError,
    kafka.PolicyViolationError,
    kafka.KafkaConfigurationError,
    kafka.MessageSizeTooLargeError,
    kafka.UnsupportedVersionError,
    ssl.SSLError,
)
"""What the operator has to mend; everything else of the broker passes by itself."""

_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (kafka.AuthorizationError, "the broker does not let this user do it; see its access lists"),
    (kafka.SaslAuthenticationFailedError, "the broker does not know this user and password; see [sasl] in HUB_KAFKA"),
    (kafka.UnsupportedSaslMechanismError, "the broker does not offer this mechanism; see [sasl] in HUB_KAFKA"),
    (kafka.InvalidReplicationFactorError, "the broker has fewer machines than topics.replication says"),
    (kafka.MessageSizeTooLargeError, "the broker refuses the size of a message; see max.message.bytes of its topic"),
    (kafka.UnsupportedVersionError, "the broker is too old; it has to be Apache Kafka 2.1 or newer"),
    (ssl.SSLError, "TLS with the broker fails; see ca_file in HUB_KAFKA"),
    (
        kafka.KafkaTimeoutError,
        "the broker does not answer in time; see whether it runs, and bootstrap and security in HUB_KAFKA",
    ),
)

logging.getLogger("kafka").addHandler(logging.NullHandler())
logging.getLogger("kafka").propagate = False
batches.install()


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """A topic as it has to be. configs: Kafka's own names. retention_ms: the longest that it may keep messages.

    compacted: whether its `cleanup.policy` holds `compact`. partitions: None for as many as the file says.
    """

    name: str
    configs: Mapping[str, str]
    partitions: int | None = None

    @property
    def compacted(self) -> bool:
        return "compact" in self.configs["cleanup.policy"]

    @property
    def retention_ms(self) -> int:
        return int(self.configs["retention.ms"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message to be sent. value: None is a tombstone."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One message that came. readable: False where nothing but its place is known."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = field(repr=False)
    readable: bool = True


class Broker:
    """The broker that a file names. Nothing is connected before it is asked for."""

    def __init__(self, settings: Kafka) -> None:
        self.settings = settings
        self._ensured: set[str] = set()

    def named(self, name: str) -> str:
        """A topic's name at the broker."""
        return self.settings.topics.prefix + name

    def events(self) -> Topic:
        """`hub.events`: kept for a time."""
        return self._topic(EVENTS, "delete", self.settings.topics.events_s, LARGEST_BYTES)

    def view(self, recipient: str) -> Topic:
        """`hub.view.<recipient>`: the last of each key, and that for a short time."""
        short_ms = str(self.settings.topics.views_s * 1000)
        topic = self._topic(VIEWS + recipient, "compact,delete", self.settings.topics.views_s, LARGEST_BYTES)
        # without these a segment, and with it what was revoked, stays for a week
        more = {"segment.ms": str(min(int(short_ms), 3_600_000)), "delete.retention.ms": short_ms}
        more |= {"max.compaction.lag.ms": str(min(int(short_ms), 3_600_000)), "min.cleanable.dirty.ratio": "0.1"}
        return Topic(name=topic.name, configs={**topic.configs, **more}, partitions=1)

    def ingest(self) -> Topic:
        """`hub.ingest`. The broker unpacks what comes, so that its size is that of what was packed."""
        topic = self._topic(INGEST, "delete", self.settings.topics.ingest_s, LARGEST_IN_BYTES)
        return Topic(name=topic.name, configs={**topic.configs, "compression.type": "uncompressed"})

    def refused(self) -> Topic:
        """`hub.ingest.refused`."""
        return self._topic(REFUSED, "delete", self.settings.topics.refused_s, LARGEST_BYTES)

    def _topic(self, name: str, policy: str, keep_s: int, largest: int) -> Topic:
        configs = {"cleanup.policy": policy, "retention.ms": str(keep_s * 1000), "max.message.bytes": str(largest)}
        return Topic(name=self.named(name), configs=configs)

    def ensure(self, topics: Iterable[Topic]) -> None:
        """Make the topics that are missing; look that those which are there keep what they have to, and no longer.

        Each is looked at once a process. Raises Misuse for one that is missing, where none may be made, or that is
        otherwise; Unavailable.
        """
        wanted = {topic.name: topic for topic in topics if topic.name not in self._ensured}
        if not wanted:
            return
        with told(), closing(_made(KafkaAdminClient, **self._how())) as admin:
            there = set(admin.list_topics())
            missing = [topic for name, topic in wanted.items() if name not in there]
            if missing and not self.settings.topics.create:
                raise Misuse(f"the topic {missing[0].name} is missing; make it, or set topics.create in HUB_KAFKA")
            self._create(admin, missing)
            for topic in wanted.values():
                if topic.name in there:
                    _check(admin, topic)
        self._ensured |= wanted.keys()

    def _create(self, admin: Any, missing: Sequence[Topic]) -> None:
        said = self.settings.topics
        for topic in missing:
            partitions = topic.partitions or said.partitions
            how = {"num_partitions": partitions, "replication_factor": said.replication or -1}
            with suppress(kafka.TopicAlreadyExistsError):  # another process made it in the meantime
                admin.create_topics({topic.name: {**how, "configs": dict(topic.configs)}}, timeout_ms=ANSWER_MS)

    def check(self) -> None:
        """Raise Unavailable or Misuse where the broker does not answer."""
        with told(), closing(KafkaAdminClient(**self._how())) as admin:
            admin.list_topics()

    def written(self, topic: Topic) -> int:
        """How many records were ever written to a topic."""
        with told():
            reader = self.client(KafkaConsumer)
            try:
                parts = [TopicPartition(topic.name, part) for part in reader.partitions_for_topic(topic.name) or ()]
                return sum(reader.end_offsets(parts).values()) if parts else 0
            finally:
                reader.close()

    def sender(self) -> Sender:
        """Something to send with, for one thread."""
        return Sender(self._how)

    def consumer(self, topic: Topic, group: str, *, at_once: int, session_s: float = 10.0) -> Consumer:
        """A member of a group that reads a topic from where the group is, else from its beginning."""
        return Consumer(self._how(), topic.name, group, at_once=at_once, session_s=session_s)

    def client(self, kind: Callable[..., Any], **how: Any) -> Any:
        """A client of the library's own, connected as this broker is."""
        with told():
            return _made(kind, **self._how(), **how)

    def _how(self) -> dict[str, Any]:
        """How a client connects."""
        settings = self.settings
        how: dict[str, Any] = {
            "bootstrap_servers": list(settings.bootstrap),
            "client_id": "hub",
            "security_protocol": settings.security,
            "request_timeout_ms": ANSWER_MS,
            "bootstrap_timeout_ms": ANSWER_MS,
            "reconnect_backoff_max_ms": 2_000,
        }
        if settings.security != "PLAINTEXT":
            try:
                how["ssl_context"] = ssl.create_default_context(cafile=settings.ca_file)
            except (OSError, ssl.SSLError):
                raise Misuse("ca_file in HUB_KAFKA holds no certificates") from None
        if settings.mechanism is not None:
            how["sasl_mechanism"] = settings.mechanism
            how["sasl_plain_username"], how["sasl_plain_password"] = settings.user, settings.password
        return how


class Pulse:
    """Asks whether the broker is there, where nothing has come from it for a while: a reader waits for it unheard."""

    def __init__(self, broker: Broker) -> None:
        self._broker, self._heard = broker, time.monotonic()

    def __call__(self, *, came: bool) -> None:
        """After each look for records. Raises Unavailable or Misuse where the broker does not answer."""
        if not came and time.monotonic() - self._heard > QUIET_S:
            self._broker.check()
            came = True
        self._heard = time.monotonic() if came else self._heard


class Sender:
    """Sends messages, and knows when the broker has them. After a failure it begins anew.

    The producer is idempotent: what it sends again by itself is there once. What its caller sends again, after a
    failure or a stop, is there twice.
    """

    def __init__(self, how: Callable[[], dict[str, Any]]) -> None:
        self._how = how
        self._producer: Any = None

    def deliver(self, messages: Sequence[Message], meanwhile: Callable[[], None] = lambda: None) -> None:
        """Return once the broker has all of them, on all machines that have to; those of a key in their order.

        meanwhile: called about twice a second; what it raises ends the wait. Raises Unavailable or Misuse where it is
        not known of one whether the broker has it: then all have to be sent again.
        """
        if not messages:
            return
        try:
            with told():
                self._deliver(messages, meanwhile)
        except BaseException:
            self.close()
            raise

    def _deliver(self, messages: Sequence[Message], meanwhile: Callable[[], None]) -> None:
        if self._producer is None:
            self._producer = _made(
                KafkaProducer,
                **self._how(),
                enable_idempotence=True,
                acks="all",
                compression_type="zstd",
                linger_ms=_LINGER_MS,
                batch_size=_BATCH_BYTES,
                max_request_size=LARGEST_BYTES,
                max_block_ms=ANSWER_MS,
                delivery_timeout_ms=DELIVERY_MS,
                partitioner=_Partitions(),
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        producer = self._producer
        futures, again = [], time.monotonic() + _AGAIN_S
        for message in messages:
            headers = list(message.headers)
            futures.append(producer.send(message.topic, message.value, key=message.key, headers=headers))
            if time.monotonic() > again:
                meanwhile()
                again = time.monotonic() + _AGAIN_S
        end = time.monotonic() + DELIVERY_MS / 1000 + ANSWER_MS / 1000
        for future in futures:
            while not future.is_done:
                with suppress(kafka.KafkaTimeoutError):
                    future.get(timeout=_AGAIN_S)
                if not future.is_done:
                    meanwhile()
                    if time.monotonic() > end:
                        raise Unavailable("the broker does not say whether it has what was sent")
            future.get(timeout=0)

    def close(self) -> None:
        """Close the connection. What was not acknowledged is given up."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer._sender.force_close()  # without it `close` waits for what is pending, or leaves all open
            with suppress(kafka.KafkaError):
                producer.close(timeout=_CLOSE_S)


class _Partitions(DefaultPartitioner):  # type: ignore[misc]
    """As every client of Kafka's does it (murmur2 of the key), but for a key that comes again looked up."""

    def __init__(self) -> None:
        self._hashed = lru_cache(100_000)(murmur2)

    def partition(
        self, topic: str, key: Any, serialized_key: Any, value: Any, serialized_value: Any, cluster: Any
    ) -> int:
        if serialized_key is None:
            return int(super().partition(topic, key, serialized_key, value, serialized_value, cluster))
        partitions = sorted(cluster.partitions_for_topic(topic))
        return int(partitions[(self._hashed(serialized_key) & 0x7FFFFFFF) % len(partitions)])


class Consumer:
    """A member of a group. Where it is, it says itself: only what was `done` is not handed out again."""

    def __init__(self, how: dict[str, Any], topic: str, group: str, *, at_once: int, session_s: float) -> None:
        with told():
            self._client = _made(
                KafkaConsumer,
                topic,
                **how,
                group_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_poll_records=at_once,
                session_timeout_ms=int(session_s * 1000),
                heartbeat_interval_ms=max(500, int(session_s * 250)),
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        self._next: dict[Any, int] = {}
        """Behind what was handed out, by partition."""

    def poll(self, wait_s: float) -> list[Record]:
        """What came, in the order of each partition; empty where nothing did. Raises Unavailable or Misuse."""
        with told():
            found = self._client.poll(timeout_ms=int(wait_s * 1000))
        self._next |= {at: records[-1].offset + 1 for at, records in found.items() if records}
        return [
            Record(
                topic=one.topic,
                partition=one.partition,
                offset=one.offset,
                key=one.key,
                value=one.value,
                headers=one.headers,
                readable=one.headers is not batches.UNREADABLE,
            )
            for records in found.values()
            for one in records
        ]

    def standing(self) -> tuple[int, int]:
        """How many partitions this member has, and how many of their records were not handed out, as last heard."""
        mine = self._client.assignment()
        self._next = {at: offset for at, offset in self._next.items() if at in mine}
        return len(mine), sum(max(0, (self._client.highwater(at) or 0) - n) for at, n in self._next.items())

    def done(self, records: Sequence[Record]) -> bool:
        """Have the group go on behind these; False where it gave the partitions to another member meanwhile."""
        last: dict[Any, int] = {}
        for record in records:
            at = TopicPartition(record.topic, record.partition)
            last[at] = max(last.get(at, 0), record.offset + 1)
        offsets = {at: OffsetAndMetadata(offset, "", -1) for at, offset in last.items()}
        try:
            with told():
                self._client.commit(offsets, timeout_ms=ANSWER_MS)
        except _Moved:
            return False
        return True

    def close(self) -> None:
        """Leave the group."""
        with suppress(kafka.KafkaError):
            self._client.close(autocommit=False, timeout_ms=2_000)


class _Moved(Busy):
    """The group has given the partitions to others."""


_MOVED = (
    kafka.CommitFailedError,
    kafka.IllegalGenerationError,
    kafka.UnknownMemberIdError,
    kafka.RebalanceInProgressError,
)


@contextmanager
def told() -> Iterator[None]:
    """Say the client's errors in the hub's words. No word of theirs is repeated: one may hold a value."""
    try:
        yield
    except HubError:
        raise
    except _MOVED:
        raise _Moved("the group has given the partitions to another member") from None
    except (kafka.KafkaError, ssl.SSLError) as error:
        words = next((words for kind, words in _WORDS if isinstance(error, kind)), None)
        said = words or f"the broker cannot do it ({type(error).__name__}); its own log says more"
        raise (Misuse(said) if isinstance(error, _OPERATORS) else Unavailable(said)) from None
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise Unavailable(f"the broker cannot be reached ({why}); see bootstrap in HUB_KAFKA") from None


def _made(kind: Callable[..., Any], *topics: str, **how: Any) -> Any:
    """A client; one that cannot begin leaves no connection behind, as it does by itself."""
    opened: list[Any] = []

    def opening(**more: Any) -> Any:
        opened.append(KafkaNetClient(**more))
        return opened[-1]

    try:
        return kind(*topics, **how, kafka_client=opening)
    except BaseException:
        for one in opened:
            one.close()
        raise


def _check(admin: Any, topic: Topic) -> None:
    """Raise Misuse where a topic that is there would lose what it has to keep, or keep what it may not.

    A broker that does not tell, or not us, is believed.
    """
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name)
    try:
        said = admin.describe_configs([resource], config_filter="all")["topic"][topic.name]
    except (kafka.AuthorizationError, kafka.UnsupportedVersionError, KeyError):
        return
    policy = said.get("cleanup.policy", {}).get("value") or ""
    keeps_ms = said.get("retention.ms", {}).get("value") or ""
    if policy and ("compact" in policy) is not topic.compacted:
        raise Misuse(f"the topic {topic.name} has to have cleanup.policy={topic.configs['cleanup.policy']}")
    too_long = keeps_ms.lstrip("-").isdigit() and not 0 <= int(keeps_ms) <= topic.retention_ms
    if topic.compacted and ("delete" not in policy or too_long) and policy:
        raise Misuse(f"the topic {topic.name} may keep nothing longer: retention.ms={topic.retention_ms}, and delete")
    _check_more(topic, {name: one.get("value") or "" for name, one in said.items()})


def _check_more(topic: Topic, said: Mapping[str, str]) -> None:
    """How long tombstones stay, and how much may come in a message: the client unpacks it without a limit."""
    wanted = topic.configs
    kept_ms = said.get("delete.retention.ms", "")
    if topic.compacted and kept_ms.isdigit() and int(kept_ms) < int(wanted["delete.retention.ms"]):
        least = wanted["delete.retention.ms"]
        raise Misuse(
            f"the topic {topic.name} has to keep tombstones as long as what they undo: delete.retention.ms={least}"
        )
    if "compression.type" in wanted:
        packed, largest = said.get("compression.type", ""), said.get("max.message.bytes", "")
        too_large = largest.isdigit() and int(largest) > int(wanted["max.message.bytes"])
        if (packed and packed != wanted["compression.type"]) or too_large:
            raise Misuse(
                f"the topic {topic.name} has to have compression.type={wanted['compression.type']} and at most"
                f" max.message.bytes={wanted['max.message.bytes']}: what is packed is unpacked without a limit"
            )
