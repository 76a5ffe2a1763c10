//! Every spelling of a URL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    DEFAULT, DEVELOPMENT, PUBLIC, archive, are_invalid, arrival, assert_connected_to, assert_quiet,
    is_of_this_network,
    spellings::{
        Fate::{From, Garbled, Home, Hostless, Scheme, To},
        SPELLINGS,
    },
};
use crate::support::world::{World, inside};

/// The names of the table lead where it says.
fn tell_names(world: &World) {
    for (_, fate) in SPELLINGS {
        match fate {
            From(host) => world.dns.at(host.trim_end_matches('.'), &[PUBLIC]),
            Home(host) => world
                .dns
                .at(host.trim_end_matches('.'), &["127.0.0.1", "::1"]),
            _ => {}
        }
    }
}

/// The spellings that the table refuses, each with its problem's code.
fn refused() -> impl Iterator<Item = (&'static str, &'static str)> {
    SPELLINGS.iter().filter_map(|(url, fate)| match fate {
        To(_) | Home(_) => Some((*url, "address_not_allowed")),
        Hostless => Some((*url, "host_not_allowed")),
        Scheme => Some((*url, "scheme_not_allowed")),
        From(_) | Garbled => None,
    })
}

#[test]
fn a_refused_spelling_of_a_url_begins_no_connection_and_looks_no_refused_host_up() {
    inside(|world| {
        tell_names(world);
        let (urls, codes): (Vec<_>, Vec<_>) = refused().unzip();
        let fared = archive(world, DEFAULT, &urls);
        for ((url, code), fared) in urls.iter().zip(codes).zip(fared) {
            assert_eq!(fared, Err(code.to_owned()), "{url:?}");
        }
        let looked_up = world.dns.look_ups();
        let home = SPELLINGS.iter().filter_map(|(_, fate)| match fate {
            Home(host) => Some(host.trim_end_matches('.')),
            _ => None,
        });
        let home: Vec<_> = home.collect();
        for name in looked_up.keys() {
            assert!(home.contains(&name.as_str()), "{name}");
        }

        let garbled = SPELLINGS.iter().filter(|(_, fate)| matches!(fate, Garbled));
        let garbled: Vec<_> = garbled.map(|(url, _)| url).collect();
        for (url, invalid) in garbled.iter().zip(are_invalid(world, &garbled)) {
            assert!(invalid, "{url:?}");
        }
        assert_eq!(world.dns.look_ups().len(), 0);
        assert_quiet(world);
        assert!(urls.len() + garbled.len() >= 200, "a table of so many");
    });
}

#[test]
fn an_allowed_spelling_of_a_url_is_fetched_from_the_address_that_it_leads_to() {
    inside(|world| {
        tell_names(world);
        let (urls, hosts): (Vec<_>, Vec<_>) = SPELLINGS
            .iter()
            .filter_map(|(url, fate)| match fate {
                From(host) => Some((*url, *host)),
                _ => None,
            })
            .unzip();
        let address = |host: &str| {
            let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
            address.map_or(PUBLIC.to_owned(), |address| {
                address.to_canonical().to_string()
            })
        };
        let fared = archive(world, DEFAULT, &urls);
        let mut expected = Vec::new();
        for ((url, host), fared) in urls.iter().zip(hosts).zip(fared) {
            assert_eq!(fared, Ok(address(host)), "{url:?}");
            expected.push(address(host));
        }
        assert_connected_to(world, expected);
    });
}

/// What is refused above is no mere nonsense: where nothing forbids it, it leads home.
#[test]
fn a_refused_spelling_leads_a_client_without_a_guard_to_the_very_address() {
    inside(|world| {
        tell_names(world);
        let client = unguarded();
        for (url, fate) in SPELLINGS {
            let expected = match fate {
                To(address) => vec![arrival(address.parse().unwrap())],
                Home(name) if name.ends_with("in-hosts.example") => {
                    vec![Some([10, 1, 2, 3].into())]
                }
                Home(_) => vec![
                    Some(Ipv4Addr::LOCALHOST.into()),
                    Some(Ipv6Addr::LOCALHOST.into()),
                ],
                _ => continue,
            };
            let answered = client(url);
            let connections = world.origin.connections();
            let begun = world.begun() > 0;
            if expected[0].is_none() {
                // Multicast and the like, to which the kernel begins none.
                assert!(!begun, "{url:?}");
            } else if url.ends_with(":1/") || url.ends_with(":65535/") {
                // Nobody listens there; the kernel's count sees it all the same.
                assert!(begun && connections.is_empty(), "{url:?}");
            } else {
                let to = connections.first().map(|one| one.to.ip());
                assert!(answered && expected.contains(&to), "{url:?} {to:?}");
            }
        }
    });
}

/// A client that goes wherever a URL leads, and says whether it was answered.
fn unguarded() -> impl Fn(&str) -> bool {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    move |url| runtime.block_on(client.get(url).send()).is_ok()
}

#[test]
fn for_development_the_spellings_of_this_machine_arrive_and_odd_addresses_still_do_not() {
    inside(|world| {
        let rows = SPELLINGS.iter().filter_map(|(url, fate)| match fate {
            // What nobody listens at, or is not to be connected to, shows nothing here.
            To(address) if !url.ends_with(":1/") && !url.ends_with(":65535/") => {
                arrival(address.parse().unwrap())?;
                Some((*url, address.parse::<IpAddr>().unwrap()))
            }
            _ => None,
        });
        let (urls, addresses): (Vec<_>, Vec<_>) = rows.unzip();
        let fared = archive(world, DEVELOPMENT, &urls);
        let mut expected = Vec::new();
        for ((url, address), fared) in urls.iter().zip(addresses).zip(fared) {
            if is_of_this_network(address) {
                let address = address.to_canonical().to_string();
                assert_eq!(fared.as_ref(), Ok(&address), "{url:?}");
                expected.push(address);
            } else {
                assert_eq!(fared, Err("address_not_allowed".into()), "{url:?}");
            }
        }
        assert_connected_to(world, expected);
    });
}
