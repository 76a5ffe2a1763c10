use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use proptest::prelude::*;
use url::Url;

use super::{
    Forbidden, Guard, ranges,
    spellings::{
        Fate::{From, Garbled, Home, Hostless, Scheme, To},
        SPELLINGS,
    },
};
use crate::config::Fetch;

/// The defaults of the configuration, but for what is given.
fn guard(allowed_hosts: &[&str], allow_http: bool, allow_private_addresses: bool) -> Guard {
    Guard::new(&Fetch {
        allowed_hosts: allowed_hosts.iter().map(ToString::to_string).collect(),
        allow_http,
        allow_private_addresses,
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(30),
        max_redirects: 3,
        refusals: 3,
    })
}

fn strict() -> Guard {
    guard(&["*"], false, false)
}

fn development() -> Guard {
    guard(&["*"], true, true)
}

fn judge(guard: &Guard, url: &str) -> Result<(), Forbidden> {
    guard.judge_url(&Url::parse(url).unwrap())
}

fn code(guard: &Guard, url: &str) -> Option<&'static str> {
    judge(guard, url).err().map(|forbidden| forbidden.code())
}

#[test]
fn each_spelling_is_judged_by_the_host_that_it_leads_to() {
    let guard = strict();
    for (spelling, fate) in SPELLINGS {
        let url = Url::parse(spelling);
        let verdict = url.as_ref().map(|url| guard.judge_url(url));
        let as_expected = match (fate, &verdict) {
            (Garbled, Err(_)) => true,
            (From(host) | Home(host), Ok(Ok(()))) => {
                url.as_ref().is_ok_and(|url| url.host_str() == Some(host))
            }
            (To(expected), Ok(Err(Forbidden::Address { address, .. }))) => {
                address.to_string() == *expected
            }
            (Scheme, Ok(Err(forbidden))) => forbidden.code() == "scheme_not_allowed",
            (Hostless, Ok(Err(forbidden))) => forbidden.code() == "host_not_allowed",
            _ => false,
        };
        assert!(
            as_expected,
            "{spelling:?} should be {fate:?}, was {verdict:?}"
        );
    }
}

#[test]
fn http_is_allowed_only_where_the_configuration_says_so_and_nothing_else_ever() {
    let lax = guard(&["*"], true, false);
    assert_eq!(code(&lax, "http://files.example/"), None);
    assert_eq!(code(&lax, "https://files.example/"), None);
    assert_eq!(code(&lax, "http://127.0.0.1/"), Some("address_not_allowed"));
    for (spelling, _) in SPELLINGS {
        if let Ok(url) = Url::parse(spelling)
            && !matches!(url.scheme(), "http" | "https")
        {
            let verdict = development()
                .judge_url(&url)
                .map_err(|forbidden| forbidden.code());
            assert_eq!(verdict, Err("scheme_not_allowed"), "{spelling:?}");
        }
    }
}

#[test]
fn hosts_match_on_whole_labels() {
    for (entry, host, allowed) in [
        ("*", "anything.example", true),
        ("*", "8.8.8.8", true),
        ("*", "[2606:4700::1111]", true),
        ("files.example", "files.example", true),
        ("files.example", "FILES.EXAMPLE", true),
        ("Files.Example", "files.example", true),
        ("files.example", "files.example.", true),
        ("files.example.", "files.example", true),
        ("files.example", "a.files.example", false),
        ("files.example", "evilfiles.example", false),
        ("files.example", "files.example.evil", false),
        ("files.example", "files-example", false),
        ("files.example", "example", false),
        ("files.example", "8.8.8.8", false),
        ("*.files.example", "a.files.example", true),
        ("*.files.example", "A.b.FILES.example.", true),
        ("*.Files.Example.", "a.files.example", true),
        ("*.files.example", "files.example", false),
        ("*.files.example", "files.example.", false),
        ("*.files.example", "evilfiles.example", false),
        ("*.files.example", "a.files.example.evil", false),
        ("*.files.example", ".files.example", false),
        ("*.files.example", "a..files.example", false),
        ("*.files.example", "files.example@evil.example", false),
        ("*.files.example", "evil.example\\.files.example", false),
        ("*.files.example", "evil.example#.files.example", false),
        ("b\u{fc}cher.example", "b\u{fc}cher.example", true),
        ("b\u{fc}cher.example", "xn--bcher-kva.example", true),
        ("xn--bcher-kva.example", "B\u{dc}CHER.example", true),
        ("*.b\u{fc}cher.example", "a.xn--bcher-kva.example", true),
        // A Cyrillic letter that looks like the Latin one.
        ("files.example", "f\u{456}les.example", false),
        ("8.8.8.8", "8.8.8.8", true),
        ("8.8.8.8", "134744072", true),
        ("8.8.8.8", "8.8.4.4", false),
        ("8.8.8.8", "[::ffff:8.8.8.8]", false),
        ("*.8.8", "8.8.8.8", false),
        ("*.8.8.8.8", "8.8.8.8", false),
        ("[2606:4700::1111]", "[2606:4700:0::1111]", true),
        ("2606:4700::1111", "[2606:4700::1111]", true),
        ("2606:4700::1111", "[2606:4700::1112]", false),
        // Entries that are no host allow nothing.
        ("", "files.example", false),
        (".", "files.example", false),
        ("*.", "files.example", false),
        ("*.*", "files.example", false),
        ("**", "files.example", false),
        ("*example", "files.example", false),
        ("f*.example", "files.example", false),
        ("files.*", "files.example", false),
        (".files.example", "a.files.example", false),
        ("https://files.example", "files.example", false),
        ("files.example:443", "files.example", false),
        ("files.example/", "files.example", false),
        (" files.example", "files.example", false),
    ] {
        let verdict = code(&guard(&[entry], false, false), &format!("https://{host}/"));
        assert_eq!(
            verdict,
            (!allowed).then_some("host_not_allowed"),
            "{entry:?} and {host:?}"
        );
    }
}

