//! The guard: what passes leads to a public address and an allowed host, by another judgement than its own.
//!
//! An input is a letter for the rules, then lines: a URL, and where it and each next one redirect to.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
    time::Duration,
};

use axum::http::Uri;
use callvault::{config::Fetch, fetch::guard::Guard};
use url::{Host, Url};

/// Entries of `fetch.allowed_hosts`.
const HOSTS: [&[&str]; 4] = [
    &["*"],
    &["files.example.com", "*.cdn.example.com"],
    &["*.b\u{fc}cher.example", "8.8.8.8", "2606:4700::1111"],
    &["EXAMPLE.com.", "*.co.uk", "*"],
];

struct Rules {
    hosts: &'static [&'static str],
    http: bool,
    private: bool,
    guard: Guard,
}

/// One for each value of the letter's low four bits.
static RULES: LazyLock<Vec<Rules>> = LazyLock::new(|| {
    let rules = |bits: usize| {
        let (hosts, http, private) = (HOSTS[bits & 3], bits & 4 != 0, bits & 8 != 0);
        let guard = Guard::new(&Fetch {
            allowed_hosts: hosts.iter().map(ToString::to_string).collect(),
            allow_http: http,
            allow_private_addresses: private,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            max_redirects: 3,
            refusals: 3,
        });
        Rules {
            hosts,
            http,
            private,
            guard,
        }
    };
    (0..16).map(rules).collect()
});

pub(crate) fn target(bytes: &[u8]) {
    let Some((letter, rest)) = bytes.split_first() else {
        return;
    };
    let rules = &RULES[usize::from(*letter) % 16];
    addresses(rules, rest);
    let text = String::from_utf8_lossy(rest);
    let mut lines = text.split('\n');
    let Ok(mut url) = Url::parse(lines.next().unwrap_or_default()) else {
        return;
    };
    judge(rules, &url);
    for location in lines.take(4) {
        let Ok(next) = url.join(location) else {
            return;
        };
        url = next;
        judge(rules, &url);
    }
}

fn judge(rules: &Rules, url: &Url) {
    let judged = rules.guard.judge_url(url);
    if let Err(forbidden) = &judged {
        let words = forbidden.to_string();
        let fits = words.len() <= 1024 && !words.chars().any(char::is_control);
        assert!(fits, "{words:?}");
        // Of a URL nothing but its scheme and its host is told.
        assert!(!words.contains(['/', '?', '#', '@']), "{words:?}");
        return;
    }
    assert!(
        url.scheme() == "https" || url.scheme() == "http" && rules.http,
        "{url}"
    );
    match url.host().unwrap() {
        Host::Ipv4(address) => assert!(may(rules, address.into()), "{url}"),
        Host::Ipv6(address) => assert!(may(rules, address.into()), "{url}"),
        Host::Domain(name) => {
            assert!(rules.hosts.iter().any(|entry| allows(entry, name)), "{url}");
            assert!(!is_address(name), "{url}");
        }
    }
    // What the URL is to whoever connects: written out, read again, and as the HTTP client reads it.
    let again = Url::parse(url.as_str()).unwrap();
    assert_eq!(again, *url);
    let mut sent = url.clone();
    let _ = sent.set_username("");
    let _ = sent.set_password(None);
    assert_eq!(sent.host(), url.host());
    if let Ok(uri) = sent.as_str().parse::<Uri>() {
        assert_eq!(uri.host(), url.host_str(), "{url}");
        assert_eq!(uri.scheme_str(), Some(url.scheme()), "{url}");
        let port = uri.port_u16().or_else(|| {
            (!uri.to_string().is_empty()).then_some(if url.scheme() == "https" { 443 } else { 80 })
        });
        assert_eq!(port, url.port_or_known_default(), "{url}");
    }
}

