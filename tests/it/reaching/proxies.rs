//! Proxies: one that connects in callvault's stead would connect past the guard.

use super::{PUBLIC, archive_with, assert_connected_to};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::support::world::inside;

/// What a proxy answers of a URL.
fn ask(proxy: &str, url: &str) -> String {
    let mut stream = TcpStream::connect(proxy).unwrap();
    write!(stream, "GET {url} HTTP/1.1\r\nHost: files.example\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.to_owned()
}

#[test]
fn a_proxy_from_the_environment_opens_no_way_round() {
    inside(|world| {
        world.dns.at("files.example", &[PUBLIC]);
        world.dns.at("home.example", &["127.0.0.1"]);
        let urls = [
            "https://files.example/",
            "http://files.example/",
            "https://8.8.4.4/",
            "https://home.example/",
            "http://10.0.0.7/",
            "https://169.254.169.254/",
        ];
        let variables = [
            "HTTP_PROXY",
            "http_proxy",
            "HTTPS_PROXY",
            "https_proxy",
            "ALL_PROXY",
            "all_proxy",
        ];
        for proxy in [
            "http://10.0.0.7:3128",
            "socks5h://10.0.0.7:3128",
            "10.0.0.7:3128",
        ] {
            for bypassed in ["", "localhost,10.0.0.0/8", "*"] {
                let mut environment = variables.map(|name| (name, proxy)).to_vec();
                environment.extend([("NO_PROXY", bypassed), ("no_proxy", bypassed)]);
                let fared = archive_with(world, "allow_http = true", &urls, &environment);
                let arrives = [PUBLIC, PUBLIC, "8.8.4.4"].map(str::to_owned);
                let refused = ["address_not_allowed"; 3].map(|code| Err(code.to_owned()));
                let expected = [arrives.clone().map(Ok).to_vec(), refused.to_vec()].concat();
                assert_eq!(fared, expected, "{environment:?}");
                // None to the proxy.
                assert_connected_to(world, arrives.into());
            }
        }
        // Which is there, for who asks it.
        let proxied = ask("10.0.0.7:3128", "http://files.example/a");
        assert_eq!(proxied, "10.0.0.7");
        assert_connected_to(world, vec!["10.0.0.7".to_owned()]);
        assert_eq!(
            world.origin.requests().last().unwrap().target(),
            "http://files.example/a"
        );
    });
}
