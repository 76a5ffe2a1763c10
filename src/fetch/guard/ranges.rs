//! Which addresses are public: the table behind [`Guard::judge_address`](super::Guard).
//!
//! Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190), the IANA
//! IPv4 multicast and IPv6 address space registries, and the RFCs beside the rows. The table is our
//! own because `std`'s `is_global` is unstable, and the crates that copy it lack newer blocks and
//! take an IPv6 address that carries a private IPv4 one for public. `tests/it/reaching/registry.rs`
//! holds it against the registries themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far packets to an address get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Anywhere, unless the address carries an IPv4 one that is not public (see [`carried`]).
    Public,
    /// This machine or its own networks: what server-side request forgery is after.
    Local,
    /// No server is there, or it is not the one that the address seems to name.
    Never,
}
use Reach::{Local, Never, Public};

/// A block of addresses with one purpose.
#[derive(Debug)]
pub(super) struct Range {
    first: IpAddr,
    bits: u32,
    pub(super) reach: Reach,
    /// Reads on after "the address is".
    pub(super) what: &'static str,
}

/// The first row that covers an address counts. An IPv4 address that none covers is public; the rows
/// of IPv6 end with one that covers all, so that only what is known to be public is.
///
/// Not here, because the registries have them as globally reachable: AS112 (`192.31.196.0/24`,
/// `192.175.48.0/24`, `2620:4f:8000::/48`) and AMT (`192.52.193.0/24`). The smaller blocks of that
/// kind inside `192.0.0.0/24` and `2001::/23` serve protocols, never files: both are refused whole.
const RANGES: &[Range] = &[
    // Linux connects 0.0.0.0 to this machine, so this is loopback by another name.
    v4([0, 0, 0, 0], 8, Never, "\"this network\" (RFC 1122)"),
    v4([10, 0, 0, 0], 8, Local, "private (RFC 1918)"),
    // Also Alibaba Cloud's metadata service, 100.100.100.200.
    v4([100, 64, 0, 0], 10, Local, "carrier-grade NAT (RFC 6598)"),
    v4([127, 0, 0, 0], 8, Local, "loopback (RFC 1122)"),
    // In no registry: a public address that Azure answers on each virtual machine's own network.
    v4([168, 63, 129, 16], 32, Local, "Azure's platform service"),
    // The metadata services of AWS, Azure, Google Cloud and others, 169.254.169.254: credentials.
    v4([169, 254, 0, 0], 16, Local, "link-local (RFC 3927)"),
    v4([172, 16, 0, 0], 12, Local, "private (RFC 1918)"),
    // Also Oracle Cloud's older metadata service, 192.0.0.192.
    v4([192, 0, 0, 0], 24, Never, "for protocols (RFC 6890)"),
    v4([192, 0, 2, 0], 24, Never, "documentation (RFC 5737)"),
    v4([192, 88, 99, 0], 24, Never, "a 6to4 relay (RFC 7526)"),
    v4([192, 168, 0, 0], 16, Local, "private (RFC 1918)"),
    v4([198, 18, 0, 0], 15, Never, "benchmarking (RFC 2544)"),
    v4([198, 51, 100, 0], 24, Never, "documentation (RFC 5737)"),
    v4([203, 0, 113, 0], 24, Never, "documentation (RFC 5737)"),
    v4([224, 0, 0, 0], 4, Never, "multicast (RFC 5771)"),
    v4([255, 255, 255, 255], 32, Never, "broadcast (RFC 919)"),
    v4([240, 0, 0, 0], 4, Never, "reserved (RFC 1112)"),
    // Linux connects the unspecified address to this machine here too.
    v6(&[], 128, Never, "unspecified (RFC 4291)"),
    v6(&[0, 0, 0, 0, 0, 0, 0, 1], 128, Local, "loopback (RFC 4291)"),
    v6(&[0, 0, 0, 0, 0, 0xffff], 96, Public, "mapped (RFC 4291)"),
    v6(&[0, 0, 0, 0, 0xffff], 96, Never, "SIIT (RFC 2765)"),
    v6(&[], 96, Never, "IPv4-compatible, deprecated (RFC 4291)"),
    v6(&[0x64, 0xff9b], 96, Public, "NAT64 (RFC 6052)"),
    // An operator's own: the prefix length, and so the carried address, is not known here.
    v6(&[0x64, 0xff9b, 1], 48, Never, "local-use NAT64 (RFC 8215)"),
    v6(&[0x100], 64, Never, "discard-only (RFC 6666)"),
    v6(&[0x100, 0, 0, 1], 64, Never, "a dummy prefix (RFC 9780)"),
    // Leads through a relay to a client behind a NAT: both in the address, the client's obscured.
    v6(&[0x2001], 32, Never, "Teredo (RFC 4380)"),
    v6(&[0x2001, 2], 48, Never, "benchmarking (RFC 5180)"),
    v6(&[0x2001, 0x10], 28, Never, "ORCHID, deprecated (RFC 4843)"),
    v6(&[0x2001, 0x20], 28, Never, "ORCHIDv2 (RFC 7343)"),
    v6(&[0x2001], 23, Never, "for protocols (RFC 2928)"),
    v6(&[0x2001, 0xdb8], 32, Never, "documentation (RFC 3849)"),
    // To the IPv4 address inside, through whichever relay takes it; the public ones are gone (RFC 7526),
    // and the registry does not say that anything is reachable there.
    v6(&[0x2002], 16, Never, "6to4 (RFC 3056)"),
    v6(&[0x3fff], 20, Never, "documentation (RFC 9637)"),
    v6(&[0x2000], 3, Public, "global unicast (RFC 4291)"),
    v6(&[0x5f00], 16, Never, "SRv6 segments (RFC 9602)"),
    // Also the metadata services of AWS, fd00:ec2::254, and Google Cloud, fd20:ce::254.
    v6(&[0xfc00], 7, Local, "unique-local (RFC 4193)"),
    v6(&[0xfe80], 10, Local, "link-local (RFC 4291)"),
    v6(&[0xfec0], 10, Never, "site-local, deprecated (RFC 3879)"),
    v6(&[0xff00], 8, Never, "multicast (RFC 4291)"),
    v6(&[], 0, Never, "not global unicast (RFC 4291)"),
];

