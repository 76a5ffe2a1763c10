//! Redirects: each hop is judged as the first URL is, before it is taken.

use std::collections::HashMap;

use super::{DEFAULT, DEVELOPMENT, PUBLIC, archive, assert_connected_to, is_of_this_network};
use crate::support::world::{Reply, World, inside};

const ELSEWHERE: &str = "8.8.4.4";
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// Where a `Location` leads: to an address, or to a problem.
type Leads = Result<&'static str, &'static str>;

const ADDRESS: Leads = Err("address_not_allowed");
const HOST: Leads = Err("host_not_allowed");
const SCHEME: Leads = Err("scheme_not_allowed");

const LOCATIONS: &[(&str, Leads)] = &[
    // Relative, to the host that sends it.
    ("/there", Ok(PUBLIC)),
    ("there", Ok(PUBLIC)),
    ("../../there", Ok(PUBLIC)),
    ("?there", Ok(PUBLIC)),
    ("/there#127.0.0.1", Ok(PUBLIC)),
    ("https:/127.0.0.1/", Ok(PUBLIC)),
    ("https:127.0.0.1", Ok(PUBLIC)),
    ("127.0.0.1", Ok(PUBLIC)),
    ("@127.0.0.1/", Ok(PUBLIC)),
    ("/%0d%0aLocation:%20https://127.0.0.1/", Ok(PUBLIC)),
    // To other public ones.
    ("https://elsewhere.example/", Ok(ELSEWHERE)),
    ("HTTPS://Elsewhere.EXAMPLE./", Ok(ELSEWHERE)),
    ("//elsewhere.example/", Ok(ELSEWHERE)),
    ("https://elsewhere.example:8443/", Ok(ELSEWHERE)),
    ("https://anyone:anything@elsewhere.example/", Ok(ELSEWHERE)),
    ("https://127.0.0.1@elsewhere.example/", Ok(ELSEWHERE)),
    ("https://8.8.4.4/", Ok(ELSEWHERE)),
    ("https://134743044/", Ok(ELSEWHERE)),
    ("https://[2606:4700::1111]/", Ok("2606:4700::1111")),
    ("https://[::ffff:8.8.4.4]/", Ok(ELSEWHERE)),
    // Home, in every dress.
    ("https://127.0.0.1/", ADDRESS),
    ("https://127.0.0.1:22/", ADDRESS),
    ("//127.0.0.1/", ADDRESS),
    ("\\\\127.0.0.1\\", ADDRESS),
    ("/\\127.0.0.1/", ADDRESS),
    ("/\t/127.0.0.1/", ADDRESS),
    ("https:\\\\[::1]/", ADDRESS),
    ("https://2130706433/", ADDRESS),
    ("https://0x7f.1/", ADDRESS),
    ("https://0177.0.0.1/", ADDRESS),
    ("https://\u{ff11}\u{ff12}\u{ff17}\u{3002}1/", ADDRESS),
    ("https://%31%32%37.0.0.1/", ADDRESS),
    ("https://anyone:anything@127.0.0.1/", ADDRESS),
    ("https://elsewhere.example@127.0.0.1/", ADDRESS),
    ("//elsewhere.example:443@169.254.169.254/", ADDRESS),
    ("https://127.0.0.1\\@elsewhere.example/", ADDRESS),
    ("https://169.254.169.254/latest/meta-data/", ADDRESS),
    ("https://[::ffff:169.254.169.254]/", ADDRESS),
    ("https://[64:ff9b::169.254.169.254]/", ADDRESS),
    ("https://[fd00:ec2::254]/", ADDRESS),
    ("https://0.0.0.0/", ADDRESS),
    ("https://[::]/", ADDRESS),
    ("https://10.0.0.7/", ADDRESS),
    ("https://localhost/", ADDRESS),
    ("https://ip6-localhost/", ADDRESS),
    ("https://home.example/", ADDRESS),
    ("//home.in-hosts.example/", ADDRESS),
    ("https://127.0.0.1../", HOST),
    // Down to what anyone on the way can read and change, and out of HTTP.
    ("http://elsewhere.example/", SCHEME),
    ("http:elsewhere.example", SCHEME),
    ("http://127.0.0.1/", SCHEME),
    ("HTTP://start.example/", SCHEME),
    ("file:///etc/passwd", SCHEME),
    ("ftp://elsewhere.example/", SCHEME),
    ("gopher://127.0.0.1:6379/_FLUSHALL", SCHEME),
    ("dict://127.0.0.1:6379/info", SCHEME),
    ("ldap://127.0.0.1/", SCHEME),
    ("data:text/plain,hello", SCHEME),
    ("javascript:alert(1)", SCHEME),
    ("unix:/run/docker.sock", SCHEME),
    ("jar:https://elsewhere.example/a!/b", SCHEME),
    ("ws://elsewhere.example/", SCHEME),
    // Nowhere: then the redirect is the answer, and no file.
    ("https://[::1", Err("status")),
    ("https://999.1.1.1/", Err("status")),
    ("https://", Err("status")),
    ("////127.0.0.1/", Err("status")),
    ("https://127.0.0.1 /", Err("status")),
];

