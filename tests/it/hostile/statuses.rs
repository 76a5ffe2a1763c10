//! Answers that are not the file.

use super::row::{Row, answer, refused, taken, whole};

pub(super) fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = [
        (
            "101",
            "101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade",
            "http_101",
        ),
        ("201", "201 Created", "http_201"),
        ("203", "203 Non-Authoritative Information", "http_203"),
        ("204", "204 No Content", "http_204"),
        ("205", "205 Reset Content", "http_205"),
        (
            "206 that was not asked for",
            "206 Partial Content\r\nContent-Range: bytes 0-8/100",
            "http_206",
        ),
        (
            "300",
            "300 Multiple Choices\r\nLocation: http://127.0.0.1:{forbidden}/",
            "http_300",
        ),
        ("304 that was not asked for", "304 Not Modified", "http_304"),
        (
            "305 to a proxy",
            "305 Use Proxy\r\nLocation: http://127.0.0.1:{forbidden}/",
            "http_305",
        ),
        (
            "306",
            "306 Switch Proxy\r\nLocation: http://127.0.0.1:{forbidden}/",
            "http_306",
        ),
        (
            "401 with a challenge",
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"",
            "http_401",
        ),
        (
            "401 with another challenge",
            "401 Unauthorized\r\nWWW-Authenticate: Negotiate",
            "http_401",
        ),
        (
            "407",
            "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic",
            "http_407",
        ),
        ("421", "421 Misdirected Request", "http_421"),
        (
            "426",
            "426 Upgrade Required\r\nUpgrade: TLS/1.2",
            "http_426",
        ),
        ("599", "599 Whatever\r\nRetry-After: 99999999", "http_599"),
        ("600", "600 Whatever", "http_600"),
        ("999", "999 Request denied", "http_999"),
        (
            "503 until the end of time",
            "503 No\r\nRetry-After: 18446744073709551615",
            "http_503",
        ),
        (
            "503 until the year 9999",
            "503 No\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT",
            "http_503",
        ),
        (
            "429 for longer than time",
            "429 Slow\r\nRetry-After: 99999999999999999999",
            "http_429",
        ),
        (
            "429 since the year 1",
            "429 Slow\r\nRetry-After: Mon, 01 Jan 0001 00:00:00 GMT",
            "http_429",
        ),
    ]
    .into_iter()
    .map(|(name, status, code)| {
        let text =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 9\r\n\r\nall of it");
        // Who asks for a long pause gets no quick tries, and who asks for none in words does.
        let quick = matches!(code, "http_429");
        refused(name, answer(text), code).connections(if quick { 3 } else { 1 })
    })
    .collect();
    rows.push(refused(
        "511 of a captive portal",
        answer("HTTP/1.1 511 Log in\r\nLocation: http://127.0.0.1:{forbidden}/\r\nConnection: close\r\n\r\n<html>"),
        "http_511",
    ));
    rows.push(refused(
        "503 for minus ten seconds",
        answer(
            "HTTP/1.1 503 No\r\nRetry-After: -10\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        ),
        "http_503",
    ));
    rows.push(
        taken(
            "a file with a Refresh and a Content-Location",
            answer(
                "HTTP/1.1 200 OK\r\nRefresh: 0; url=http://127.0.0.1:{forbidden}/\r\n\
                 Content-Location: http://127.0.0.1:{forbidden}/\r\nContent-Length: 9\r\n\r\nall of it",
            ),
            "all of it",
        )
        .then(whole(b"another")),
    );
    rows.push(taken(
        "a file with a Link, an Alt-Svc and a Strict-Transport-Security",
        answer(
            "HTTP/1.1 200 OK\r\nLink: <http://127.0.0.1:{forbidden}/>; rel=preload\r\n\
             Alt-Svc: h2=\"127.0.0.1:{forbidden}\"\r\nStrict-Transport-Security: max-age=9\r\n\
             Content-Length: 9\r\n\r\nall of it",
        ),
        "all of it",
    ));
    rows
}
