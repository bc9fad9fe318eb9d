//! Numbers of record types, classes and response codes, as IANA lists them.

/// Types of records and questions.
pub mod kind {
    use std::borrow::Cow;

    /// IPv4 address
    pub const A: u16 = 1;
    /// Name server
    pub const NS: u16 = 2;
    /// Alias
    pub const CNAME: u16 = 5;
    /// Start of a zone
    pub const SOA: u16 = 6;
    /// Name of an address
    pub const PTR: u16 = 12;
    /// Mail exchange
    pub const MX: u16 = 15;
    /// Text
    pub const TXT: u16 = 16;
    /// IPv6 address (RFC 3596)
    pub const AAAA: u16 = 28;
    /// Service (RFC 2782)
    pub const SRV: u16 = 33;
    /// EDNS (RFC 6891)
    pub const OPT: u16 = 41;
    /// Key of a delegated zone (RFC 4034)
    pub const DS: u16 = 43;
    /// Signature (RFC 4034)
    pub const RRSIG: u16 = 46;
    /// Next name of a signed zone (RFC 4034)
    pub const NSEC: u16 = 47;
    /// Key of a zone (RFC 4034)
    pub const DNSKEY: u16 = 48;
    /// Service with its parameters (RFC 9460)
    pub const SVCB: u16 = 64;
    /// The same for HTTP (RFC 9460)
    pub const HTTPS: u16 = 65;
    /// Incremental transfer of a zone
    pub const IXFR: u16 = 251;
    /// Transfer of a zone
    pub const AXFR: u16 = 252;
    /// All types (RFC 8482)
    pub const ANY: u16 = 255;

    /// What types are called.
    const NAMES: [(&str, u16); 37] = [
        ("A", A),
        ("NS", NS),
        ("CNAME", CNAME),
        ("SOA", SOA),
        ("NULL", 10),
        ("PTR", PTR),
        ("HINFO", 13),
        ("MX", MX),
        ("TXT", TXT),
        ("RP", 17),
        ("AFSDB", 18),
        ("KEY", 25),
        ("AAAA", AAAA),
        ("LOC", 29),
        ("SRV", SRV),
        ("NAPTR", 35),
        ("CERT", 37),
        ("DNAME", 39),
        ("OPT", OPT),
        ("DS", DS),
        ("SSHFP", 44),
        ("RRSIG", RRSIG),
        ("NSEC", NSEC),
        ("DNSKEY", DNSKEY),
        ("NSEC3", 50),
        ("NSEC3PARAM", 51),
        ("TLSA", 52),
        ("CDS", 59),
        ("CDNSKEY", 60),
        ("OPENPGPKEY", 61),
        ("SVCB", SVCB),
        ("HTTPS", HTTPS),
        ("SPF", 99),
        ("IXFR", IXFR),
        ("AXFR", AXFR),
        ("ANY", ANY),
        ("CAA", 257),
    ];

    /// What a type is called, if it has a name here.
    pub fn known(kind: u16) -> Option<&'static str> {
        NAMES.iter().find(|(_, number)| *number == kind).map(|(name, _)| *name)
    }

    /// What a type is called: `TYPE` and the number, if it has no name here (RFC 3597 §5).
    pub fn name(kind: u16) -> Cow<'static, str> {
        known(kind).map_or_else(|| format!("TYPE{kind}").into(), Cow::Borrowed)
    }

    /// The number of a type: of its name in capitals, or of `TYPE` and the number.
    pub fn named(text: &str) -> Option<u16> {
        let named = NAMES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
        named.or_else(|| text.strip_prefix("TYPE")?.parse().ok())
    }
}

/// Classes.
pub mod class {
    /// Internet
    pub const IN: u16 = 1;
}

/// Response codes. Those above 15 need EDNS.
pub mod rcode {
    /// The name exists.
    pub const NOERROR: u16 = 0;
    /// The question cannot be decoded.
    pub const FORMERR: u16 = 1;
    /// No answer can be given now.
    pub const SERVFAIL: u16 = 2;
    /// The name does not exist.
    pub const NXDOMAIN: u16 = 3;
    /// Not a kind of message that is answered.
    pub const NOTIMP: u16 = 4;
    /// Not a question that is answered.
    pub const REFUSED: u16 = 5;
    /// The version of EDNS is not known.
    pub const BADVERS: u16 = 16;

    /// What a code is called, if it is one of these.
    pub fn name(code: u16) -> Option<&'static str> {
        Some(match code {
            NOERROR => "NOERROR",
            FORMERR => "FORMERR",
            SERVFAIL => "SERVFAIL",
            NXDOMAIN => "NXDOMAIN",
            NOTIMP => "NOTIMP",
            REFUSED => "REFUSED",
            BADVERS => "BADVERS",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_types() {
        for (text, number, back) in [
            ("A", Some(1), "A"),
            ("CAA", Some(257), "CAA"),
            ("TYPE65", Some(65), "HTTPS"),
            ("TYPE65280", Some(65_280), "TYPE65280"),
            ("TYPE65536", None, ""),
            ("TYPE", None, ""),
            ("aaaa", None, ""),
        ] {
            assert_eq!(kind::named(text), number, "{text}");
            if let Some(number) = number {
                assert_eq!(kind::name(number), back, "{text}");
            }
        }
    }
}
