//! The PROXY protocol towards endpoints: a line or a block before the first octet of a connection
//! that says who the client is, for which this proxy is the client that the endpoint sees.

use std::fmt;
use std::sync::Arc;

/// An unknown value of the annotation is kept up to here, characters.
const KEPT: usize = 40;

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyProtocol {
    /// The annotation of Services that asks for it: `v1` or `v2`, for all their TCP ports.
    pub const ANNOTATION: &'static str = "portolan.dev/proxy-protocol";
    const ALL: [ProxyProtocol; 2] = [ProxyProtocol::V1, ProxyProtocol::V2];

    fn word(self) -> &'static str {
        match self {
            ProxyProtocol::V1 => "v1",
            ProxyProtocol::V2 => "v2",
        }
    }
}

impl fmt::Display for ProxyProtocol {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.word())
    }
}

/// The value of [`ProxyProtocol::ANNOTATION`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedProxyProtocol {
    /// This version.
    Version(ProxyProtocol),
    /// None that there is; the first characters of what is written.
    Unknown(Arc<str>),
}

impl AskedProxyProtocol {
    /// Reads the annotation's value.
    pub fn parse(value: &str) -> AskedProxyProtocol {
        let known = ProxyProtocol::ALL.into_iter().find(|version| version.word() == value);
        known.map_or_else(
            || AskedProxyProtocol::Unknown(value.chars().take(KEPT).collect::<String>().into()),
            AskedProxyProtocol::Version,
        )
    }

    /// The version, if there is such a one.
    pub fn version(&self) -> Option<ProxyProtocol> {
        match self {
            AskedProxyProtocol::Version(version) => Some(*version),
            AskedProxyProtocol::Unknown(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_annotation() {
        for (value, expected) in [
            ("v1", Some(ProxyProtocol::V1)),
            ("v2", Some(ProxyProtocol::V2)),
            ("", None),
            ("V2", None),
            ("2", None),
            ("v1 ", None),
            ("true", None),
        ] {
            let asked = AskedProxyProtocol::parse(value);
            assert_eq!(asked.version(), expected, "{value:?}");
            if expected.is_none() {
                assert_eq!(asked, AskedProxyProtocol::Unknown(value.into()));
            }
        }
        let long = AskedProxyProtocol::parse(&"ü".repeat(1000));
        assert_eq!(long, AskedProxyProtocol::Unknown("ü".repeat(KEPT).into()));
    }
}