fn tell_names(world: &World) {
    world.dns.at("start.example", &[PUBLIC]);
    world.dns.at("elsewhere.example", &[ELSEWHERE]);
    world.dns.at("home.example", &["127.0.0.1", "::1"]);
}

#[test]
fn no_redirect_leads_where_a_first_url_may_not() {
    inside(|world| {
        tell_names(world);
        let mut rows = Vec::new();
        for status in STATUSES {
            for (location, leads) in LOCATIONS {
                rows.push((format!("/call/{}/a", rows.len()), status, *location, *leads));
            }
        }
        let replies = rows
            .iter()
            .map(|(path, status, location, _)| (path.clone(), Reply::to(*status, location)));
        let replies: HashMap<_, _> = replies.collect();
        world
            .origin
            .answer(move |request| match replies.get(request.target()) {
                Some(reply) => reply.clone(),
                None => Reply::whence(request),
            });
        let urls = rows
            .iter()
            .map(|(path, ..)| format!("https://start.example{path}"));
        let urls: Vec<_> = urls.collect();
        let fared = archive(world, DEFAULT, &urls);
        // Each was asked for its redirect, and nothing else was begun than what is allowed.
        let mut expected = vec![PUBLIC.to_owned(); rows.len()];
        for ((_, status, location, leads), fared) in rows.iter().zip(fared) {
            let code = |code: &str| match code {
                "status" => format!("http_{status}"),
                code => code.to_owned(),
            };
            let leads = leads.map(str::to_owned).map_err(code);
            assert_eq!(fared, leads, "{status} {location:?}");
            expected.extend(leads);
        }
        assert_connected_to(world, expected);

        // Where the rules allow it, the same ones arrive at home.
        let (rows, urls) = (&rows[..LOCATIONS.len()], &urls[..LOCATIONS.len()]);
        let fared = archive(world, DEVELOPMENT, urls);
        let mut homes = 0;
        for ((_, status, location, leads), fared) in rows.iter().zip(fared) {
            // Linux would take the unspecified addresses for this machine's; no rule allows them.
            let never = location.contains("0.0.0.0") || location.contains("[::]");
            if *leads == ADDRESS && !never {
                let address = fared.unwrap_or_else(|code| panic!("{status} {location:?}: {code}"));
                assert!(is_of_this_network(address.parse().unwrap()), "{location:?}");
                homes += 1;
            }
        }
        assert!(homes > 20, "{homes}");
    });
}