const fn v4(first: [u8; 4], bits: u32, reach: Reach, what: &'static str) -> Range {
    let first = IpAddr::V4(Ipv4Addr::from_octets(first));
    Range {
        first,
        bits,
        reach,
        what,
    }
}

/// `first` without the zeros at its end.
const fn v6(first: &[u16], bits: u32, reach: Reach, what: &'static str) -> Range {
    let mut segments = [0; 8];
    segments.split_at_mut(first.len()).0.copy_from_slice(first);
    let first = IpAddr::V6(Ipv6Addr::from_segments(segments));
    Range {
        first,
        bits,
        reach,
        what,
    }
}

impl Range {
    fn covers(&self, address: IpAddr) -> bool {
        // A shift by the whole width is `None`: no bit has to agree.
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing
                    .checked_shr(32 - self.bits)
                    .is_none_or(|bits| bits == 0)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let differing = first.to_bits() ^ address.to_bits();
                differing
                    .checked_shr(128 - self.bits)
                    .is_none_or(|bits| bits == 0)
            }
            _ => false,
        }
    }
}

/// The row of the table that an address falls under.
pub(super) fn find(address: IpAddr) -> Option<&'static Range> {
    RANGES.iter().find(|range| range.covers(address))
}

/// The IPv4 address that an IPv6 address carries to whoever translates or unpacks it: with it,
/// `[::ffff:169.254.169.254]` and its like reach what the plain spelling may not.
///
/// Carriers that the table refuses whole are not here. A translator with a prefix out of its own
/// network (RFC 6052, section 2.2) cannot be told from any other address: only its operator can
/// keep it from translating to private addresses.
pub(super) fn carried(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    match address.segments() {
        // IPv4-mapped, which the kernel itself connects over IPv4, and NAT64.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(join(high, low))
        }
        // An ISATAP interface (RFC 5214, section 6.1) under any prefix; the low bits of the first
        // byte say whether the identifier is universal and whether it is of a group.
        [.., flags, 0x5efe, high, low] if flags & !0x0300 == 0 => Some(join(high, low)),
        _ => None,
    }
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// Rows whose first address an earlier row covers with fewer bits: a mistake in the table's order.
#[cfg(test)]
pub(super) fn unreachable_rows() -> Vec<&'static Range> {
    let hidden = |(at, row): &(usize, &Range)| {
        RANGES[..*at]
            .iter()
            .any(|earlier| earlier.bits <= row.bits && earlier.covers(row.first))
    };
    RANGES
        .iter()
        .enumerate()
        .filter(hidden)
        .map(|(_, row)| row)
        .collect()
}
