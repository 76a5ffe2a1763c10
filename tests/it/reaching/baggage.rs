//! What travels with a request: its own URL, and nothing of another's.

use super::{DEFAULT, PUBLIC, archive, archive_with};
use crate::support::world::{Reply, World, inside};

/// Each request since the last call, whole: its line, then its headers in alphabetical order.
fn heads(world: &World) -> Vec<Vec<String>> {
    let requests = world.origin.requests();
    let lines = requests.iter().map(|request| {
        let mut lines = request.head.trim_end().lines().map(str::to_owned);
        let first = lines.next().unwrap();
        let mut headers: Vec<_> = lines.collect();
        headers.sort();
        [vec![first], headers].concat()
    });
    lines.collect()
}

/// All that a request for a target at a host may hold.
fn plain(host: &str, target: &str) -> Vec<String> {
    let agent = concat!("user-agent: callvault/", env!("CARGO_PKG_VERSION"));
    [
        &format!("GET {target} HTTP/1.1"),
        "accept-encoding: identity",
        "accept: */*",
        &format!("host: {host}"),
        agent,
    ]
    .map(str::to_owned)
    .into()
}

/// A hop that leaves behind all that a browser would carry on.
fn hop(status: u16, location: &str) -> Reply {
    let mut reply = Reply::to(status, location);
    reply.headers.extend(
        [
            "Set-Cookie: canary=cookie; Path=/; Domain=example",
            "Set-Cookie: __Host-canary=cookie; Path=/; Secure",
            "WWW-Authenticate: Basic realm=\"canary\"",
            "Referrer-Policy: unsafe-url",
            "Authentication-Info: nextnonce=\"canary\"",
        ]
        .map(str::to_owned),
    );
    reply
}

#[test]
fn no_cookie_credential_or_referer_travels_to_any_hop() {
    inside(|world| {
        for name in ["start.example", "other.example", "third.example"] {
            world.dns.at(name, &[PUBLIC]);
        }
        world
            .origin
            .answer(|request| match (request.host(), request.target()) {
                ("start.example", "/a?sig=canary-query") => {
                    hop(302, "https://canary-user:canary-word@other.example/b?own=1")
                }
                ("other.example", "/b?own=1") => hop(307, "/c"),
                ("other.example", "/c") => hop(308, "https://canary-user@start.example/d"),
                _ => Reply {
                    headers: hop(200, "/").headers,
                    ..Reply::whence(request)
                },
            });
        let first =
            "https://canary-user:canary-word@start.example/a?sig=canary-query#canary-fragment";
        let fared = archive(world, DEFAULT, &[first]);
        assert_eq!(fared, [Ok(PUBLIC.into())]);
        let expected = [
            // Its own query is a part of what is asked for; its user information is nobody's.
            plain("start.example", "/a?sig=canary-query"),
            plain("other.example", "/b?own=1"),
            plain("other.example", "/c"),
            plain("start.example", "/d"),
        ];
        assert_eq!(heads(world), expected);
    });
}

#[test]
fn nothing_of_one_attachment_travels_with_another() {
    inside(|world| {
        world.dns.at("start.example", &[PUBLIC]);
        world.origin.answer(|request| match request.target() {
            // The first is done before the second is asked for: that one is at the end of redirects.
            "/second" => Reply::to(302, "/second/"),
            "/second/" => Reply::to(302, "/second/again"),
            _ => Reply {
                headers: hop(200, "/").headers,
                ..Reply::whence(request)
            },
        });
        let urls = [
            "https://canary@start.example/first?canary",
            "https://start.example/second",
        ];
        // Where other clients find credentials for a host.
        let home = world.folder("home");
        let netrc = "machine start.example login canary password canary\ndefault login canary password canary\n";
        std::fs::write(home.join(".netrc"), netrc).unwrap();
        let home = home.display().to_string();
        let fared = archive_with(world, DEFAULT, &urls, &[("HOME", &home)]);
        assert_eq!(fared, [Ok(PUBLIC.into()), Ok(PUBLIC.into())]);
        let mut heads = heads(world);
        heads.sort();
        let targets = ["/first?canary", "/second", "/second/", "/second/again"];
        assert_eq!(heads, targets.map(|target| plain("start.example", target)));
    });
}

#[test]
fn a_refusal_that_asks_for_credentials_gets_none_on_the_next_try() {
    inside(|world| {
        world.dns.at("start.example", &[PUBLIC]);
        world.origin.answer(|_| Reply {
            status: 503,
            ..hop(503, "https://canary@start.example/other")
        });
        let fared = archive(world, DEFAULT, &["https://canary:canary@start.example/a"]);
        assert_eq!(fared, [Err("http_503".into())]);
        let heads = heads(world);
        assert_eq!(heads, vec![plain("start.example", "/a"); heads.len()]);
        assert!(heads.len() > 1, "more than one try");
    });
}
