"""A worker that does callvault's work, as a Python team would write it: what the benchmark compares with.

It takes events from the queue, downloads their attachments side by side, hashes and checks them, and stores them and,
last, a manifest, before it acknowledges. It has no retries, no dead letters and no guard: an error ends it.
"""

import argparse
import asyncio
import hashlib
import json
import os
import signal
import socket
import struct
import tempfile
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime, timezone
from pathlib import PurePosixPath
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import httpx
import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

IN_MEMORY = 1 << 20
ONE_PUT = 16 << 20
PART = 8 << 20
PARTS_AT_ONCE = 2
# httpx looks at each of its connections at each request, so that many cost more than they bring: fewest CPU seconds.
DOWNLOADS = 8
KINDS = {"analysis.json": "analysis", "recording.wav": "recording", "transcript.json": "transcript"}
CALL = (
    "id", "conversation_id", "channel_id", "contact_id", "campaign_id", "user_id", "direction", "from", "to",
    "language", "delivery_status", "created_at", "updated_at",
)  # fmt: skip
CODECS = {(1, 8): "pcm_u8", (1, 16): "pcm_s16le", (1, 24): "pcm_s24le", (6, 8): "pcm_alaw", (7, 8): "pcm_mulaw"}


class S3:
    def __init__(self, client, bucket):
        self.client = client
        self.bucket = bucket

    @classmethod
    @asynccontextmanager
    async def opened(cls, endpoint, bucket, connections):
        config = AioConfig(
            max_pool_connections=connections,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"payload_signing_enabled": False, "addressing_style": "path"},
        )
        access = {"region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
        async with get_session().create_client("s3", endpoint_url=endpoint, config=config, **access) as client:
            yield cls(client, bucket)

    def new_file(self):
        return tempfile.SpooledTemporaryFile(IN_MEMORY)

    async def put(self, key, file, size, content_type, metadata):
        about = {"Bucket": self.bucket, "Key": key, "ContentType": content_type, "Metadata": metadata}
        file.seek(0)
        if size <= ONE_PUT:
            await self.client.put_object(Body=file.read(), IfNoneMatch="*", **about)
        else:
            await self.put_parts(file, size, about)

    async def put_parts(self, file, size, about):
        upload = await self.client.create_multipart_upload(**about)
        place = {name: upload[name] for name in ("Bucket", "Key", "UploadId")}
        turns = asyncio.Semaphore(PARTS_AT_ONCE)

        async def put_part(number):
            async with turns:
                file.seek((number - 1) * PART)
                part = await self.client.upload_part(Body=file.read(PART), PartNumber=number, **place)
                return {"ETag": part["ETag"], "PartNumber": number}

        numbers = range(1, (size + PART - 1) // PART + 1)
        try:
            parts = await asyncio.gather(*map(put_part, numbers))
            await self.client.complete_multipart_upload(MultipartUpload={"Parts": parts}, **place)
        except BaseException:
            await self.client.abort_multipart_upload(**place)
            raise


class Folder:
    """Bodies are downloaded to where they stay, and appear under their names once they are whole."""

    bucket = "folder"

    def __init__(self, path):
        os.makedirs(path, exist_ok=True)
        self.path = path

    def new_file(self):
        return tempfile.NamedTemporaryFile(dir=self.path, prefix=".new-")

    async def put(self, key, file, size, content_type, metadata):
        await asyncio.to_thread(self.keep, file, os.path.join(self.path, key))

    @staticmethod
    def keep(file, path):
        file.flush()
        os.fsync(file.fileno())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # Refused where a file is already; the temporary name goes when the file is closed.
        os.link(file.name, path)


class Worker:
    def __init__(self, http, store):
        self.http = http
        self.store = store
        self.downloads = asyncio.Semaphore(DOWNLOADS)

    async def archive(self, body):
        event = json.loads(body)
        if event["event"] != "call.analyzed":
            return event.get("request_id")
        call = event["data"]
        request_id = event["request_id"]
        created = datetime.fromisoformat(call["created_at"].replace("Z", "+00:00")).astimezone(timezone.utc)
        folder = f"{created:%Y/%m/%d}/{call['id']}/{request_id}"
        ids = {"call_id": call["id"], "request_id": request_id}

        taken = {"manifest.json"}
        keeping = []
        for attachment in call["attachments"]:
            name = free_name(PurePosixPath(urlsplit(attachment["url"]).path).name or "file", taken)
            keeping.append(self.keep(attachment, name, f"{folder}/{name}", ids))
        entries = await asyncio.gather(*keeping)

        manifest = self.manifest(event, body, entries)
        with self.store.new_file() as file:
            file.write(manifest)
            about = {**ids, "kind": "manifest", "sha256": hashlib.sha256(manifest).hexdigest()}
            await self.store.put(f"{folder}/manifest.json", file, len(manifest), "application/json", about)
        return request_id

    async def keep(self, attachment, name, key, ids):
        url = attachment["url"]
        with self.store.new_file() as file:
            digest, size = hashlib.sha256(), 0
            async with self.downloads, self.http.stream("GET", url) as response:
                response.raise_for_status()
                async for chunk in response.aiter_raw():
                    digest.update(chunk)
                    file.write(chunk)
                    size += len(chunk)
            sha256, headers = digest.hexdigest(), response.headers
            content_type = headers.get("content-type") or attachment.get("content_type") or "application/octet-stream"
            found = check(name, file, size)
            kind = KINDS.get(name, "other")
            await self.store.put(key, file, size, content_type, {**ids, "kind": kind, "sha256": sha256})
        url = urlsplit(url)
        host = url.netloc.rpartition("@")[2]
        source = {
            "url": urlunsplit((url.scheme, host, url.path, "", "")), "content_type": content_type,
            "etag": headers.get("etag"), "last_modified": headers.get("last-modified"),
        }  # fmt: skip
        stored = {
            "bucket": self.store.bucket, "key": key, "size": size, "sha256": sha256, "content_type": content_type,
        }  # fmt: skip
        return {
            "kind": kind, "status": "archived", "agent_id": attachment.get("agent_id"),
            "organization_id": url.path.partition("/organization_")[2][:36] or None,
            "source": source, "object": stored, "check": found,
        }  # fmt: skip

    @staticmethod
    def manifest(event, body, entries):
        manifest = {
            "schema": "callvault.manifest/v1", "status": "complete",
            "call": {name: event["data"].get(name) for name in CALL},
            "event": {
                "type": event["event"], "request_id": event["request_id"],
                "sha256": hashlib.sha256(body).hexdigest(), "attempt": 1, "body": event,
            },
            "attachments": entries,
            "worker": {"name": "worker.py", "version": "1", "host": socket.gethostname()},
            "archived_at": datetime.now(timezone.utc).isoformat().replace("+00:00", "Z"),
        }  # fmt: skip
        return json.dumps(manifest).encode()


def free_name(name, taken):
    path, number, free = PurePosixPath(name), 1, name
    while free in taken:
        number += 1
        free = f"{path.stem}-{number}{path.suffix}"
    taken.add(free)
    return free


def check(name, file, size):
    file.seek(0)
    if name.endswith(".json"):
        json.loads(file.read())
        return {"type": "json"}
    if name.endswith(".wav"):
        return wav_facts(file, size)
    return None


def wav_facts(file, size):
    riff, _, wave = struct.unpack("<4sI4s", file.read(12))
    if riff != b"RIFF" or wave != b"WAVE":
        raise ValueError("no WAV file")
    fmt = None
    while True:
        chunk, length = struct.unpack("<4sI", file.read(8))
        if chunk == b"data":
            break
        following = file.tell() + length + length % 2
        if chunk == b"fmt ":
            fmt = struct.unpack("<HHIIHH", file.read(16))
        file.seek(following)
    tag, channels, rate, _, align, bits = fmt
    if file.tell() + length > size:
        raise ValueError("the WAV file is cut short")
    return {
        "type": "wav",
        "codec": CODECS[tag, bits],
        "channels": channels,
        "sample_rate_hz": rate,
        "bits_per_sample": bits,
        "duration_ms": length // align * 1000 // rate,
    }


async def run(options):
    stop = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: stop.done() or stop.set_result(None))
    working = set()
    store = (
        S3.opened(options.endpoint, options.bucket, 4 * options.prefetch)
        if options.endpoint
        else nullcontext(Folder(options.folder))
    )
    limits = httpx.Limits(max_connections=DOWNLOADS, max_keepalive_connections=DOWNLOADS)
    async with (
        await aio_pika.connect(options.amqp) as broker,
        httpx.AsyncClient(limits=limits, timeout=30, trust_env=False, headers={"accept-encoding": "identity"}) as http,
        store as opened,
    ):
        worker = Worker(http, opened)
        channel = await broker.channel()
        await channel.set_qos(prefetch_count=options.prefetch)
        queue = await channel.declare_queue(options.queue, passive=True)

        async def handle(message):
            working.add(asyncio.current_task())
            try:
                request_id = await worker.archive(message.body)
                await message.ack()
                print("done", request_id, flush=True)
            except Exception as error:
                stop.done() or stop.set_exception(error)
            finally:
                working.discard(asyncio.current_task())

        tag = await queue.consume(handle)
        await stop
        await queue.cancel(tag)
        await asyncio.gather(*working)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--amqp", required=True, help="the broker's URL")
    parser.add_argument("--queue", required=True, help="the queue, which is there already")
    parser.add_argument("--prefetch", type=int, default=32, help="events in flight")
    parser.add_argument("--endpoint", help="an S3 server's URL")
    parser.add_argument("--bucket", help="a bucket of that server's")
    parser.add_argument("--folder", help="a folder, instead of a server")
    options = parser.parse_args()
    if (options.endpoint is None) != (options.bucket is None) or (options.endpoint is None) == (options.folder is None):
        parser.error("either --endpoint and --bucket, or --folder")
    uvloop.run(run(options))


if __name__ == "__main__":
    main()