#[test]
fn one_of_several_entries_is_enough_and_none_allows_nothing() {
    let several = guard(
        &["files.example", "*.cdn.example", "10.0.0.7"],
        false,
        false,
    );
    assert_eq!(code(&several, "https://files.example/"), None);
    assert_eq!(code(&several, "https://a.cdn.example/"), None);
    assert_eq!(
        code(&several, "https://other.example/"),
        Some("host_not_allowed")
    );
    // A listed address is still judged as one.
    assert_eq!(
        code(&several, "https://10.0.0.7/"),
        Some("address_not_allowed")
    );
    assert_eq!(
        code(&guard(&[], true, true), "https://files.example/"),
        Some("host_not_allowed")
    );
}

#[test]
fn a_name_has_at_most_253_characters() {
    let labels = format!("{}.", "a".repeat(63)).repeat(4);
    assert_eq!(
        code(&strict(), &format!("https://{}/", &labels[..253])),
        None
    );
    assert_eq!(
        code(&strict(), &format!("https://{}./", &labels[..253])),
        None
    );
    assert_eq!(
        code(&strict(), &format!("https://{}/", &labels[..254])),
        Some("host_not_allowed")
    );
    for long in [
        format!("https://{}/", "a".repeat(100_000)),
        format!("{}://x/", "a".repeat(100_000)),
    ] {
        let message = judge(&strict(), &long).unwrap_err().to_string();
        assert!(message.len() < 300, "{message}");
    }
}

#[test]
fn messages_say_what_and_why_and_which_key() {
    let message = |url| {
        judge(
            &guard(
                &["*.example", "10.0.0.7", "[::ffff:10.0.0.7]", "224.0.0.1"],
                false,
                false,
            ),
            url,
        )
        .unwrap_err()
        .to_string()
    };
    assert_eq!(
        message("http://a.example/"),
        "scheme \"http\" is not allowed: fetch.allow_http is false"
    );
    assert_eq!(
        message("ftp://a.example/"),
        "scheme \"ftp\" is not allowed: only https is, and http with fetch.allow_http"
    );
    assert_eq!(
        message("https://b.test/"),
        "host \"b.test\" is not in fetch.allowed_hosts"
    );
    assert_eq!(
        message("https://a..example/"),
        "host \"a..example\" is not a host name"
    );
    assert_eq!(
        message("https://10.0.0.7/"),
        "10.0.0.7 is private (RFC 1918), not public: fetch.allow_private_addresses is false"
    );
    assert_eq!(
        message("https://[::ffff:10.0.0.7]/"),
        "::ffff:10.0.0.7 carries 10.0.0.7, which is private (RFC 1918), not public: fetch.allow_private_addresses is false"
    );
    assert_eq!(
        message("https://224.0.0.1/"),
        "224.0.0.1 is multicast (RFC 5771), not public"
    );
}

#[test]
fn messages_hold_nothing_of_a_url_but_its_scheme_and_host() {
    for start in [
        "http://me:hush@files.example",
        "https://me:hush@other.example",
        "https://me:hush@10.0.0.7",
        "mailto:hush",
        "https://me:hush@.",
    ] {
        let forbidden = judge(
            &guard(&["files.example", "10.0.0.7"], false, false),
            &format!("{start}/hush?sig=hush#hush"),
        )
        .unwrap_err();
        assert!(
            !format!("{forbidden} {forbidden:?}").contains("hush"),
            "{forbidden}"
        );
    }
}

