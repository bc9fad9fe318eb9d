//! What the programs of iptables say about themselves.

use std::fmt;

use crate::variant::Variant;

/// A release of iptables, and for which of the kernel's interfaces it was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    /// Such as 1, 8, 9
    number: (u32, u32, u32),
    variant: Variant,
}

impl Version {
    /// Reads what `--version` prints: `iptables v1.8.9 (nf_tables)`. Before 1.8 there is no variant
    /// in it: what was called `iptables` then is legacy.
    pub(super) fn parse(text: &str) -> Option<Version> {
        let mut words = text.lines().next()?.split_whitespace();
        let number = words.find_map(|word| {
            let mut parts = word.strip_prefix('v')?.split('.').map(|part| part.parse().ok());
            let (major, minor) = (parts.next()??, parts.next()??);
            let patch = parts.next().map_or(Some(0), |patch| patch)?;
            Some((major, minor, patch))
        })?;
        let variant = match words.next() {
            Some("(nf_tables)") => Variant::Nft,
            _ => Variant::Legacy,
        };
        Some(Version { number, variant })
    }

    /// For which of the kernel's interfaces.
    pub(super) fn variant(self) -> Variant {
        self.variant
    }

    /// iptables-restore takes the lock and waits for it (`-w 5`, spec §5.2).
    pub(super) fn restore_locks(self) -> bool {
        self.number >= (1, 6, 2)
    }

    /// MASQUERADE takes `--random-fully` (spec §5.12).
    pub(super) fn random_fully(self) -> bool {
        self.number >= (1, 6, 2)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.number;
        write!(f, "{} {major}.{minor}.{patch}", self.variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        // What is printed, the release, whether restore locks (spec §5.2)
        let cases = [
            ("iptables v1.8.11 (nf_tables)\n", Some(((1, 8, 11), Variant::Nft)), true),
            ("iptables v1.8.9 (legacy)\n", Some(((1, 8, 9), Variant::Legacy)), true),
            ("iptables-nft-restore v1.8.9 (nf_tables)\n", Some(((1, 8, 9), Variant::Nft)), true),
            ("ip6tables-restore v1.8.7 (legacy)\n", Some(((1, 8, 7), Variant::Legacy)), true),
            ("iptables v1.6.2\n", Some(((1, 6, 2), Variant::Legacy)), true),
            ("iptables v1.6.1\n", Some(((1, 6, 1), Variant::Legacy)), false),
            ("iptables v1.4.21\n", Some(((1, 4, 21), Variant::Legacy)), false),
            ("iptables v2.0 (nf_tables)\n", Some(((2, 0, 0), Variant::Nft)), true),
            ("", None, false),
            ("busybox\n", None, false),
            ("iptables vnext (nf_tables)\n", None, false),
            ("iptables v1.x.9\n", None, false),
        ];
        for (text, expected, locks) in cases {
            let version = Version::parse(text);
            assert_eq!(version.map(|version| (version.number, version.variant)), expected, "{text:?}");
            assert_eq!(version.is_some_and(Version::restore_locks), locks, "{text:?}");
            assert_eq!(version.is_some_and(Version::random_fully), locks, "{text:?}");
        }
    }
}
