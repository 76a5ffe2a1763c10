//! By which names the page may be asked for.
//!
//! It has no password, and often listens where a browser of the operator's can reach it and the world cannot. A site
//! in that browser may have its own name lead to the listener's address (DNS rebinding), and would then read the page as
//! its own. What it cannot do is to ask under another name: so names that anybody may own are refused. Probes and
//! Prometheus are not judged: they are no browsers, and find nothing here that they do not have.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What is said to who asks by another name.
pub(super) const REFUSAL: &str = "This page answers to addresses, to this machine's own name, and to names that nobody \
    in the world can own (localhost, names without a dot, .internal, .local, .svc, …): otherwise any site could read it \
    through your browser. Ask by the address, or have your proxy send it as Host.\n";

/// Names below these are not delegated to anybody, or are a cluster's own.
const PRIVATE: [&str; 9] = [
    "localhost",
    "internal",
    "local",
    "lan",
    "home.arpa",
    "svc",
    "cluster.local",
    "test",
    "invalid",
];

/// The names of this machine.
#[derive(Debug)]
pub(super) struct Hosts {
    /// The host name, whole: below a domain of their own anybody has that first label.
    own: String,
}

impl Hosts {
    pub(super) fn of(hostname: &str) -> Self {
        Self {
            own: hostname.trim_end_matches('.').to_ascii_lowercase(),
        }
    }

    /// Whether the page may be had under a `Host`. Browsers always send one.
    pub(super) fn may_ask(&self, host: Option<&[u8]>) -> bool {
        let Some(host) = host else { return true };
        let Ok(host) = std::str::from_utf8(host) else {
            return false;
        };
        if let Some(rest) = host.strip_prefix('[') {
            let address = rest.split(']').next().unwrap_or_default();
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let name = host.split(':').next().unwrap_or_default();
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let below = |domain: &&str| {
            name.strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        name.parse::<Ipv4Addr>().is_ok()
            || !name.contains('.')
            || name == self.own
            || PRIVATE.iter().any(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_no_stranger_can_own_get_the_page() {
        let hosts = Hosts::of("worker-3.prod.example.com");
        for host in [
            "127.0.0.1:9090",
            "10.1.2.3",
            "[::1]:9090",
            "[fd00::1]",
            "localhost:9090",
            "LOCALHOST",
            "worker-7:9090",
            "worker-3.prod.example.com:9090",
            "callvault.prod.svc:9090",
            "callvault.prod.svc.cluster.local.",
            "ops.callvault.internal",
        ] {
            assert!(hosts.may_ask(Some(host.as_bytes())), "{host}");
        }
        for host in [
            "attacker.example:9090",
            "worker-3.attacker.example:9090",
            "worker-3.prod.example.com.attacker.example",
            "127.0.0.1.attacker.example",
            "localhost.attacker.example",
            "notlocalhost.example",
            "x.notinternal",
            "[attacker.example]",
        ] {
            assert!(!hosts.may_ask(Some(host.as_bytes())), "{host}");
        }
        assert!(!hosts.may_ask(Some(b"\xff")));
        assert!(hosts.may_ask(None));
    }
}
