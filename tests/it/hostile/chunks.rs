//! Chunks and transfer codings.

use super::row::{Row, answer, answer_then, flood, ok, refused, steady, taken};

/// What one try may take in of something that leads nowhere, kernel's buffers included, times three.
const LITTLE: u64 = 3 * (16 << 20);

pub(super) fn rows() -> Vec<Row> {
    let mut rows = sizes();
    rows.extend(codings());
    rows
}

fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    ok("Transfer-Encoding: chunked\r\n", body)
}

fn sizes() -> Vec<Row> {
    let broken = |name, body: &str| refused(name, answer(chunked(body)), "body_incomplete");
    let endless = |name, start: &str, rest: String| {
        let script = answer_then(chunked(start), vec![flood(rest)]);
        refused(name, script, "body_incomplete").takes(LITTLE)
    };
    vec![
        broken("a chunk size that is none", "all\r\nall\r\n0\r\n\r\n"),
        broken("a negative chunk size", "-3\r\nall\r\n0\r\n\r\n"),
        broken("a chunk size with 0x", "0x3\r\nall\r\n0\r\n\r\n"),
        broken("an empty chunk size", "\r\nall\r\n0\r\n\r\n"),
        broken("a chunk size of 2^64", "10000000000000000\r\nall"),
        broken("a chunk size of 2^64 - 1", "ffffffffffffffff\r\nall"),
        broken(
            "a chunk that is longer than its size",
            "3\r\nall of it\r\n0\r\n\r\n",
        ),
        broken(
            "a chunk that is shorter than its size",
            "f\r\nall of it\r\n0\r\n\r\n",
        ),
        broken("no last chunk", "9\r\nall of it\r\n"),
        broken("no end after the last chunk", "9\r\nall of it\r\n0\r\n"),
        broken(
            "a chunk extension with a bare LF",
            "9;x\ny\r\nall of it\r\n0\r\n\r\n",
        ),
        broken("chunk sizes that end in a bare LF", "9\nall of it\n0\n\n"),
        endless("an endless chunk extension", "9;x=", "y".repeat(8192)),
        endless(
            "endless trailers",
            "9\r\nall of it\r\n0\r\n",
            "X: y\r\n".repeat(1000),
        ),
        endless(
            "an endless trailer",
            "9\r\nall of it\r\n0\r\nX: ",
            "y".repeat(8192),
        ),
        refused(
            "an endless chunk size",
            answer_then(
                chunked("9\r\nall of it\r\n"),
                vec![steady("0".repeat(8192))],
            ),
            "timeout",
        ),
        refused(
            "endless space after a chunk size",
            answer_then(chunked("9"), vec![steady(" ".repeat(8192))]),
            "timeout",
        ),
        refused(
            "more than the limit in chunks",
            answer_then(
                chunked(""),
                vec![flood(format!("1000\r\n{}\r\n", "y".repeat(4096)))],
            ),
            "too_large",
        )
        .takes(16 << 20),
        taken(
            "20,000 chunks of one byte",
            answer(chunked(format!("{}0\r\n\r\n", "1\r\ny\r\n".repeat(20_000)))),
            "y".repeat(20_000),
        ),
        taken(
            "trailers that were not asked for",
            answer(chunked(
                "9\r\nall of it\r\n0\r\nContent-Type: text/html\r\nSet-Cookie: a=b\r\n\r\n",
            )),
            "all of it",
        ),
    ]
}

fn codings() -> Vec<Row> {
    let coded = |name, coding: &str, body: &str| {
        let head = format!("Transfer-Encoding: {coding}\r\n");
        refused(name, answer(ok(&head, body)), "body_incomplete").said("Transfer-Encoding")
    };
    let chunks = "9\r\nall of it\r\n0\r\n\r\n";
    vec![
        coded("a body in gzip for the way", "gzip", "all of it"),
        coded(
            "a body in gzip and chunks for the way",
            "gzip, chunked",
            chunks,
        ),
        coded("chunks in gzip for the way", "chunked, gzip", chunks),
        coded(
            "chunks in chunks",
            "chunked, chunked",
            "3\r\n0\r\n\r\n0\r\n\r\n",
        ),
        coded("chunks by another name", "xchunked", chunks),
        coded("chunks with a parameter", "chunked;q=1", chunks),
        coded("an empty transfer coding", "", "all of it"),
        refused(
            "two transfer codings",
            answer(ok(
                "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
                chunks,
            )),
            "body_incomplete",
        )
        .said("Transfer-Encoding"),
        refused(
            "chunks in HTTP/1.0",
            answer(format!(
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
            )),
            "connect",
        ),
        taken(
            "the transfer coding that is none",
            answer(ok("Transfer-Encoding: identity\r\n", "all of it")),
            "all of it",
        ),
        taken(
            "chunks in capitals",
            answer(ok("TRANSFER-ENCODING: Chunked\r\n", chunks)),
            "all of it",
        ),
    ]
}
