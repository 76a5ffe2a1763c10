//! Where callvault may connect: the defence against server-side request forgery.
//!
//! The URLs of attachments come in events, and an event is anybody's text. Without a guard it could
//! have callvault read a cloud's metadata service, a database's port or an internal API, and archive
//! the answer. [`Guard::judge_url`] judges the first URL and each redirect's, before anything is
//! resolved; [`Guard::judge_address`] judges each address that a socket is about to connect to. Both
//! are needed: a name says nothing about where it leads, its next resolution may lead elsewhere (DNS
//! rebinding), and the address in a URL that has one never passes a resolver.
//!
//! The guard reads hosts only as [`Url`] has parsed them, which is also how the HTTP client reads
//! them. So `https://2130706433`, `https://0x7f.1`, `https://127。0。0。1` and
//! `https://files.example@127.0.0.1` are all 127.0.0.1 here. User information plays no part.

use std::net::{IpAddr, Ipv4Addr};

use url::{Host, Url};

use crate::config::Fetch;

mod ranges;
#[cfg(test)]
mod spellings;
#[cfg(test)]
mod tests;

use ranges::Reach;

/// The longest name that DNS has, in characters (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;

/// Judges URLs and addresses by the rules of the configuration.
#[derive(Debug, Clone)]
pub struct Guard {
    hosts: Vec<Pattern>,
    allow_http: bool,
    allow_private_addresses: bool,
}

/// Why callvault does not connect. No message holds more of a URL than its scheme and its host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Another scheme than `https`, or than `http` where that is allowed.
    #[error("scheme {scheme:?} is not allowed: {}", scheme_rule(.scheme))]
    Scheme {
        /// As in the URL, in lower case; a long one is cut.
        scheme: String,
    },
    /// A host that no entry of `fetch.allowed_hosts` names, or that is none.
    #[error("host {host:?} {why}")]
    Host {
        /// As `Url` gives it; a long one is cut.
        host: String,
        /// Reads on after the host.
        why: &'static str,
    },
    /// An address that is not public.
    #[error("{address} {}is {what}{}", carried_clause(*.carried), local_clause(*.local))]
    Address {
        /// The address that was judged.
        address: IpAddr,
        /// The IPv4 address inside it that is not public, where it is not `address` itself.
        carried: Option<Ipv4Addr>,
        /// What the address is, and by which document.
        what: &'static str,
        /// Whether `fetch.allow_private_addresses` would allow it.
        local: bool,
    },
}

impl Forbidden {
    /// The problem code of an attachment that is refused so.
    pub fn code(&self) -> &'static str {
        match self {
            Forbidden::Scheme { .. } => "scheme_not_allowed",
            Forbidden::Host { .. } => "host_not_allowed",
            Forbidden::Address { .. } => "address_not_allowed",
        }
    }
}

fn scheme_rule(scheme: &str) -> &'static str {
    match scheme {
        "http" => "fetch.allow_http is false",
        _ => "only https is, and http with fetch.allow_http",
    }
}

fn carried_clause(carried: Option<Ipv4Addr>) -> String {
    carried.map_or_else(String::new, |inner| format!("carries {inner}, which "))
}

fn local_clause(local: bool) -> &'static str {
    if local {
        ", not public: fetch.allow_private_addresses is false"
    } else {
        ", not public"
    }
}

impl Guard {
    /// A guard by the rules of `[fetch]`. An entry of `allowed_hosts` that cannot be a host allows
    /// nothing.
    pub fn new(rules: &Fetch) -> Guard {
        Guard {
            hosts: rules
                .allowed_hosts
                .iter()
                .filter_map(|entry| Pattern::read(entry))
                .collect(),
            allow_http: rules.allow_http,
            allow_private_addresses: rules.allow_private_addresses,
        }
    }

