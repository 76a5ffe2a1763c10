//! `fetch.allowed_hosts`: whole labels, and nothing of another host's is even looked up.

use super::{PUBLIC, archive, assert_connected_to, assert_quiet};
use crate::support::world::{Reply, inside};

const RULES: &str =
    r#"allowed_hosts = ["files.example", "*.cdn.example", "8.8.8.8", "[2606:4700::1111]"]"#;

const ALLOWED: &[&str] = &[
    "https://files.example/",
    "https://FILES.Example/",
    "https://files.example./",
    "https://files.example:8443/",
    "https://anyone:anything@files.example/",
    "https://evil.example@files.example/",
    "https://f%69les.example/",
    "https://\u{ff46}iles\u{3002}example/",
    "https://a.cdn.example/",
    "https://a.b.CDN.example./",
    "https://8.8.8.8/",
    "https://134744072/",
    "https://[2606:4700:0::1111]/",
];

const REFUSED: &[&str] = &[
    "https://evil.example/",
    "https://files.example.evil.example/",
    "https://evilfiles.example/",
    "https://a.files.example/",
    "https://example/",
    "https://cdn.example/",
    "https://evilcdn.example/",
    "https://a.cdn.example.evil.example/",
    "https://files-example/",
    "https://files.example@evil.example/",
    "https://files.example:443@evil.example/",
    "https://files.example%2f@evil.example/",
    "https://evil.example\\@files.example/",
    "https://evil.example\\.files.example/",
    "https://evil.example/.cdn.example",
    "https://evil.example?.cdn.example",
    "https://evil.example#.cdn.example",
    "https://f\u{456}les.example/",
    "https://8.8.4.4/",
    "https://[::ffff:8.8.8.8]/",
    "https://[64:ff9b::8.8.8.8]/",
    "https://[2606:4700::1112]/",
    "https://127.0.0.1/",
    "https://localhost/",
    "https://8.8.8.8.evil.example/",
    "https://.cdn.example/",
    "https://a..cdn.example/",
];

#[test]
fn a_host_that_is_not_allowed_is_neither_looked_up_nor_connected_to() {
    inside(|world| {
        let fared = archive(world, RULES, REFUSED);
        for (url, fared) in REFUSED.iter().zip(fared) {
            assert_eq!(fared, Err("host_not_allowed".into()), "{url:?}");
        }
        assert_eq!(world.dns.look_ups().len(), 0);
        assert_quiet(world);

        let hosts = ["files.example", "a.cdn.example", "a.b.cdn.example"];
        for name in hosts {
            world.dns.at(name, &[PUBLIC]);
        }
        let fared = archive(world, RULES, ALLOWED);
        for (url, fared) in ALLOWED.iter().zip(&fared) {
            assert!(fared.is_ok(), "{url:?} {fared:?}");
        }
        assert_connected_to(world, fared.into_iter().flatten().collect());
        assert_eq!(world.dns.look_ups().len(), hosts.len());
    });
}

#[test]
fn a_redirect_leads_to_allowed_hosts_alone() {
    inside(|world| {
        world.dns.at("files.example", &[PUBLIC]);
        world.dns.at("evil.example", &["8.8.4.4"]);
        world.dns.at("a.cdn.example", &["8.8.4.4"]);
        world.origin.answer(|request| match request.target() {
            "/out" => Reply::to(302, "https://evil.example/"),
            "/on" => Reply::to(302, "https://a.cdn.example/"),
            _ => Reply::whence(request),
        });
        let urls = ["https://files.example/out", "https://files.example/on"];
        let fared = archive(world, RULES, &urls);
        assert_eq!(
            fared,
            [Err("host_not_allowed".into()), Ok("8.8.4.4".into())]
        );
        let to = [PUBLIC, PUBLIC, "8.8.4.4"].map(str::to_owned);
        assert_connected_to(world, to.into());
        assert!(!world.dns.look_ups().contains_key("evil.example"));
    });
}
