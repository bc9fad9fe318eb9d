//! Numbers of record types, classes and response codes, as IANA lists them.

/// Types of records and questions.
pub mod kind {
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
    /// Text
    pub const TXT: u16 = 16;
    /// IPv6 address (RFC 3596)
    pub const AAAA: u16 = 28;
    /// Service (RFC 2782)
    pub const SRV: u16 = 33;
    /// EDNS (RFC 6891)
    pub const OPT: u16 = 41;
    /// Incremental transfer of a zone
    pub const IXFR: u16 = 251;
    /// Transfer of a zone
    pub const AXFR: u16 = 252;
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