/// Each refused block, and whether the addresses just before and just after it are public.
const BLOCKS: &[(&str, bool, bool)] = &[
    ("0.0.0.0/8", false, true),
    ("10.0.0.0/8", true, true),
    ("100.64.0.0/10", true, true),
    ("127.0.0.0/8", true, true),
    ("168.63.129.16/32", true, true),
    ("169.254.0.0/16", true, true),
    ("172.16.0.0/12", true, true),
    ("192.0.0.0/24", true, true),
    ("192.0.2.0/24", true, true),
    ("192.88.99.0/24", true, true),
    ("192.168.0.0/16", true, true),
    ("198.18.0.0/15", true, true),
    ("198.51.100.0/24", true, true),
    ("203.0.113.0/24", true, true),
    ("224.0.0.0/4", true, false),
    ("240.0.0.0/4", false, false),
    ("255.255.255.255/32", false, false),
    // Everything before 2000::/3, with the public parts of what is carried there.
    ("::/128", false, false),
    ("::1/128", false, false),
    ("::/96", false, false),
    ("::ffff:0.0.0.0/104", false, true),
    ("::ffff:10.0.0.0/104", true, true),
    ("::ffff:127.0.0.0/104", true, true),
    ("::ffff:169.254.0.0/112", true, true),
    ("::ffff:224.0.0.0/99", true, false),
    ("::ffff:0:0:0/96", false, false),
    ("64:ff9b::/104", false, true),
    ("64:ff9b::10.0.0.0/104", true, true),
    ("64:ff9b::169.254.0.0/112", true, true),
    ("64:ff9b::224.0.0.0/99", true, false),
    ("64:ff9b::1:0:0/96", false, false),
    ("64:ff9b:1::/48", false, false),
    ("100::/64", false, false),
    ("100:0:0:1::/64", false, false),
    ("200::/7", false, false),
    ("400::/6", false, false),
    ("800::/5", false, false),
    ("1000::/4", false, true),
    // In it.
    ("2001::/23", true, true),
    ("2001::/32", true, false),
    ("2001:1::/32", false, false),
    ("2001:2::/48", false, false),
    ("2001:10::/28", false, false),
    ("2001:20::/28", false, false),
    ("2001:30::/28", false, false),
    ("2001:db8::/32", true, true),
    ("2002::/16", true, true),
    ("2606:4700::5efe:10.0.0.0/104", true, true),
    ("2606:4700::200:5efe:10.0.0.0/104", true, true),
    ("3fff::/20", true, true),
    // And after it.
    ("4000::/3", true, false),
    ("5f00::/16", false, false),
    ("6000::/3", false, false),
    ("8000::/1", false, false),
    ("fc00::/7", false, false),
    ("fe80::/10", false, false),
    ("fec0::/10", false, false),
    ("ff00::/8", false, false),
];

/// The blocks of [`BLOCKS`] that development may reach.
const LOCAL: &[&str] = &[
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "::ffff:10.0.0.0/104",
    "::ffff:127.0.0.0/104",
    "::ffff:169.254.0.0/112",
    "64:ff9b::10.0.0.0/104",
    "64:ff9b::169.254.0.0/112",
    "2606:4700::5efe:10.0.0.0/104",
    "2606:4700::200:5efe:10.0.0.0/104",
    "fc00::/7",
    "fe80::/10",
];

/// The first and the last address of a block.
fn edges(block: &str) -> (IpAddr, IpAddr) {
    let (first, bits) = block.split_once('/').unwrap();
    let bits: u32 = bits.parse().unwrap();
    let first: IpAddr = first.parse().unwrap();
    let last = match first {
        IpAddr::V4(v4) => IpAddr::V4(v4 | Ipv4Addr::from_bits(u32::MAX.unbounded_shr(bits))),
        IpAddr::V6(v6) => IpAddr::V6(v6 | Ipv6Addr::from_bits(u128::MAX.unbounded_shr(bits))),
    };
    (first, last)
}

/// The address so many after another, where there is one.
fn shifted(address: IpAddr, by: i32) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_add_signed(by)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_add_signed(by.into())
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[test]
fn blocks_are_refused_from_their_first_to_their_last_address() {
    let is_public = |address| strict().judge_address(address).is_ok();
    for (block, before, after) in BLOCKS {
        let (first, last) = edges(block);
        for address in [first, last] {
            assert!(!is_public(address), "{address} of {block}");
            let developing = development().judge_address(address).is_ok();
            assert_eq!(developing, LOCAL.contains(block), "{address} of {block}");
        }
        assert_eq!(
            shifted(first, -1).is_some_and(is_public),
            *before,
            "before {block}"
        );
        assert_eq!(
            shifted(last, 1).is_some_and(is_public),
            *after,
            "after {block}"
        );
    }
}

