//! What is explained: documented and stable as JSON (docs/trace.md).

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::probability::Probability;
use crate::ruleset::Hook;

/// Where a packet goes and why. Serialised, it is the program's JSON. No text has control
/// characters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// What was asked.
    pub packet: ShownPacket,
    /// Where it ends up.
    pub verdict: ShownVerdict,
    /// The answer in a sentence.
    pub summary: String,
    /// The Service port it is for, if that is known.
    pub service: Option<ShownService>,
    /// Where it may be forwarded to, with probabilities for a client that no rule remembers.
    pub endpoints: Vec<ShownEndpoint>,
    /// Every end it may come to, whatever the conditions.
    pub outcomes: Vec<ShownOutcome>,
    /// Session affinity, if the Service has it.
    pub affinity: Option<ShownAffinity>,
    /// The source address that the other end sees; `None` if the packet does not arrive.
    pub source: Option<ShownSource>,
    /// The rule that rejected or dropped it.
    pub stopped_by: Option<ShownRule>,
    /// Why it is not forwarded.
    pub reason: Option<Reason>,
    /// What the rules ask and neither the packet nor the node decides.
    pub conditions: Vec<ShownCondition>,
    /// What is missing from the rules that were given, and how to get it.
    pub left_out: Vec<String>,
    /// The way through the rules, base chain by base chain.
    pub steps: Vec<Stage>,
    /// For people: what no rule shows of where the packet arrives.
    #[serde(skip)]
    pub beyond: Option<String>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownPacket {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
    /// The hook at which it enters: `prerouting` or `output`.
    pub hook: &'static str,
    /// The interface it comes in through, if that was said.
    pub interface: Option<String>,
    /// `new`, `established`, `related` or `invalid`.
    pub state: &'static str,
}

/// Where a packet ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShownVerdict {
    /// At an endpoint.
    Forward,
    /// Where it was sent; a rule of the proxy lets it through.
    Accept,
    /// Nowhere; its sender gets an error.
    Reject,
    /// Nowhere.
    Drop,
    /// No rule of the proxy matches: the node's routing decides.
    None,
    /// On a condition, or on chance, or on a rule that is not understood.
    Depends,
}

impl ShownVerdict {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            ShownVerdict::Forward => "forward",
            ShownVerdict::Accept => "accept",
            ShownVerdict::Reject => "reject",
            ShownVerdict::Drop => "drop",
            ShownVerdict::None => "none",
            ShownVerdict::Depends => "depends",
        }
    }
}

/// A Service port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The name of its port; empty if it has none.
    pub port: String,
    /// The kind of address that was asked for, if it is known: `ClusterIP`, `external IP`,
    /// `load-balancer IP` or `NodePort`.
    pub frontend: Option<&'static str>,
}

impl ShownService {
    /// As people write it: `namespace/name:port`.
    pub fn title(&self) -> String {
        let colon = if self.port.is_empty() { "" } else { ":" };
        format!("{}/{}{colon}{}", self.namespace, self.name, self.port)
    }
}

/// A probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chance {
    /// As a number from 0 to 1.
    pub probability: f64,
    /// Exactly: `numerator/denominator`. `None` where the denominator has more than 1024 bits, as
    /// draws of iptables have after some thirty endpoints.
    pub fraction: Option<String>,
}

impl From<&Probability> for Chance {
    fn from(probability: &Probability) -> Chance {
        let fraction = (probability.denominator_bits() <= LONGEST).then(|| {
            let (numerator, denominator) = probability.fraction();
            format!("{numerator}/{denominator}")
        });
        Chance { probability: probability.to_f64(), fraction }
    }
}

impl Chance {
    pub(super) fn is_certain(&self) -> bool {
        self.fraction.as_deref() == Some("1/1")
    }
}

/// The longest denominator that is shown, in bits.
const LONGEST: u64 = 1024;

/// One possible destination.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownEndpoint {
    /// Its address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// How likely it is, if the conditions hold.
    #[serde(flatten)]
    pub chance: Chance,
    /// Whether the source is translated.
    pub masquerade: bool,
    /// The source address it sees; `None` if it is translated to an address that is not known.
    pub source: Option<IpAddr>,
    /// Its pod, if that is known.
    pub pod: Option<String>,
    /// Whether it is an endpoint of the Service: the proxy's own rules lead there, or manifests or
    /// the running proxy have it.
    pub of_service: bool,
    /// It is a socket of the proxy itself (mode userspace): the proxy connects to an endpoint.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_proxy: bool,
    /// The rule that translates the destination.
    pub translated_by: Option<ShownRule>,
    /// What must be so, other than that the client is remembered.
    pub conditions: Vec<ShownAssumption>,
}

/// One end a packet may come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownOutcome {
    /// Where it ends up. `none`: no rule translates it. `depends`: a rule that is not understood
    /// takes it.
    pub verdict: ShownVerdict,
    /// The endpoint it is forwarded to.
    pub endpoint: Option<SocketAddr>,
    /// How likely it is, if the conditions hold.
    #[serde(flatten)]
    pub chance: Chance,
    /// Whether the source is translated.
    pub masquerade: bool,
    /// What must be so.
    pub conditions: Vec<ShownAssumption>,
    /// The port of this node itself that it is redirected to, at an address that is not known.
    pub own_port: Option<u16>,
    /// Why the kernel stops it, if no rule does.
    pub stopped: Option<String>,
}