#[test]
fn what_is_no_redirect_is_not_followed() {
    inside(|world| {
        tell_names(world);
        world.origin.answer(|request| {
            let status = request.target().trim_start_matches('/').parse();
            status.map_or_else(
                |_| Reply::whence(request),
                |status| Reply::to(status, "/there"),
            )
        });
        let statuses = [
            201, 202, 204, 206, 300, 304, 305, 306, 309, 399, 400, 407, 421,
        ];
        let urls = statuses.map(|status| format!("https://start.example/{status}"));
        let fared = archive(world, DEFAULT, &urls);
        assert_eq!(fared, statuses.map(|status| Err(format!("http_{status}"))));
        // A way that is shown by other means than a redirect is none.
        world.origin.answer(|request| Reply {
            headers: [
                "Refresh: 0; url=https://elsewhere.example/",
                "Alt-Svc: h2=\"elsewhere.example:443\"",
                "Link: <https://elsewhere.example/>; rel=\"canonical\"",
                "Content-Location: https://elsewhere.example/",
            ]
            .map(str::to_owned)
            .into(),
            ..Reply::whence(request)
        });
        let urls = ["https://start.example/a", "https://start.example/b"];
        assert_eq!(
            archive(world, DEFAULT, &urls),
            [Ok(PUBLIC.into()), Ok(PUBLIC.into())]
        );
        assert_connected_to(world, vec![PUBLIC.to_owned(); statuses.len() + 2]);
    });
}

#[test]
fn a_chain_of_redirects_ends_at_the_limit_and_so_does_a_loop() {
    inside(|world| {
        tell_names(world);
        world.origin.answer(|request| {
            let left = request.target().trim_start_matches('/').parse();
            match left {
                Ok(0) => Reply::whence(request),
                Ok(left @ 1..100) => Reply::to(302, &format!("/{}", left - 1)),
                // Two hosts that send callvault to each other.
                _ if request.host() == "start.example" => {
                    Reply::to(308, "https://elsewhere.example/100")
                }
                _ => Reply::to(307, "https://start.example/100"),
            }
        });
        let gone = |requests| world.origin.requests().len() == requests;
        let fare = |rules, path| archive(world, rules, &[format!("https://start.example{path}")]);
        let arrived = [Ok(PUBLIC.to_owned())];
        let too_many = [Err("too_many_redirects".to_owned())];
        assert!(fare(DEFAULT, "/3") == arrived && gone(4));
        assert!(fare(DEFAULT, "/4") == too_many && gone(4));
        assert!(fare(DEFAULT, "/100") == too_many && gone(4));
        assert!(fare("max_redirects = 1", "/1") == arrived && gone(2));
        assert!(fare("max_redirects = 1", "/2") == too_many && gone(2));
        assert!(fare("max_redirects = 0", "/0") == arrived && gone(1));
        assert!(fare("max_redirects = 0", "/1") == too_many && gone(1));
    });
}

/// With `allow_http` a redirect may lead from one scheme to the other, and still not home.
#[test]
fn plain_http_is_fetched_where_it_is_allowed_and_from_no_other_address_for_that() {
    inside(|world| {
        tell_names(world);
        world.origin.answer(|request| match request.target() {
            "/up" => Reply::to(302, "https://elsewhere.example/"),
            "/down" => Reply::to(302, "http://elsewhere.example/"),
            "/home" => Reply::to(302, "http://127.0.0.1:6379/"),
            "/homewards" => Reply::to(302, "http://home.example:6379/"),
            _ => Reply::whence(request),
        });
        let urls = [
            "http://start.example/",
            "http://start.example:8080/",
            "http://start.example/up",
            "https://start.example/down",
            "http://start.example/home",
            "http://start.example/homewards",
            "http://169.254.169.254/latest/meta-data/",
            "http://0x7f.1:6379/",
            "http://home.example/",
        ];
        let arrives = [PUBLIC, PUBLIC, ELSEWHERE, ELSEWHERE].map(|address| Ok(address.to_owned()));
        let refused = ["address_not_allowed"; 5].map(|code| Err(code.to_owned()));
        let fared = archive(world, "allow_http = true", &urls);
        assert_eq!(fared, [&arrives[..], &refused].concat());
        let asked = vec![PUBLIC.to_owned(); 6];
        assert_connected_to(world, [asked, vec![ELSEWHERE.to_owned(); 2]].concat());
        assert!(world.dns.look_ups().contains_key("home.example"));
        // By default none of it is, redirects included.
        let fared = archive(world, DEFAULT, &urls);
        assert_eq!(fared, urls.map(|_| Err("scheme_not_allowed".to_owned())));
        assert_connected_to(world, vec![PUBLIC.to_owned()]);
    });
}
