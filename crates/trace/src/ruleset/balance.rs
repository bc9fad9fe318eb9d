//! How IPVS sends a connection to one of several destinations.

/// What a virtual server of IPVS does with packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// Where a new connection may go.
    pub ways: Box<[Way]>,
    /// Where connections that have begun may be: every destination, those that get no new
    /// connections too.
    pub held: Box<[Way]>,
    /// How one is chosen, in words.
    pub how: Box<str>,
    /// For how many seconds a client is remembered, if it is (persistence).
    pub persistence: Option<u32>,
    /// Whether connection tracking sees the packets (`net.ipv4.vs.conntrack`): only then can their
    /// source be translated.
    pub tracked: bool,
}

/// One of the ways that a packet may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// `None`: it is refused.
    pub to: Option<Target>,
    /// Of how many connections this way gets how many, in relation to the others. Not 0.
    pub share: u32,
}

/// A destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub address: u128,
    /// Its port; `None`: the packet keeps its own.
    pub port: Option<u16>,
    /// Whether the packet's destination becomes this. If not, the packet is sent there as it is
    /// (direct routing, tunnels).
    pub translated: bool,
}
