//! Lengths that lie, or contradict one another.

use super::row::{Row, answer, ok, refused, taken};

pub(super) fn rows() -> Vec<Row> {
    let sent = |name, headers: &str, code| refused(name, answer(ok(headers, "all of it")), code);
    let fine = |name, headers: &str| taken(name, answer(ok(headers, "all of it")), "all of it");
    vec![
        sent("a negative length", "Content-Length: -9\r\n", "connect"),
        sent("a length with a plus", "Content-Length: +9\r\n", "connect"),
        sent("a hexadecimal length", "Content-Length: 0x9\r\n", "connect"),
        sent("a length in words", "Content-Length: nine\r\n", "connect"),
        sent("a fractional length", "Content-Length: 9.0\r\n", "connect"),
        sent("an empty length", "Content-Length:\r\n", "connect"),
        sent(
            "a length of 2^64 - 1",
            "Content-Length: 18446744073709551615\r\n",
            "connect",
        ),
        sent(
            "a length of 2^64",
            "Content-Length: 18446744073709551616\r\n",
            "connect",
        ),
        sent(
            "a length of 2^64 + 9",
            "Content-Length: 18446744073709551625\r\n",
            "connect",
        ),
        sent(
            "a length beyond the limit",
            "Content-Length: 1048577\r\n",
            "too_large",
        ),
        sent(
            "a length far beyond the limit",
            "Content-Length: 9223372036854775807\r\n",
            "too_large",
        ),
        sent(
            "two lengths",
            "Content-Length: 9\r\nContent-Length: 4\r\n",
            "connect",
        ),
        sent("two lengths in one", "Content-Length: 9, 4\r\n", "connect"),
        sent(
            "less than the length",
            "Content-Length: 10\r\n",
            "body_incomplete",
        ),
        sent(
            "less than the length, of an HTTP/1.0 kind",
            "Connection: close\r\nContent-Length: 1000\r\n",
            "body_incomplete",
        ),
        fine(
            "one length twice",
            "Content-Length: 9\r\nContent-Length: 9\r\n",
        ),
        fine("one length twice in one", "Content-Length: 9, 9\r\n"),
        fine(
            "a length with leading zeros",
            "Content-Length: 0000000009\r\n",
        ),
        // The rest is nobody's, and its connection is not used again: see `reuse`.
        taken(
            "more than the length",
            answer(ok("Content-Length: 3\r\n", "all of it")),
            "all",
        ),
        taken("no body", answer(ok("Content-Length: 0\r\n", "")), ""),
        // Without a length its end is that of the connection; what is there is a file.
        taken("no length and no body", answer(ok("", "")), ""),
        // Both ways to tell a length, one for each of two who read it: request smuggling's cousin.
        refused(
            "a length that is more than the chunks have",
            answer(ok(
                "Content-Length: 100\r\nTransfer-Encoding: chunked\r\n",
                "9\r\nall of it\r\n0\r\n\r\n",
            )),
            "body_incomplete",
        ),
        refused(
            "a length that is less than the chunks have",
            answer(ok(
                "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                "9\r\nall of it\r\n0\r\n\r\n",
            )),
            "body_incomplete",
        ),
        taken(
            "a length that the chunks have",
            answer(ok(
                "Transfer-Encoding: chunked\r\nContent-Length: 9\r\n",
                "9\r\nall of it\r\n0\r\n\r\n",
            )),
            "all of it",
        ),
        refused(
            "a length that another transfer coding hides",
            answer(ok(
                "Transfer-Encoding: identity\r\nContent-Length: 100\r\n",
                "all of it",
            )),
            "body_incomplete",
        ),
        refused(
            "a length and a transfer coding that is none",
            answer(ok(
                "Transfer-Encoding: xchunked\r\nContent-Length: 9\r\n",
                "all of it",
            )),
            "body_incomplete",
        ),
    ]
}
