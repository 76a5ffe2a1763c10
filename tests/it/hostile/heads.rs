//! Heads that are none, or too many, or too much.

use super::row::{Row, answer, answer_then, flood, refused, say, steady, taken, whole};
use crate::support::script::Act;

/// A head's read buffer, and what the kernel's buffers take beside it, over three tries.
const HEADS: u64 = 3 * (16 << 20);

pub(super) fn rows() -> Vec<Row> {
    let mut rows = status_lines();
    rows.extend(headers());
    rows.extend(floods());
    rows
}

fn status_lines() -> Vec<Row> {
    let no_http = |name, bytes: &[u8]| refused(name, answer(bytes), "connect");
    vec![
        no_http("a status line of garbage", b"\x00\xff\xfe garbage\r\n\r\n"),
        no_http("no status line", b"<html>all of it</html>"),
        no_http("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        no_http("HTTP/2.0 200", b"HTTP/2.0 200 OK\r\n\r\nall of it"),
        no_http("HTTP/1.2 200", b"HTTP/1.2 200 OK\r\n\r\nall of it"),
        no_http("ICY 200", b"ICY 200 OK\r\n\r\nall of it"),
        no_http("status 000", b"HTTP/1.1 000 OK\r\n\r\nall of it"),
        no_http("status 1000", b"HTTP/1.1 1000 OK\r\n\r\nall of it"),
        no_http("status -20", b"HTTP/1.1 -20 OK\r\n\r\nall of it"),
        no_http("status 2xx", b"HTTP/1.1 2xx OK\r\n\r\nall of it"),
        no_http("no status", b"HTTP/1.1 OK\r\n\r\nall of it"),
        no_http(
            "a space before the status line",
            b" HTTP/1.1 200 OK\r\n\r\n",
        ),
        no_http(
            "an escape sequence for a reason",
            b"HTTP/1.1 200 \x1b[2J\r\nContent-Length: 9\r\n\r\nall of it",
        ),
        refused(
            "an SSH server",
            vec![say("SSH-2.0-OpenSSH_9.9\r\n"), Act::Hang],
            "connect",
        ),
        refused(
            "an SMTP server",
            vec![say("220 mx.example ESMTP\r\n"), Act::Hang],
            "connect",
        ),
        taken(
            "no reason phrase",
            answer("HTTP/1.1 200\r\nContent-Length: 9\r\n\r\nall of it"),
            "all of it",
        ),
        taken(
            "HTTP/1.0",
            answer("HTTP/1.0 200 OK\r\n\r\nall of it"),
            "all of it",
        ),
    ]
}

fn headers() -> Vec<Row> {
    let broken = |name, line: &[u8]| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n".to_vec();
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n\r\nall of it");
        refused(name, answer(bytes), "connect")
    };
    let odd = |name, line: &[u8]| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n".to_vec();
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n\r\nall of it");
        taken(name, answer(bytes), "all of it")
    };
    vec![
        broken("a header without a colon", b"no colon"),
        broken("a header without a name", b": value"),
        broken("a space before the colon", b"X : value"),
        broken("a space in a name", b"X Y: value"),
        broken("NUL in a value", b"X: a\0b"),
        broken("NUL in a name", b"X\0: b"),
        broken("a bare CR in a value", b"X: a\rb"),
        broken("a control character in a value", b"X: a\x07b"),
        broken("a folded header", b"X: a\r\n b"),
        broken("a name that is not ASCII", "Größe: 1".as_bytes()),
        odd("a value that is not UTF-8", b"X: \xff\xfe"),
        odd("lines that end in a bare LF", b"X: a\nY: b"),
        odd(
            "ninety cookies",
            "Set-Cookie: a=b\r\n".repeat(90).trim_end().as_bytes(),
        ),
    ]
}

fn floods() -> Vec<Row> {
    let line = "X-Filler: 0123456789\r\n";
    let many = |count: usize| {
        format!(
            "HTTP/1.1 200 OK\r\n{}Content-Length: 9\r\n\r\nall of it",
            line.repeat(count)
        )
    };
    let early = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n",
        "x".repeat(4096)
    );
    vec![
        taken("99 headers beside the length", answer(many(99)), "all of it"),
        refused("101 headers", answer(many(100)), "connect"),
        refused("10,000 headers", answer(many(10_000)), "connect").takes(HEADS),
        refused(
            "a header of 1 MiB",
            answer(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20))),
            "connect",
        ),
        refused(
            "an endless status line",
            answer_then("HTTP/1.1 200 ", vec![flood("x".repeat(8192))]),
            "connect",
        )
        .takes(HEADS),
        refused(
            "an endless header",
            answer_then("HTTP/1.1 200 OK\r\nX: ", vec![flood("x".repeat(8192))]),
            "connect",
        )
        .takes(HEADS),
        refused(
            "endless headers",
            answer_then("HTTP/1.1 200 OK\r\n", vec![flood(line.repeat(300))]),
            "connect",
        )
        .takes(HEADS),
        refused(
            "100 Continue for ever",
            vec![Act::Read, steady("HTTP/1.1 100 Continue\r\n\r\n".repeat(100))],
            "timeout",
        ),
        refused(
            "103 Early Hints for ever",
            vec![Act::Read, steady(early)],
            "timeout",
        ),
        taken(
            "100 Continue and 103 Early Hints, then the file",
            answer(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall of it",
            ),
            "all of it",
        ),
        // What one connection set is not sent back on the next.
        taken(
            "a cookie with a failure",
            answer(
                "HTTP/1.1 503 No\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ),
            "all of it",
        )
        .then(whole(b"all of it"))
        .connections(2),
    ]
}
