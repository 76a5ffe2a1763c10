//! Names: what the one look-up finds is judged, address by address.

use super::{DEFAULT, PUBLIC, archive, archive_all, assert_connected_to, assert_quiet};
use crate::support::{dns::Found, world::inside};

const PUBLIC_V6: &str = "2606:4700::1111";

fn addresses(texts: &[&str]) -> Vec<std::net::IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn of_a_mixed_answer_only_the_public_addresses_are_connected_to() {
    inside(|world| {
        // Of more than fit in its first buffer glibc asks a second time, within one look-up.
        let many: Vec<_> = (1..=20).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let many_and_one = [&many[..], &[PUBLIC]].concat();
        let rows: &[(&[&str], Option<&str>)] = &[
            (&[PUBLIC, "127.0.0.1"], Some(PUBLIC)),
            (&["127.0.0.1", PUBLIC], Some(PUBLIC)),
            (
                &["169.254.169.254", "10.0.0.7", PUBLIC, "::1"],
                Some(PUBLIC),
            ),
            (&["::1", PUBLIC], Some(PUBLIC)),
            (&["fd00:ec2::254", PUBLIC], Some(PUBLIC)),
            (&["::ffff:127.0.0.1", PUBLIC], Some(PUBLIC)),
            (&["64:ff9b::7f00:1", PUBLIC], Some(PUBLIC)),
            (&["127.0.0.1", PUBLIC_V6], Some(PUBLIC_V6)),
            (&["10.0.0.7", "fd00::7", PUBLIC_V6], Some(PUBLIC_V6)),
            (&many_and_one, Some(PUBLIC)),
            (&many, None),
            (&["127.0.0.1", "::1"], None),
            (&["0.0.0.0"], None),
            (&["::"], None),
            (&["0.0.0.0", "255.255.255.255", "224.0.0.1"], None),
            (&["::ffff:10.0.0.7"], None),
            (&["::ffff:0:10.0.0.7"], None),
            (&["64:ff9b::a9fe:a9fe"], None),
            (&["64:ff9b:1::a9fe:a9fe"], None),
            (&["2002:a9fe:a9fe::1"], None),
            (&["2606:4700::5efe:a9fe:a9fe"], None),
            (&["fe80::1"], None),
        ];
        let mut names = Vec::new();
        for (at, (found, expected)) in rows.iter().enumerate() {
            let found = addresses(found);
            // Each three times: told at once, told only over TCP, and under another name.
            for (kind, found) in [
                ("plain", Found::At(found.clone())),
                ("tcp", Found::OverTcp(found.clone())),
                ("alias", Found::Alias("www.files.example", found)),
            ] {
                let name = format!("{kind}-{at}.example");
                world.dns.tell(&name, [found]);
                names.push((name, *expected));
            }
        }
        let urls: Vec<_> = names
            .iter()
            .map(|(name, _)| format!("https://{name}/"))
            .collect();
        let fared = archive(world, DEFAULT, &urls);
        let mut arrived = Vec::new();
        for ((name, expected), fared) in names.iter().zip(fared) {
            match expected {
                Some(address) => {
                    assert_eq!(fared, Ok((*address).to_owned()), "{name}");
                    arrived.push((*address).to_owned());
                }
                None => assert_eq!(fared, Err("address_not_allowed".into()), "{name}"),
            }
        }
        let look_ups = world.dns.look_ups();
        assert_eq!(look_ups.len(), names.len());
        for (name, count) in look_ups {
            assert_eq!(count, 1, "look-ups of {name}");
        }
        assert_connected_to(world, arrived);
    });
}

#[test]
fn when_the_public_address_of_a_mixed_answer_is_dead_the_others_are_no_way_out() {
    inside(|world| {
        // Nobody listens on this port but the ones that must not be reached.
        for address in ["127.0.0.1:9443", "10.0.0.7:9443", "[::1]:9443"] {
            world.origin.listen(address.parse().unwrap());
        }
        world
            .dns
            .at("mixed.example", &[PUBLIC, "127.0.0.1", "10.0.0.7", "::1"]);
        let fared = archive(world, DEFAULT, &["https://mixed.example:9443/"]);
        assert_eq!(fared, [Err("connect".into())]);
        assert_eq!(world.origin.connections(), []);
        let tries = world.dns.look_ups()["mixed.example"];
        assert_eq!(
            world.begun(),
            tries as u64,
            "one connection a try, to the public one"
        );
        // In this world they would be there.
        world.dns.at("mixed.example", &["10.0.0.7"]);
        let fared = archive(world, super::DEVELOPMENT, &["https://mixed.example:9443/"]);
        assert_eq!(fared, [Ok("10.0.0.7".into())]);
    });
}

#[test]
fn a_name_that_leads_nowhere_may_lead_somewhere_later() {
    inside(|world| {
        world.dns.tell("nothing.example", [Found::Nothing]);
        world.dns.tell("failure.example", [Found::Failure]);
        world.dns.tell("empty.example", [Found::At(Vec::new())]);
        world.dns.tell("silence.example", [Found::Silence]);
        let urls = ["nothing", "failure", "empty", "silence"];
        let urls = urls.map(|name| format!("https://{name}.example/"));
        let fared = archive(world, "connect_timeout = \"500ms\"", &urls);
        let expected = ["connect", "connect", "connect", "timeout"];
        assert_eq!(fared, expected.map(|code| Err(code.to_owned())));
        assert_quiet(world);
    });
}

/// An answer that never comes holds up a thread of the C library's for ten seconds, whoever has given
/// up meanwhile. There is no one else's work among those threads.
#[test]
fn names_that_are_never_answered_cost_no_other_event_anything() {
    inside(|world| {
        let mut events = Vec::new();
        // More than the 512 threads that the runtime has for files, checks and all that blocks.
        for event in 0..66 {
            let names = (0..8).map(|n| format!("silence-{event}-{n}.example"));
            let names: Vec<_> = names.collect();
            for name in &names {
                world.dns.tell(name, [Found::Silence]);
            }
            events.push(
                names
                    .iter()
                    .map(|name| format!("https://{name}/"))
                    .collect(),
            );
        }
        world.dns.at("files.example", &[PUBLIC]);
        events.push(vec!["https://files.example/".to_owned()]);
        let rules = "connect_timeout = \"1s\"\n[queue]\nprefetch = 100";
        let mut fared = archive_all(world, rules, &events);
        assert_eq!(fared.pop(), Some(vec![Ok(PUBLIC.into())]));
        for fared in fared.iter().flatten() {
            assert_eq!(fared, &Err("timeout".into()));
        }
        let look_ups = world.dns.look_ups();
        // Who tries again while the first look-up is under way waits with it.
        assert!(look_ups.values().all(|count| *count == 1), "{look_ups:?}");
    });
}
