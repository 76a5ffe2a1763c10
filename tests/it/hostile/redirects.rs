//! Redirects that lead nowhere, in circles, or where nobody may go.

use super::row::{Row, answer, answer_then, flood, refused, say, taken};
use crate::support::script::Act;

fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

/// So many redirects on one connection, and then this.
fn hops(count: usize, then: Act) -> Vec<Act> {
    let mut acts: Vec<Act> = (0..count)
        .flat_map(|n| [Act::Read, say(to(&format!("/hop/{n}?x=y")))])
        .collect();
    acts.extend([Act::Read, then]);
    acts
}

pub(super) fn rows() -> Vec<Row> {
    let nowhere = |name, location: &str, code| refused(name, answer(to(location)), code);
    let file = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall of it";
    let long = format!("/{}", "x".repeat(1 << 20));
    vec![
        refused(
            "no Location",
            answer("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
            "http_302",
        ),
        refused(
            "a Location that is not UTF-8",
            answer(b"HTTP/1.1 302 Found\r\nLocation: /\xff\xfe\r\nContent-Length: 0\r\n\r\n"),
            "http_302",
        ),
        nowhere(
            "a Location of garbage",
            "http://[:::]:99999/%%%",
            "http_302",
        ),
        nowhere("a Location of 1 MiB", &long, "connect").connections(3),
        refused(
            "an empty Location",
            (0..9).flat_map(|_| [Act::Read, say(to(""))]).collect(),
            "too_many_redirects",
        )
        .requests(4),
        nowhere("to file:", "file:///etc/passwd", "scheme_not_allowed"),
        nowhere(
            "to ftp:",
            "ftp://127.0.0.1:{forbidden}/file.bin",
            "scheme_not_allowed",
        ),
        nowhere("to data:", "data:,all%20of%20it", "scheme_not_allowed"),
        nowhere(
            "to gopher:",
            "gopher://127.0.0.1:{forbidden}/_GET",
            "scheme_not_allowed",
        ),
        nowhere(
            "to javascript:",
            "javascript:alert(1)",
            "scheme_not_allowed",
        ),
        nowhere(
            "to another host",
            "http://localhost:{forbidden}/file.bin",
            "host_not_allowed",
        ),
        nowhere(
            "to another host without a scheme",
            "//localhost:{forbidden}/file.bin",
            "host_not_allowed",
        ),
        nowhere(
            "to another host behind a backslash",
            "/\\localhost:{forbidden}/file.bin",
            "host_not_allowed",
        ),
        nowhere(
            "to another host behind user information",
            "http://127.0.0.1@localhost:{forbidden}/file.bin",
            "host_not_allowed",
        ),
        nowhere(
            "to the metadata service",
            "http://169.254.169.254/latest/",
            "host_not_allowed",
        ),
        refused("a loop", hops(9, say("")), "too_many_redirects").requests(4),
        refused(
            "one redirect too many",
            hops(4, say(file)),
            "too_many_redirects",
        )
        .requests(4),
        taken(
            "as many redirects as are allowed",
            hops(3, say(file)),
            "all of it",
        )
        .requests(4),
        taken(
            "a redirect with a cookie and user information",
            vec![
                Act::Read,
                say(
                    "HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nLocation: /next#part\r\n\
                     WWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
                ),
                Act::Read,
                say(file),
            ],
            "all of it",
        )
        .requests(2),
        // Its body is not the file, and is not read through before the next request.
        taken(
            "an endless body in a redirect",
            answer_then(
                "HTTP/1.1 302 Found\r\nLocation: /next\r\n\r\n",
                vec![flood(vec![0; 64 << 10])],
            ),
            "all of it",
        )
        .then(answer(file))
        .connections(2)
        .takes(16 << 20),
        taken(
            "a redirect whose body never comes",
            answer_then(
                "HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 9\r\n\r\n",
                vec![Act::Hang],
            ),
            "all of it",
        )
        .then(answer(file))
        .connections(2),
        // A whole answer behind the one that was asked for: the next request must not take it for its own.
        taken(
            "a redirect with the next answer behind it",
            answer_then(
                format!(
                    "{}HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled",
                    to("/next")
                ),
                vec![Act::Hang],
            ),
            "all of it",
        )
        .then(answer(file))
        .connections(2),
    ]
}
