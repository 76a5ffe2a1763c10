//! Every block of the IANA special-purpose address registries, at its edges and beside them, against
//! the registries themselves: the files beside this one, as IANA serves them (July 2026), from
//! <https://www.iana.org/assignments/iana-ipv4-special-registry/iana-ipv4-special-registry-1.csv> and
//! the same of IPv6. The guard's own table was written from the RFCs.

use std::{
    collections::BTreeSet,
    net::{IpAddr, TcpStream},
};

use super::{DEFAULT, archive, arrival, assert_connected_to};
use crate::support::world::inside;

const REGISTRIES: [&str; 2] = [
    include_str!("iana-ipv4-special-registry-1.csv"),
    include_str!("iana-ipv6-special-registry-1.csv"),
];

/// What no special-purpose registry has, and whether servers are there. The longest block counts.
const BESIDE: &[(&str, bool)] = &[
    ("0.0.0.0/0", true),
    ("224.0.0.0/4", false), // multicast, a registry of its own
    // Of all IPv6, the IANA has assigned this for unicast; fec0::/10 was withdrawn (RFC 3879).
    ("::/0", false),
    ("2000::/3", true),
    ("fec0::/10", false),
    ("ff00::/8", false),
    // In no registry: Azure's own, on each of its virtual machines.
    ("168.63.129.16/32", false),
    // Reachable by the registry, for protocols that carry no files: refused with all of 192.0.0.0/24
    // and 2001::/23.
    ("192.0.0.9/32", false),
    ("192.0.0.10/32", false),
    ("2001:1::1/128", false),
    ("2001:1::2/128", false),
    ("2001:1::3/128", false),
    ("2001:3::/32", false),
    ("2001:4:112::/48", false),
    ("2001:20::/28", false),
    ("2001:30::/28", false),
];

struct Block {
    first: IpAddr,
    bits: u32,
    reachable: bool,
}

impl Block {
    fn read(text: &str, reachable: bool) -> Self {
        let (first, bits) = text.split_once('/').expect(text);
        Self {
            first: first.parse().expect(text),
            bits: bits.parse().unwrap(),
            reachable,
        }
    }

    /// The first address, as far left as an IPv6 one; how many bits follow the prefix.
    fn span(&self) -> (u128, u32) {
        let (first, width) = number(self.first);
        (first, width - self.bits)
    }

    fn covers(&self, address: IpAddr) -> bool {
        let (first, rest) = self.span();
        let (address_bits, _) = number(address);
        let differing = (first ^ address_bits).checked_shr(rest).unwrap_or(0);
        self.first.is_ipv4() == address.is_ipv4() && differing == 0
    }

    /// Its first and its last address, and their neighbours.
    fn edges(&self) -> impl Iterator<Item = IpAddr> {
        let (first, rest) = self.span();
        let last = first | 1_u128.checked_shl(rest).unwrap_or(0).wrapping_sub(1);
        let numbers = [
            first.checked_sub(1),
            Some(first),
            Some(last),
            last.checked_add(1),
        ];
        let v4 = self.first.is_ipv4();
        numbers.into_iter().flatten().filter_map(move |number| {
            if v4 {
                Some(u32::try_from(number).ok()?.to_be_bytes().into())
            } else {
                Some(number.to_be_bytes().into())
            }
        })
    }
}

fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (v4.to_bits().into(), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

/// The cells of a row each. A quoted one may hold commas and line ends.
fn rows(csv: &str) -> Vec<Vec<String>> {
    let (mut rows, mut quoted) = (vec![vec![String::new()]], false);
    for character in csv.trim_end().chars() {
        let row = rows.last_mut().unwrap();
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(String::new()),
            '\n' if !quoted => rows.push(vec![String::new()]),
            _ => row.last_mut().unwrap().push(character),
        }
    }
    rows
}

/// The blocks of both registries, a footnote's mark left out.
fn registered() -> Vec<Block> {
    let mut blocks = Vec::new();
    for registry in REGISTRIES {
        let rows = rows(registry);
        assert_eq!(
            (rows[0][0].as_str(), rows[0][8].as_str()),
            ("Address Block", "Globally Reachable")
        );
        for row in &rows[1..] {
            let text = |cell: &str| cell.split(" [").next().unwrap().trim().to_owned();
            // Of a block that was withdrawn it says nothing, and of two that it cannot know.
            let reachable = text(&row[8]) == "True";
            blocks.extend(
                row[0]
                    .split(',')
                    .map(|block| Block::read(&text(block), reachable)),
            );
        }
    }
    assert!(blocks.len() >= 50, "only {} blocks", blocks.len());
    blocks
}

/// An IPv4 address as the kernel (mapped) and as a translator (NAT64) take it.
fn carriers(address: IpAddr) -> [IpAddr; 2] {
    let (bits, _) = number(address);
    [0xffff, 0x64_ff9b << 64].map(|prefix: u128| (prefix << 32 | bits).to_be_bytes().into())
}

/// The other way round: what is inside decides.
fn inside_of(address: IpAddr) -> Option<IpAddr> {
    let (bits, _) = number(address);
    let inner = IpAddr::from(u32::try_from(bits & 0xffff_ffff).ok()?.to_be_bytes());
    carriers(inner).contains(&address).then_some(inner)
}

#[test]
fn at_the_edges_of_each_registered_block_what_is_not_globally_reachable_is_not_reached() {
    inside(|world| {
        let mut blocks = registered();
        blocks.extend(
            BESIDE
                .iter()
                .map(|(text, reachable)| Block::read(text, *reachable)),
        );
        let mut addresses: BTreeSet<IpAddr> = blocks.iter().flat_map(Block::edges).collect();
        let (v4, _): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv4());
        addresses.extend(v4.into_iter().flat_map(carriers));
        // Of the same length the last counts, so that what stands beside the registries overrules them.
        let registered = |address: IpAddr| {
            let covering = blocks.iter().filter(|block| block.covers(address));
            covering.max_by_key(|block| block.bits).unwrap().reachable
        };
        let reachable = |address| registered(inside_of(address).unwrap_or(address));

        let mut urls = Vec::new();
        for (at, address) in addresses.iter().enumerate() {
            let host = match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            };
            let name = format!("a{at}.example");
            world.dns.at(&name, &[&address.to_string()]);
            urls.extend([format!("https://{host}/"), format!("https://{name}/")]);
        }
        let fared = archive(world, DEFAULT, &urls);
        let mut expected = Vec::new();
        for (address, fared) in addresses.iter().zip(fared.chunks(2)) {
            for (how, fared) in ["in the URL", "by DNS"].iter().zip(fared) {
                if reachable(*address) {
                    let address = address.to_canonical().to_string();
                    assert_eq!(fared, &Ok(address.clone()), "{address} {how}");
                    expected.push(address);
                } else {
                    let refusal = Err("address_not_allowed".to_owned());
                    assert_eq!(fared, &refusal, "{address} {how}");
                }
            }
        }
        assert!(
            expected.len() > 80 && urls.len() - expected.len() > 300,
            "{expected:?}"
        );
        assert_connected_to(world, expected);
        assert!(world.dns.look_ups().values().all(|count| *count == 1));
        // In this world they can be reached, each of them.
        for address in addresses {
            let connected = TcpStream::connect((address, 443));
            assert_eq!(connected.is_ok(), arrival(address).is_some(), "{address}");
        }
    });
}