/// The first bytes are an address, too, and each one with every usual prefix before it.
fn addresses(rules: &Rules, bytes: &[u8]) {
    let Some(four) = bytes.first_chunk::<4>() else {
        return;
    };
    let inner = Ipv4Addr::from_octets(*four);
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| u16::from(four[at]));
    let (high, low) = (a << 8 | b, c << 8 | d);
    let carriers = [
        inner.to_ipv6_mapped(),
        inner.to_ipv6_compatible(),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, high, low, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, !high, !low),
        Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0x5efe, high, low),
    ];
    let whole = bytes
        .first_chunk::<16>()
        .map(|all| Ipv6Addr::from_octets(*all));
    let all = carriers
        .into_iter()
        .chain(whole)
        .map(IpAddr::V6)
        .chain([inner.into()]);
    for address in all {
        let passed = rules.guard.judge_address(address).is_ok();
        assert!(!passed || may(rules, address), "{address}");
    }
    // The other way round: what anybody may reach, anybody's files may lie on.
    if is_public_v4(inner) && !is_reserved_v4(inner) {
        assert!(rules.guard.judge_address(inner.into()).is_ok(), "{inner}");
        assert!(
            rules
                .guard
                .judge_address(inner.to_ipv6_mapped().into())
                .is_ok(),
            "{inner}"
        );
    }
}

/// Whether a socket may connect there.
fn may(rules: &Rules, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address) || rules.private && is_local_v4(address),
        IpAddr::V6(address) => {
            let segments = address.segments();
            let joined = |at: usize| {
                Ipv4Addr::from_bits(u32::from(segments[at]) << 16 | u32::from(segments[at + 1]))
            };
            let inner = match segments {
                [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(joined(6)),
                [0x2002, ..] => Some(joined(1)),
                // Teredo: never, whatever it carries.
                [0x2001, 0, ..] => return false,
                _ => address.to_ipv4(),
            };
            // An ISATAP interface, under any prefix.
            let isatap = segments[5] == 0x5efe && segments[4] & 0xfcff == 0;
            let tail = isatap.then(|| joined(6));
            let carried = inner
                .into_iter()
                .chain(tail)
                .all(|inner| may(rules, inner.into()));
            let local = address.is_loopback()
                || address.is_unique_local()
                || address.is_unicast_link_local();
            let public = segments[0] & 0xe000 == 0x2000
                || inner.is_some() && !address.is_unspecified() && segments[..5] != [0; 5]
                || address.to_ipv4_mapped().is_some();
            let documentation =
                segments[..2] == [0x2001, 0xdb8] || segments[0] == 0x3fff && segments[1] < 0x1000;
            if local {
                return rules.private;
            }
            public && carried && !documentation && !address.is_multicast()
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !is_local_v4(address)
        && !address.is_documentation()
        && !address.is_multicast()
        && !address.is_broadcast()
        && a != 0
        && a < 240
        && !(a == 198 && b & 0xfe == 18)
        && [a, b, c] != [192, 0, 0]
}

fn is_local_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || a == 100 && b & 0xc0 == 64
}

/// Refused for reasons of our own.
fn is_reserved_v4(address: Ipv4Addr) -> bool {
    address == Ipv4Addr::new(168, 63, 129, 16) || address.octets()[..3] == [192, 88, 99]
}

/// Whether an entry names a host, label by label from the last one.
fn allows(entry: &str, name: &str) -> bool {
    let Some(entry) = (match entry {
        "*" => return true,
        "*.b\u{fc}cher.example" => Some("*.xn--bcher-kva.example"),
        entry => Some(entry.trim_end_matches('.')),
    }) else {
        return false;
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let (entry, name): (Vec<_>, Vec<_>) = (
        entry.split('.').rev().collect(),
        name.split('.').rev().collect(),
    );
    let same = |(one, other): (&&str, &&str)| *one == "*" || one.eq_ignore_ascii_case(other);
    let long_enough = if entry.last() == Some(&"*") {
        name.len() >= entry.len()
    } else {
        name.len() == entry.len()
    };
    long_enough && entry.iter().zip(&name).all(same)
}

/// Whether a resolver of the old kind takes a name for an address.
fn is_address(name: &str) -> bool {
    let number = |part: &str| {
        let hex = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
        hex.map_or_else(
            || !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()),
            |hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        )
    };
    name.parse::<IpAddr>().is_ok() || name.trim_end_matches('.').split('.').all(number)
}
