"""A client that has never seen our code: confluent-kafka and the registry's address are all it gets.

usage: python -I foreign_client.py BOOTSTRAP REGISTRY_URL REQUEST_ID. Prints the coordinate of its request as one JSON
line, then waits for the result with that id and prints it as another. It is run from a copy in a scratch folder.
"""

import json
import sys
import time

OURS = ("schemas", "streams", "agents", "executors", "infra", "isos", "tests")


class Guard:
    """Refuses our packages, wherever they may be installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OURS:
            raise ModuleNotFoundError(f"{name} is out of reach here", name=name)


sys.meta_path.insert(0, Guard())
for package in OURS:
    try:
        __import__(package)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{package} could be imported")

from confluent_kafka import Consumer, Producer  # noqa: E402
from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: E402
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer  # noqa: E402
from confluent_kafka.serialization import MessageField, SerializationContext  # noqa: E402

REQUESTS, RESULTS = "isos.inference.requests.v1", "isos.inference.results.v1"


def send(bootstrap, registry, request_id):
    """Send one request with a schema fetched from the registry and spelled anew."""
    fetched = json.loads(registry.get_latest_version(f"{REQUESTS}-value").schema.schema_str)
    respelled = json.dumps(fetched, indent=3)
    serialize = AvroSerializer(registry, respelled, conf={"auto.register.schemas": False})
    tensor = {"name": "x", "datatype": "UINT8", "shape": [1, 4], "data": b"\x01\x02\x03\x04"}
    # Only the fields without defaults, as a user would write it.
    request = {"request_id": request_id, "model": "digits", "inputs": [tensor]}
    value = serialize(request, SerializationContext(REQUESTS, MessageField.VALUE))
    sent = []
    producer = Producer({"bootstrap.servers": bootstrap, "socket.nagle.disable": True})
    producer.produce(REQUESTS, value, request_id, on_delivery=lambda error, message: sent.append((error, message)))
    assert producer.flush(20) == 0
    assert sent[0][0] is None, sent
    return sent[0][1].partition(), sent[0][1].offset()


def await_result(bootstrap, registry, request_id):
    """The result with our id, decoded with whatever schema its prefix names."""
    deserialize = AvroDeserializer(registry)
    settings = {"bootstrap.servers": bootstrap, "group.id": request_id, "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, "enable.auto.commit": False})
    consumer.subscribe([RESULTS])
    deadline = time.monotonic() + 30
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is None or message.error():
                continue
            result = deserialize(message.value(), SerializationContext(RESULTS, MessageField.VALUE))
            if result["request_id"] == request_id:
                return result
    finally:
        consumer.close()
    raise SystemExit("no result came within 30 s")


def main(bootstrap, registry_url, request_id):
    registry = SchemaRegistryClient({"url": registry_url})
    partition, offset = send(bootstrap, registry, request_id)
    print(json.dumps({"partition": partition, "offset": offset}), flush=True)
    result = await_result(bootstrap, registry, request_id)
    print(json.dumps(result, default=lambda value: value.hex()), flush=True)


main(*sys.argv[1:])