/// One answer to a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ShownAssumption {
    /// Number in [`Explanation::conditions`].
    pub condition: u32,
    /// Whether it holds.
    pub holds: bool,
}

/// Session affinity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownAffinity {
    /// For how long a client is remembered, in seconds, if that is known.
    pub seconds: Option<u64>,
    /// The endpoints that it may be remembered at.
    pub endpoints: Vec<SocketAddr>,
    /// The endpoint that the rules remember for this client now, if they have one.
    pub entry: Option<SocketAddr>,
}

/// The source address that the other end sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownSource {
    /// Whether it is translated: `never`, `always`, or `sometimes`.
    pub masquerade: &'static str,
    /// The address, if it is the same for all endpoints and known.
    pub address: Option<IpAddr>,
    /// Why, in words.
    pub why: String,
    /// The rule that marked the packet for it.
    pub marked_by: Option<ShownRule>,
    /// The rule that did it.
    pub translated_by: Option<ShownRule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownRule {
    /// Its table.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Its text; for the end of a base chain, its policy.
    pub text: String,
}

/// Why a packet is not forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Which of the reasons that are known.
    pub code: ReasonCode,
    /// In words.
    pub text: String,
}

/// The reasons that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonCode {
    /// No Service has this address.
    NoSuchService,
    /// The Service has no endpoint that is ready.
    NoReadyEndpoints,
    /// The Service has other ports.
    WrongPort,
    /// The Service has this port with another protocol.
    WrongProtocol,
    /// The client is not within the Service's source ranges.
    SourceRanges,
    /// The policy is Local, and this node has no endpoint.
    NoLocalEndpoints,
    /// The NodePort is not served at this address.
    NodePortAddress,
    /// A process of the node answers: it is not tracked, so that it is not translated, and the node
    /// takes the address for its own; or the proxy itself listens there.
    AnsweredOnNode,
    /// The address is another node's, whose rules decide.
    AnotherNode,
    /// It is a later packet of a connection: those do not meet the rules that translate.
    NotNew,
    /// A rule that is not the proxy's.
    OtherRule,
    /// There is not one rule of a service proxy.
    NoProxyRules,
    /// The node does not forward packets of this family, or through this interface.
    NotForwarding,
    /// The node has no route to where the packet is to go.
    NoRoute,
    /// The packet does not come in through the interface that leads to its source (`rp_filter`).
    ReversePath,
    /// It comes from outside and is for a loopback address.
    Loopback,
    /// An interface on the way is down, or has no carrier or no address.
    InterfaceDown,
    /// Neither the rules nor the Services show why.
    Unknown,
}

/// Something that the rules ask and that neither the packet nor the node decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownCondition {
    /// In words.
    pub text: String,
    /// Whether it is that the client is remembered from an earlier connection.
    pub remembers: bool,
    /// The rule that asks first.
    pub rule: ShownRule,
}

/// One base chain on the way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// Where the kernel calls it.
    pub hook: &'static str,
    /// Its table, with its family.
    pub table: String,
    /// The base chain.
    pub chain: String,
    /// Which endpoints it concerns; empty: all that come this far.
    pub only: Vec<String>,
    /// What happens in it.
    pub steps: Vec<ShownStep>,
}

/// One step, or one parting of ways.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ShownStep {
    /// A rule did something.
    Hit(ShownHit),
    /// Rules that do not match.
    Miss {
        /// Their chain.
        chain: String,
        /// How many calls deep it is.
        depth: u32,
        /// How many.
        count: usize,
        /// Those that were looked at; the others ask for other addresses or ports.
        rules: Vec<ShownMiss>,
    },
    /// The end of the base chain.
    Policy {
        /// `accept` or `drop`.
        policy: &'static str,
    },
    /// One of several ways is taken; always the last step.
    Branch {
        /// The ways.
        arms: Vec<Arm>,
    },
}

/// A rule that did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownHit {
    /// Its chain.
    pub chain: String,
    /// Its number in the chain, from 1.
    pub rule: u32,
    /// How many calls deep it is.
    pub depth: u32,
    /// Its text.
    pub text: String,
    /// Why it matched and what it did, in words.
    pub why: String,
}

/// A rule that did not match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownMiss {
    /// Its number in the chain, from 1.
    pub rule: u32,
    /// Its text.
    pub text: String,
    /// Why not, in words.
    pub why: String,
}

/// One of several ways.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Arm {
    /// How likely it is, of all packets like this, if `when` holds; `None` if that depends on more.
    #[serde(flatten)]
    pub chance: Option<Chance>,
    /// What must be so, in words; empty if chance alone decides.
    pub when: String,
    /// Where it leads.
    pub leads_to: Vec<String>,
    /// What happens on it.
    pub steps: Vec<ShownStep>,
}

pub(super) fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
    }
}

/// How an explanation is written for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// With colours, for a terminal.
    pub colour: bool,
    /// With the rules that do not match.
    pub verbose: bool,
    /// Longest line, in characters; 0: as long as it comes.
    pub width: usize,
}
