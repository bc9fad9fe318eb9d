//! Keys of elements, for either family.

use portolan_netfilter::nft::TableFamily;

/// Address number `last` of a network of the family.
pub(crate) fn address(family: TableFamily, last: u8) -> Vec<u8> {
    match family {
        TableFamily::Ip => vec![10, 0, 0, last],
        TableFamily::Ip6 => [&[0xfd; 1], &[0; 14][..], &[last]].concat(),
    }
}

/// `address . tcp . port`
pub(crate) fn frontend(family: TableFamily, last: u8, port: u16) -> Vec<u8> {
    [address(family, last), vec![6, 0, 0, 0], padded(port)].concat()
}

/// A frontend and the network of [`address`]: start and end.
pub(crate) fn range(family: TableFamily, frontend: &[u8]) -> (Vec<u8>, Vec<u8>) {
    ([frontend, &address(family, 0)].concat(), [frontend, &address(family, 255)].concat())
}

/// A port as it is in a key.
pub(crate) fn padded(port: u16) -> Vec<u8> {
    [port.to_be_bytes(), [0; 2]].concat()
}
