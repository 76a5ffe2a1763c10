//! Servers that say nothing, or too little, or go.

use std::time::Duration;

use super::row::{Row, answer, answer_then, drip, ok, refused, say};
use crate::support::script::Act;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = stalls();
    rows.extend(drips());
    rows.extend(ends());
    rows
}

fn stalls() -> Vec<Row> {
    let stalled = |bytes: Vec<u8>| answer_then(bytes, vec![Act::Hang]);
    vec![
        refused("silent after accept", vec![Act::Hang], "timeout"),
        refused(
            "silent after the request",
            vec![Act::Read, Act::Hang],
            "timeout",
        ),
        refused(
            "silent within the status line",
            stalled(b"HTTP/1.1 2".into()),
            "timeout",
        ),
        refused(
            "silent within the head",
            stalled(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX".into()),
            "timeout",
        ),
        refused(
            "silent between head and body",
            stalled(ok("Content-Length: 9\r\n", "")),
            "timeout",
        ),
        refused(
            "silent within the body",
            stalled(ok("Content-Length: 9\r\n", "all")),
            "timeout",
        ),
        refused(
            "silent within a chunk",
            stalled(ok("Transfer-Encoding: chunked\r\n", "9\r\nall")),
            "timeout",
        ),
        refused(
            "silent before the last chunk",
            stalled(ok("Transfer-Encoding: chunked\r\n", "3\r\nall\r\n")),
            "timeout",
        ),
        refused(
            "silent where the end of the connection would be that of the body",
            stalled(ok("", "all of it")),
            "timeout",
        ),
    ]
}

fn drips() -> Vec<Row> {
    let late = "limits.job_time";
    vec![
        refused(
            "a dripping status line",
            vec![Act::Read, drip("HTTP/1.1 200 OK, and so it goes on and on")],
            "timeout",
        ),
        refused(
            "a dripping header",
            answer_then("HTTP/1.1 200 OK\r\nX: ", vec![drip("y")]),
            "timeout",
        ),
        refused(
            "dripping headers",
            answer_then("HTTP/1.1 200 OK\r\n", vec![drip("X: y\r\n")]),
            "timeout",
        ),
        refused(
            "a dripping body",
            answer_then(ok("Content-Length: 1000\r\n", ""), vec![drip("y")]),
            "timeout",
        )
        .connections(1)
        .said(late),
        refused(
            "a dripping body without a length",
            answer_then(ok("", ""), vec![drip("y")]),
            "timeout",
        )
        .connections(1)
        .said(late),
        refused(
            "dripping chunks",
            answer_then(
                ok("Transfer-Encoding: chunked\r\n", ""),
                vec![Act::Steady("1\r\ny\r\n".into(), Duration::from_millis(300))],
            ),
            "timeout",
        )
        .connections(1)
        .said(late),
        refused(
            "a dripping chunk size",
            answer_then(
                ok("Transfer-Encoding: chunked\r\n", "3\r\nall\r\n"),
                vec![drip("0")],
            ),
            "timeout",
        ),
        refused(
            "a dripping chunk extension",
            answer_then(
                ok("Transfer-Encoding: chunked\r\n", "3;x="),
                vec![drip("y")],
            ),
            "timeout",
        ),
        refused(
            "dripping trailers",
            answer_then(
                ok("Transfer-Encoding: chunked\r\n", "3\r\nall\r\n0\r\n"),
                vec![drip("X: y\r\n")],
            ),
            "timeout",
        ),
    ]
}

fn ends() -> Vec<Row> {
    let half = ok("Content-Length: 9\r\n", "all");
    let reset = |bytes: Vec<u8>| {
        // The bytes before it would be lost in a reset that follows them at once.
        let pause = Act::Pause(Duration::from_millis(100));
        answer_then(bytes, vec![pause, Act::Reset])
    };
    vec![
        refused("an end after accept", vec![say("")], "connect"),
        refused("an end after the request", answer(""), "connect"),
        refused(
            "an end within the head",
            answer("HTTP/1.1 200 OK\r\nContent-Le"),
            "connect",
        ),
        refused(
            "an end between head and body",
            answer(ok("Content-Length: 9\r\n", "")),
            "body_incomplete",
        ),
        refused("an end within the body", answer(&half), "body_incomplete"),
        refused("a reset after accept", vec![Act::Reset], "connect"),
        refused(
            "a reset after the request",
            vec![Act::Read, Act::Reset],
            "connect",
        ),
        refused(
            "a reset within the head",
            reset(b"HTTP/1.1 200 OK\r\nContent-Le".into()),
            "connect",
        ),
        refused("a reset within the body", reset(half), "body_incomplete"),
        refused(
            "a reset where the end of the connection would be that of the body",
            reset(ok("", "all of it")),
            "body_incomplete",
        ),
    ]
}
