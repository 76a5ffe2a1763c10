"""The provider, played: serves recordings, transcripts and analyses, and sends a call.analyzed event for each call to the
exchange "calls", over RabbitMQ's management API. Most calls are fine; some files are late, broken or missing, as files are.

Takes RABBITMQ (http://user:password@host:15672), ORIGIN (what URLs begin with), PORT and CALLS_PER_SECOND.
"""

import base64
import datetime
import http.server
import io
import json
import math
import os
import random
import struct
import threading
import time
import urllib.parse
import urllib.request
import uuid
import wave

ORIGIN = os.environ["ORIGIN"]
PAUSE = 1 / float(os.environ.get("CALLS_PER_SECOND", "2"))
ORGANIZATION = "organization_fb545ce8-68e1-4303-ab23-6ba0149fc4b1"
AGENT = "agent_cd1c82f0-a276-4617-b272-ba08d83c83fd"


def recording(seconds):
    """Some seconds of a hummed voice, as telephones have it."""
    file, rate = io.BytesIO(), 8000
    with wave.open(file, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(rate)
        hum = (int(8000 * math.sin(n / 9) * math.sin(n / 4000)) for n in range(seconds * rate))
        audio.writeframes(b"".join(struct.pack("<h", sample) for sample in hum))
    return file.getvalue()


RECORDING = recording(20)
FILES = {
    "recording.wav": ("audio/x-wav", RECORDING),
    "transcript.json": ("application/json", b'{"turns": [{"speaker": "agent", "text": "How can I help you?"}]}'),
    "analysis.json": ("application/json", b'{"summary": "The caller was helped."}'),
}
late = set()


class Files(http.server.BaseHTTPRequestHandler):
    """/ORGANIZATION/AGENT/CALL/FILE; what the call's id begins with says what is wrong with it."""

    def do_GET(self):
        *_, call, name = ["", *self.path.split("?")[0].strip("/").split("/")]
        kind, body = FILES.get(name, ("text/plain", b""))
        if name not in FILES or (call.startswith("missing") and name == "transcript.json"):
            return self.send_error(404)
        if call.startswith("late") and self.path not in late:
            late.add(self.path)
            return self.send_error(503)
        if call.startswith("broken") and name == "recording.wav":
            body = body[: len(body) // 2]
        time.sleep(random.uniform(0, 0.3))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def event():
    fate = random.choices(["fine", "late", "broken", "missing"], [94, 3, 2, 1])[0]
    call, now = f"{fate}-{uuid.uuid4()}", datetime.datetime.now(datetime.timezone.utc).isoformat()
    folder = f"{ORIGIN}/{ORGANIZATION}/{AGENT}/{call}"
    return {
        "event": "call.analyzed",
        "request_id": str(uuid.uuid4()),
        "data": {
            "id": call,
            "created_at": now,
            "updated_at": now,
            "direction": "INBOUND",
            "attachments": [{"url": f"{folder}/{name}"} for name in FILES],
        },
    }


def publish(rabbitmq, body):
    """False where no queue took it: workers declare the queue when they start."""
    password = base64.b64encode(f"{rabbitmq.username}:{rabbitmq.password}".encode()).decode()
    message = {
        "routing_key": "call.analyzed",
        "properties": {"delivery_mode": 2, "content_type": "application/json", "message_id": body["request_id"]},
        "payload": json.dumps(body),
        "payload_encoding": "string",
    }
    request = urllib.request.Request(
        f"http://{rabbitmq.hostname}:{rabbitmq.port}/api/exchanges/%2F/calls/publish",
        json.dumps(message).encode(),
        {"Content-Type": "application/json", "Authorization": f"Basic {password}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["routed"]


def main():
    server = http.server.ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rabbitmq, sent = urllib.parse.urlsplit(os.environ["RABBITMQ"]), 0
    while True:
        try:
            if publish(rabbitmq, event()):
                sent += 1
                if sent % 100 == 1:
                    print(f"call {sent} sent", flush=True)
        except OSError as error:
            print(f"RabbitMQ does not take a call: {error}", flush=True)
        time.sleep(random.expovariate(1 / PAUSE))


main()