#[test]
fn addresses_are_named_for_what_they_are() {
    for (address, what) in [
        ("0.0.0.0", "this network"),
        ("127.0.0.53", "loopback"),
        ("169.254.169.254", "link-local"),
        ("100.100.100.200", "carrier-grade NAT"),
        ("168.63.129.16", "Azure"),
        ("192.0.0.192", "for protocols"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::127.0.0.1", "IPv4-compatible"),
        ("::ffff:0:127.0.0.1", "SIIT"),
        ("::ffff:127.0.0.1", "carries 127.0.0.1, which is loopback"),
        (
            "64:ff9b::169.254.169.254",
            "carries 169.254.169.254, which is link-local",
        ),
        ("2002:c0a8:101::1", "6to4"),
        (
            "2606:4700::5efe:10.0.0.7",
            "carries 10.0.0.7, which is private",
        ),
        ("64:ff9b:1::1", "local-use NAT64"),
        ("100::1", "discard-only"),
        ("100:0:0:1::1", "dummy"),
        ("2001::1", "Teredo"),
        ("2001:1::1", "for protocols"),
        ("2001:2::1", "benchmarking"),
        ("2001:1f::1", "ORCHID,"),
        ("2001:2f::1", "ORCHIDv2"),
        ("2001:30::1", "for protocols"),
        ("2001:db8::1", "documentation"),
        ("3fff::1", "documentation"),
        ("5f00::1", "SRv6"),
        ("fd00::1", "unique-local"),
        ("fe80::5efe:10.0.0.7", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("4000::1", "not global unicast"),
    ] {
        let message = strict()
            .judge_address(address.parse().unwrap())
            .unwrap_err()
            .to_string();
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn development_reaches_this_machine_and_its_networks_and_nothing_odd() {
    for (address, allowed) in [
        ("8.8.8.8", true),
        ("10.0.0.7", true),
        ("172.16.0.1", true),
        ("192.168.0.1", true),
        ("127.0.0.1", true),
        ("169.254.1.1", true),
        ("100.64.0.1", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("64:ff9b::10.0.0.7", true),
        ("fd00::1", true),
        ("fe80::1", true),
        ("fe80::5efe:10.0.0.7", true),
        ("2606:4700::1111", true),
        ("0.0.0.0", false),
        ("::ffff:0.0.0.0", false),
        ("fd00::5efe:0.0.0.0", false),
        ("192.0.2.1", false),
        ("198.18.0.1", false),
        ("224.0.0.1", false),
        ("240.0.0.1", false),
        ("255.255.255.255", false),
        ("::", false),
        ("::127.0.0.1", false),
        ("::ffff:0:127.0.0.1", false),
        ("64:ff9b:1::1", false),
        ("100::1", false),
        ("2001::1", false),
        ("2001:db8::1", false),
        ("4000::1", false),
        ("fec0::1", false),
        ("ff02::1", false),
    ] {
        assert_eq!(
            development()
                .judge_address(address.parse().unwrap())
                .is_ok(),
            allowed,
            "{address}"
        );
    }
    assert_eq!(code(&development(), "http://127.0.0.1:8080/a.wav"), None);
    assert_eq!(
        code(&development(), "http://0.0.0.0:8080/a.wav"),
        Some("address_not_allowed")
    );
}

/// The lists of special addresses that `std` has in stable functions: another reading of the RFCs.
fn special_to_std(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_unspecified()
                || v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6
                    .to_ipv4()
                    .is_some_and(|inner| special_to_std(IpAddr::V4(inner)))
        }
    }
}

/// An address in or near a block of [`BLOCKS`], with random bits at its end.
fn special() -> impl Strategy<Value = IpAddr> {
    let edges: Vec<_> = BLOCKS
        .iter()
        .map(|(block, ..)| edges(block))
        .flat_map(|(a, b)| [a, b])
        .collect();
    (
        prop::sample::select(edges),
        any::<u128>(),
        0..128_u32,
        -2..3,
    )
        .prop_map(|(edge, noise, shift, by)| {
            let near = shifted(edge, by).unwrap_or(edge);
            let noise = noise >> shift;
            match near {
                IpAddr::V4(v4) => {
                    Ipv4Addr::from_bits(v4.to_bits() ^ u32::try_from(noise).unwrap_or(0)).into()
                }
                IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() ^ noise).into(),
            }
        })
}

fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    let special = special().prop_filter_map("IPv6", |address| match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    });
    prop_oneof![any::<Ipv4Addr>(), special]
}