    /// Judges the scheme and the host of a URL, and the address where the host is one.
    ///
    /// A host that is a name passes only this half: [`Guard::judge_address`] has to see where it
    /// leads.
    pub fn judge_url(&self, url: &Url) -> Result<(), Forbidden> {
        // No `file:`, no `ftp:`, and no redirect down to a scheme that anyone on the way can change.
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            scheme => {
                return Err(Forbidden::Scheme {
                    scheme: scheme.chars().take(32).collect(),
                });
            }
        }
        let forbidden = |why| Forbidden::Host {
            host: url
                .host_str()
                .unwrap_or_default()
                .chars()
                .take(LONGEST_NAME)
                .collect(),
            why,
        };
        let host = match url.host() {
            None => return Err(forbidden("is missing")),
            Some(Host::Domain(name)) => {
                Host::Domain(plain_name(name).ok_or_else(|| forbidden("is not a host name"))?)
            }
            Some(Host::Ipv4(address)) => Host::Ipv4(address),
            Some(Host::Ipv6(address)) => Host::Ipv6(address),
        };
        if !self.hosts.iter().any(|pattern| pattern.matches(&host)) {
            return Err(forbidden("is not in fetch.allowed_hosts"));
        }
        match host {
            Host::Domain(_) => Ok(()),
            Host::Ipv4(address) => self.judge_address(IpAddr::V4(address)),
            Host::Ipv6(address) => self.judge_address(IpAddr::V6(address)),
        }
    }

    /// Judges the address that a socket is about to connect to, and the IPv4 address inside it.
    pub fn judge_address(&self, address: IpAddr) -> Result<(), Forbidden> {
        self.judge_part(address, address, None)?;
        match ranges::carried(address) {
            Some(inner) => self.judge_part(address, IpAddr::V4(inner), Some(inner)),
            None => Ok(()),
        }
    }

    fn judge_part(
        &self,
        address: IpAddr,
        part: IpAddr,
        carried: Option<Ipv4Addr>,
    ) -> Result<(), Forbidden> {
        let Some(range) = ranges::find(part) else {
            return Ok(());
        };
        let local = range.reach == Reach::Local;
        if range.reach == Reach::Public || local && self.allow_private_addresses {
            return Ok(());
        }
        Err(Forbidden::Address {
            address,
            carried,
            what: range.what,
            local,
        })
    }
}

/// One entry of `fetch.allowed_hosts`.
#[derive(Debug, Clone)]
enum Pattern {
    /// `*`
    Any,
    /// `files.example.com`, `192.0.2.7` or `[2001:db8::7]`
    Exactly(Host<String>),
    /// `*.example.com`, kept as `.example.com`: the dot is what keeps out `evil-example.com`.
    Under(String),
}

impl Pattern {
    /// Reads an entry as `Url` reads a host, so that case, one final dot and the two spellings of an
    /// internationalized name make no difference.
    fn read(entry: &str) -> Option<Pattern> {
        if entry == "*" {
            return Some(Pattern::Any);
        }
        let (under, name) = entry
            .strip_prefix("*.")
            .map_or((false, entry), |parent| (true, parent));
        let host = match name.parse() {
            Ok(IpAddr::V6(address)) => Host::Ipv6(address),
            _ => Host::parse(name).ok()?,
        };
        match host {
            Host::Domain(name) if under => {
                plain_name(&name).map(|name| Pattern::Under(format!(".{name}")))
            }
            Host::Domain(name) => {
                plain_name(&name).map(|name| Pattern::Exactly(Host::Domain(name.to_owned())))
            }
            _ if under => None,
            address => Some(Pattern::Exactly(address)),
        }
    }

    fn matches(&self, host: &Host<&str>) -> bool {
        match (self, host) {
            (Pattern::Any, _) => true,
            (Pattern::Exactly(Host::Domain(allowed)), Host::Domain(name)) => allowed == name,
            (Pattern::Exactly(Host::Ipv4(allowed)), Host::Ipv4(address)) => allowed == address,
            (Pattern::Exactly(Host::Ipv6(allowed)), Host::Ipv6(address)) => allowed == address,
            // `plain_name` leaves no empty label, so what stands before the dot is at least one.
            (Pattern::Under(parent), Host::Domain(name)) => name.ends_with(parent.as_str()),
            _ => false,
        }
    }
}

/// A name without its final dot; `None` where it is none that DNS has room for or that anyone gives
/// a host. Resolvers differ on the rest, and some take `127.0.0.1..` for an address.
fn plain_name(name: &str) -> Option<&str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| !label.is_empty() && label.bytes().all(letter);
    (name.len() <= LONGEST_NAME && name.split('.').all(label)).then_some(name)
}
