#!/usr/bin/env python3
"""Makes a large archive for `callvault verify`, with planted damage if asked.

usage: tests/bench/archive.py FOLDER|URL EVENTS [--days N] [--damage]

FOLDER gets the buckets documents, recordings and quarantine as folders; a URL, http://HOST:PORT/BUCKET/PREFIX, is that
of an S3 server that asks for no credentials. Each event has a manifest as callvault writes it and three small files,
whose digests are true: some 4 KB in four objects. Of EVENTS calls each day has as many. --damage spoils one event in
ten thousand for each kind of damage, at least one, and prints what `verify` is to find, one `CODE BUCKET KEY` a line.
"""

import argparse
import datetime
import hashlib
import http.client
import json
import os
import queue
import struct
import sys
import threading
import urllib.parse

ORGANIZATION = "fb545ce8-68e1-4303-ab23-6ba0149fc4b1"
FIRST_DAY = datetime.date(2024, 1, 1)
# Long ago, as the keys say: what no manifest names is then told.
WRITTEN = datetime.datetime(2024, 6, 1).timestamp()


class Folder:
    def __init__(self, root):
        self.root = root

    def put(self, bucket, key, data):
        path = f"{self.root}/{bucket}/{key}"
        try:
            file = open(path, "wb")
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            file = open(path, "wb")
        with file:
            file.write(data)
        os.utime(path, (WRITTEN, WRITTEN))

    def finish(self):
        pass


class S3:
    """Sends from threads: each request waits for the server."""

    def __init__(self, url, threads=16):
        url = urllib.parse.urlsplit(url)
        self.prefix, self.jobs = url.path, queue.Queue(1000)
        self.threads = [threading.Thread(target=self.send, args=(url.netloc,), daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def send(self, host):
        connection = http.client.HTTPConnection(host)
        while (job := self.jobs.get()) is not None:
            path, data = job
            connection.request("PUT", path, data, {"content-type": "application/octet-stream"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                print(f"PUT {path}: {answer.status}", file=sys.stderr)
                os._exit(1)

    def put(self, bucket, key, data):
        self.jobs.put((f"{self.prefix}/{bucket}/{key}", data))

    def finish(self):
        for _ in self.threads:
            self.jobs.put(None)
        for thread in self.threads:
            thread.join()


def wav(number):
    samples = struct.pack("<I", number) * 400
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16,
                         b"data", len(samples))
    return header + samples


class Event:
    def __init__(self, number, day):
        self.call = f"{hashlib.md5(str(number).encode()).hexdigest()}"
        self.request = f"r-{number:08}"
        self.folder = f"{day:%Y/%m/%d}/{self.call}/{self.request}"
        text = json.dumps({"turns": [{"speaker": "agent", "text": f"call {number}, turn {n}"} for n in range(8)]})
        self.files = [("documents", "analysis.json", json.dumps({"summary": f"call {number}"}).encode()),
                      ("recordings", "recording.wav", wav(number)), ("documents", "transcript.json", text.encode())]
        base = f"https://example/organization_{ORGANIZATION}/{number}"
        created = f"{day:%Y-%m-%d}T10:05:18.432652Z"
        body = json.dumps({"event": "call.analyzed", "request_id": self.request, "data": {
            "id": self.call, "conversation_id": f"c-{number}", "direction": "INBOUND", "created_at": created,
            "attachments": [{"url": f"{base}/{name}", "agent_id": "a-1"} for _, name, _ in self.files]}})
        attachments = [{
            "kind": name.split(".")[0], "status": "archived", "agent_id": "a-1", "organization_id": ORGANIZATION,
            "source": {"url": f"{base}/{name}", "content_type": None},
            "object": {"bucket": bucket, "key": self.key(name), "size": len(data),
                       "sha256": hashlib.sha256(data).hexdigest(), "content_type": None},
        } for bucket, name, data in self.files]
        self.manifest = {
            "schema": "callvault.manifest/v1", "status": "complete",
            "call": {"id": self.call, "created_at": created, "user_id": 42, "from": "+15550100", "to": "+15550101"},
            "event": {"type": "call.analyzed", "request_id": self.request,
                      "sha256": hashlib.sha256(body.encode()).hexdigest(), "attempt": 1, "body": None},
            "attachments": attachments, "worker": {"name": "callvault", "version": "0", "host": "bench"},
            "archived_at": "2024-06-01T00:00:00.000000Z"}
        self.body = body

    def key(self, name):
        return f"{self.folder}/{name}"

    def put(self, store):
        for bucket, name, data in self.files:
            store.put(bucket, self.key(name), data)
        # The event is repeated as it was received.
        text = json.dumps(self.manifest, indent=2).replace('"body": null', f'"body": {self.body}', 1)
        store.put("documents", self.key("manifest.json"), text.encode())


def spoil(event, kind, store):
    """Puts an event with a kind of damage, and says what is to be found."""
    recording, manifest = ("recordings", event.key("recording.wav")), ("documents", event.key("manifest.json"))
    at, data = event.files[1], event.files[1][2]
    if kind == "object_missing":
        event.files.pop(1)
    elif kind == "object_truncated":
        event.files[1] = (*at[:2], data[:-1])
    elif kind == "object_longer":
        event.files[1] = (*at[:2], data + b"\0")
    elif kind == "object_altered":
        event.files[1] = (*at[:2], data[:-1] + b"\x7f")
    elif kind == "manifest_schema":
        event.manifest["schema"] = "callvault.manifest/v9"
    elif kind == "event_altered":
        event.body = event.body.replace("INBOUND", "OUTBOUND")
    event.put(store)
    if kind == "manifest_invalid":
        store.put(*manifest, b'{"schema": "callvault.manifest/v1", ')
    if kind == "object_unreferenced":
        recording = ("quarantine", event.key("recording-2.wav"))
        store.put(*recording, b"a stray")
    bucket, key = recording if kind.startswith("object") else manifest
    return f"{kind} {bucket} {key}"


KINDS = ["object_missing", "object_truncated", "object_longer", "object_altered", "object_unreferenced",
         "manifest_schema", "manifest_invalid", "event_altered"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].split("\n")[0])
    parser.add_argument("place")
    parser.add_argument("events", type=int)
    parser.add_argument("--days", type=int, default=100)
    parser.add_argument("--damage", action="store_true")
    arguments = parser.parse_args()
    store = S3(arguments.place) if "://" in arguments.place else Folder(arguments.place)
    step = max(arguments.events // max(arguments.events // 10_000, 1) // len(KINDS), 1)
    for number in range(arguments.events):
        event = Event(number, FIRST_DAY + datetime.timedelta(days=number % arguments.days))
        spoiled, nth = number % step == step // 2, number // step % len(KINDS)
        if arguments.damage and spoiled:
            print(spoil(event, KINDS[nth], store))
        else:
            event.put(store)
    store.finish()


if __name__ == "__main__":
    main()