fn any_v6() -> impl Strategy<Value = Ipv6Addr> {
    let special = special().prop_filter_map("IPv4", |address| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(v6),
    });
    prop_oneof![any::<Ipv6Addr>(), special]
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<IpAddr>(), special()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_refused_as_ipv4_is_refused_in_every_ipv6_dress(
        inner in any_v4(),
        rest in any::<u128>(),
        flags in 0_u16..4,
    ) {
        let bits = u128::from(inner.to_bits());
        let within = |first: u128, shift: u32| Ipv6Addr::from_bits(first | bits << shift);
        let under_2000 = rest >> 67 << 64 | 1 << 125;
        let isatap = u128::from(flags) << 56 | 0x5efe << 32;
        let never = [
            within(0, 0),
            within(0xffff_0000_0000_0000, 0),
            within(0x0064_ff9b_0001 << 80, 0),
            within(0x0064_ff9b_0001 << 80 | rest >> 64, 0),
            Ipv6Addr::from_bits(0x2001 << 112 | (!bits & 0xffff_ffff)),
            within(0x2001 << 112, 64),
            within(0x2002 << 112 | rest >> 48 & !0xffff_0000_0000, 80),
        ];
        let as_inner = [
            within(0xffff_0000_0000, 0),
            within(0x0064_ff9b << 96, 0),
            within(under_2000 | isatap, 0),
            within(isatap | 0xfd00 << 112, 0),
            within(isatap | 0xfe80 << 112, 0),
        ];
        for guard in [strict(), development()] {
            for dress in never {
                // `::1` is loopback, which development may reach, before it is compatible 0.0.0.1.
                let refused = guard.judge_address(dress.into()).is_err();
                prop_assert!(refused || dress == Ipv6Addr::LOCALHOST, "{dress}");
            }
            if guard.judge_address(inner.into()).is_err() {
                for dress in as_inner {
                    prop_assert!(guard.judge_address(dress.into()).is_err(), "{dress}");
                }
            } else {
                // The kernel makes no difference between these two, so neither does the guard.
                prop_assert!(guard.judge_address(as_inner[0].into()).is_ok());
                prop_assert!(guard.judge_address(as_inner[1].into()).is_ok());
            }
        }
    }

    #[test]
    fn what_std_knows_as_special_is_refused(address in any_address()) {
        prop_assert!(!special_to_std(address) || strict().judge_address(address).is_err());
    }

    #[test]
    fn no_ipv6_address_outside_global_unicast_is_public_but_mapped_and_nat64(address in any_v6()) {
        let public = strict().judge_address(address.into()).is_ok();
        let bits = address.to_bits();
        let carrier = bits >> 32 == 0xffff || bits >> 32 == 0x0064_ff9b << 64;
        prop_assert!(!public || carrier || bits >> 125 == 1, "{address}");
    }

    #[test]
    fn an_address_in_a_url_is_judged_as_one(address in any_address()) {
        let host = match address {
            IpAddr::V4(v4) => v4.to_bits().to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        for guard in [strict(), development()] {
            let url = format!("https://{host}:8443/a?b#c");
            prop_assert_eq!(judge(&guard, &url), guard.judge_address(address));
        }
    }

    #[test]
    fn development_allows_more_and_says_which_key_does(address in any_address()) {
        let strictly = strict().judge_address(address);
        let laxly = development().judge_address(address);
        prop_assert!(strictly.is_err() || laxly.is_ok());
        if let Err(Forbidden::Address { local, .. }) = strictly {
            prop_assert!(local || laxly.is_err());
        }
    }

    #[test]
    fn no_url_panics_and_no_refused_address_passes(
        text in "[hH]ttps?:[/\\\\]{0,3}[0-9a-fxX.:@%\\[\\]\u{3002}\u{ff11}/?#-]{0,24}",
    ) {
        if let Ok(url) = Url::parse(&text) {
            let address = match url.host() {
                Some(url::Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
                Some(url::Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
                _ => None,
            };
            let refused = address.is_some_and(|address| strict().judge_address(address).is_err());
            prop_assert!(!refused || strict().judge_url(&url).is_err());
        }
    }
}

#[test]
fn each_row_of_the_table_is_the_first_to_cover_something() {
    assert!(
        ranges::unreachable_rows().is_empty(),
        "{:?}",
        ranges::unreachable_rows()
    );
}
