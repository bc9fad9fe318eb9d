//! Names of ports.

/// Ports by the names that listings without `-n` have for them (IANA's registry; those that
/// clusters use).
const PORTS: [(&str, u16); 30] = [
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("bootps", 67),
    ("bootpc", 68),
    ("http", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("sunrpc", 111),
    ("ntp", 123),
    ("imap2", 143),
    ("snmp", 161),
    ("bgp", 179),
    ("ldap", 389),
    ("https", 443),
    ("submission", 587),
    ("ldaps", 636),
    ("nfs", 2049),
    ("mysql", 3306),
    ("postgresql", 5432),
    ("mdns", 5353),
    ("amqp", 5672),
    ("redis", 6379),
    ("http-alt", 8080),
    ("webcache", 8080),
    ("https-alt", 8443),
    ("git", 9418),
    ("bacula-sd", 9103),
];

/// The port of this name.
pub(crate) fn port_named(name: &str) -> Option<u16> {
    PORTS.iter().find(|(known, _)| *known == name).map(|(_, port)| *port)
}
