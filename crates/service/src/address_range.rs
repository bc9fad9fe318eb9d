//! Consecutive addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{Family, parse_address, parse_network};

/// The addresses of one family from a first to a last one, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    family: Family,
    first: u128,
    last: u128,
}

/// Text that is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotARange(String);

impl AddressRange {
    /// From `first` to `last`; `None` if they are of two families, or in the wrong order.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<AddressRange> {
        let family = Family::of(first);
        let range = AddressRange { family, first: number(first), last: number(last) };
        (family == Family::of(last) && range.first <= range.last).then_some(range)
    }

    /// The family of all of the addresses.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The first address as a number, as its octets have it.
    pub fn first(&self) -> u128 {
        self.first
    }

    /// The last address as a number.
    pub fn last(&self) -> u128 {
        self.last
    }

    /// The number that the octets of `address` are.
    pub fn number(address: IpAddr) -> u128 {
        number(address)
    }

    /// The address of this family whose octets are `number`, of which IPv4 takes the lower 32 bits.
    pub fn address(&self, number: u128) -> IpAddr {
        address(self.family, number)
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family && (self.first..=self.last).contains(&number(address))
    }

    /// Whether any address is in both.
    pub fn overlaps(&self, other: &AddressRange) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    /// How many addresses there are; 2^128 is counted as one less.
    pub fn count(&self) -> u128 {
        (self.last - self.first).saturating_add(1)
    }

    /// The network that these addresses are, if they are all of one.
    fn network(&self) -> Option<IpNet> {
        let bits = if self.family == Family::V4 { 32 } else { 128 };
        let count = (self.last - self.first).checked_add(1)?;
        if !count.is_power_of_two() || !self.first.is_multiple_of(count) {
            return None;
        }
        let length = u8::try_from(bits - count.trailing_zeros()).ok()?;
        match address(self.family, self.first) {
            IpAddr::V4(v4) => Ipv4Net::new(v4, length).ok().map(IpNet::V4),
            IpAddr::V6(v6) => Ipv6Net::new(v6, length).ok().map(IpNet::V6),
        }
    }
}

impl From<IpNet> for AddressRange {
    /// All addresses of the network, its first and last included.
    fn from(network: IpNet) -> AddressRange {
        AddressRange {
            family: Family::of(network.addr()),
            first: number(network.network()),
            last: number(network.broadcast()),
        }
    }
}

impl FromStr for AddressRange {
    type Err = NotARange;

    /// A network, a first and a last address with `-` between them, or one address.
    fn from_str(text: &str) -> Result<AddressRange, NotARange> {
        let range = if let Some((first, last)) = text.split_once('-') {
            let ends = parse_address(first.trim()).zip(parse_address(last.trim()));
            ends.and_then(|(first, last)| AddressRange::new(first, last))
        } else if text.contains('/') {
            parse_network(text).map(AddressRange::from)
        } else {
            parse_address(text.trim()).and_then(|address| AddressRange::new(address, address))
        };
        range.ok_or_else(|| NotARange(text.to_owned()))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (address(self.family, self.first), address(self.family, self.last));
        match self.network() {
            _ if first == last => write!(f, "{first}"),
            Some(network) => write!(f, "{network}"),
            None => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for NotARange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotARange(text) = self;
        write!(
            f,
            "{text:?} is not a range of addresses such as 192.0.2.240/28, 192.0.2.10-192.0.2.19 or 2001:db8::/64"
        )
    }
}

impl std::error::Error for NotARange {}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match family {
        #[expect(clippy::cast_possible_truncation, reason = "it is an IPv4 address")]
        Family::V4 => Ipv4Addr::from(number as u32).into(),
        Family::V6 => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        // text, as it is written, addresses
        let table = [
            ("192.0.2.240/28", Some(("192.0.2.240/28", 16))),
            ("192.0.2.245/28", Some(("192.0.2.240/28", 16))),
            ("192.0.2.10-192.0.2.19", Some(("192.0.2.10-192.0.2.19", 10))),
            (" 192.0.2.16 - 192.0.2.31 ", Some(("192.0.2.16/28", 16))),
            ("192.0.2.8-192.0.2.23", Some(("192.0.2.8-192.0.2.23", 16))),
            ("192.0.2.7", Some(("192.0.2.7", 1))),
            ("192.0.2.7/32", Some(("192.0.2.7", 1))),
            ("0.0.0.0/0", Some(("0.0.0.0/0", 1 << 32))),
            ("2001:db8::/64", Some(("2001:db8::/64", 1 << 64))),
            ("2001:db8::10-2001:db8::1f", Some(("2001:db8::10/124", 16))),
            ("::/0", Some(("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", u128::MAX))),
            ("192.0.2.19-192.0.2.10", None),
            ("192.0.2.1-2001:db8::1", None),
            ("192.0.2.0/33", None),
            ("192.0.2.1-", None),
            ("", None),
        ];
        for (text, expected) in table {
            let read = text.parse::<AddressRange>().ok().map(|range| (range.to_string(), range.count()));
            assert_eq!(read, expected.map(|(text, count)| (text.to_owned(), count)), "{text}");
        }
    }

    #[test]
    fn ranges_contain_and_overlap() {
        let range = |text: &str| text.parse::<AddressRange>().expect(text);
        let tens = range("192.0.2.10-192.0.2.19");
        for (address, inside) in [
            ("192.0.2.9", false),
            ("192.0.2.10", true),
            ("192.0.2.19", true),
            ("192.0.2.20", false),
            ("::c000:20a", false),
        ] {
            assert_eq!(tens.contains(address.parse().expect(address)), inside, "{address}");
        }
        for (other, overlaps) in [
            ("192.0.2.0-192.0.2.9", false),
            ("192.0.2.0-192.0.2.10", true),
            ("192.0.2.12", true),
            ("192.0.2.19/32", true),
            ("192.0.2.20-192.0.2.30", false),
            ("::/1", false),
        ] {
            assert_eq!(tens.overlaps(&range(other)), overlaps, "{other}");
            assert_eq!(range(other).overlaps(&tens), overlaps, "{other}");
        }
    }
}
