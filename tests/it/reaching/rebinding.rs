//! Names whose answers change from look-up to look-up: there is one look-up a connection, and what it
//! found is what is connected to.

use std::net::IpAddr;

use super::{DEFAULT, PUBLIC, archive, assert_connected_to, assert_quiet};
use crate::support::{
    dns::Found,
    world::{Reply, inside},
};

fn at(address: &str) -> Found {
    Found::At(vec![address.parse::<IpAddr>().unwrap()])
}

/// Where a name leads that changed.
const HOMES: [&str; 6] = [
    "127.0.0.1",
    "::1",
    "169.254.169.254",
    "10.0.0.7",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
];

#[test]
fn the_address_that_was_judged_is_the_one_that_is_connected_to() {
    inside(|world| {
        let mut urls = Vec::new();
        for (n, home) in HOMES.iter().enumerate() {
            world
                .dns
                .tell(&format!("out{n}.example"), [at(PUBLIC), at(home)]);
            world
                .dns
                .tell(&format!("home{n}.example"), [at(home), at(PUBLIC)]);
            urls.extend([
                format!("https://out{n}.example/"),
                format!("https://home{n}.example/"),
            ]);
        }
        let fared = archive(world, DEFAULT, &urls);
        for (url, fared) in urls.iter().zip(fared) {
            let expected = if url.starts_with("https://out") {
                Ok(PUBLIC.to_owned())
            } else {
                // Final: no second try finds it gone public.
                Err("address_not_allowed".to_owned())
            };
            assert_eq!(fared, expected, "{url}");
        }
        assert_connected_to(world, vec![PUBLIC.to_owned(); HOMES.len()]);
        let look_ups = world.dns.look_ups();
        assert_eq!(look_ups.len(), urls.len());
        assert!(look_ups.values().all(|count| *count == 1), "{look_ups:?}");
    });
}

#[test]
fn a_name_that_changed_by_the_time_of_a_redirect_is_judged_anew() {
    inside(|world| {
        world.origin.answer(|request| match request.target() {
            "/itself" => Reply::to(302, "/a"),
            "/there-and-back" => {
                Reply::to(302, &format!("https://other.example/?{}", request.host()))
            }
            target => match target.strip_prefix("/?") {
                Some(back) => Reply::to(302, &format!("https://{back}/a")),
                None => Reply::whence(request),
            },
        });
        world.dns.at("other.example", &["8.8.4.4"]);
        let mut urls = Vec::new();
        for (n, home) in HOMES.iter().enumerate() {
            for path in ["itself", "there-and-back"] {
                let name = format!("{path}{n}.example");
                world.dns.tell(&name, [at(PUBLIC), at(home)]);
                urls.push(format!("https://{name}/{path}"));
            }
        }
        let fared = archive(world, DEFAULT, &urls);
        for (url, fared) in urls.iter().zip(fared) {
            assert_eq!(fared, Err("address_not_allowed".into()), "{url}");
        }
        let first = vec![PUBLIC.to_owned(); urls.len()];
        assert_connected_to(
            world,
            [first, vec!["8.8.4.4".to_owned(); HOMES.len()]].concat(),
        );
        // In a world where they stay what they are, the same redirects arrive.
        for url in &urls {
            let name = url.split('/').nth(2).unwrap();
            world.dns.at(name, &[PUBLIC]);
        }
        let fared = archive(world, DEFAULT, &urls);
        assert!(
            fared.iter().all(|fared| *fared == Ok(PUBLIC.into())),
            "{fared:?}"
        );
    });
}

#[test]
fn a_name_that_changed_between_two_tries_is_judged_anew() {
    inside(|world| {
        world.origin.answer(|request| Reply {
            status: 503,
            ..Reply::whence(request)
        });
        let mut urls = Vec::new();
        for (n, home) in HOMES.iter().enumerate() {
            world
                .dns
                .tell(&format!("busy{n}.example"), [at(PUBLIC), at(home)]);
            urls.push(format!("https://busy{n}.example/"));
        }
        let fared = archive(world, DEFAULT, &urls);
        for (url, fared) in urls.iter().zip(fared) {
            assert_eq!(fared, Err("address_not_allowed".into()), "{url}");
        }
        assert_connected_to(world, vec![PUBLIC.to_owned(); urls.len()]);
        let look_ups = world.dns.look_ups();
        assert!(
            look_ups.values().all(|count| *count == 2),
            "one a try: {look_ups:?}"
        );

        // The other way round there is no second try: the first refusal is final.
        world
            .dns
            .tell("late.example", [at("127.0.0.1"), at(PUBLIC)]);
        let fared = archive(world, DEFAULT, &["https://late.example/"]);
        assert_eq!(fared, [Err("address_not_allowed".into())]);
        assert_quiet(world);
        // Where the first look-up fails, the second finds it.
        world.origin.answer(Reply::whence);
        world.dns.tell("slow.example", [Found::Failure, at(PUBLIC)]);
        let fared = archive(world, DEFAULT, &["https://slow.example/"]);
        assert_eq!(fared, [Ok(PUBLIC.into())]);
    });
}
