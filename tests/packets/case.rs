//! The vocabulary of the packet table.

use std::fmt;

use portolan_lab::sandbox;
use portolan_service::{Family, Protocol};

/// How packets are forwarded. A new mode is one line here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Nftables,
    Iptables,
    /// Only where the caller is root over the kernel's IPVS: see [`Mode::is_possible`].
    Ipvs,
    Userspace,
    /// Mode userspace with rules of iptables.
    Portals,
}

impl Mode {
    /// All modes there are; every case holds for each of them unless it says otherwise.
    pub(crate) const ALL: &'static [Mode] =
        &[Mode::Nftables, Mode::Iptables, Mode::Ipvs, Mode::Userspace, Mode::Portals];
    /// For what sockets do, whatever brings clients there.
    pub(crate) const SOCKETS_ONCE: &'static [Mode] =
        &[Mode::Nftables, Mode::Iptables, Mode::Ipvs, Mode::Userspace];
    /// Without the one whose affinity lasts as long as connections are remembered.
    pub(crate) const BUT_IPVS: &'static [Mode] = &[Mode::Nftables, Mode::Iptables, Mode::Userspace];
    /// Those in which the kernel forwards: nothing ends with the process.
    pub(crate) const OF_KERNEL: &'static [Mode] = &[Mode::Nftables, Mode::Iptables, Mode::Ipvs];

    /// Whether the mode can be tried here. A user namespace, in which tests run otherwise, is not
    /// let at IPVS.
    pub(crate) fn is_possible(self) -> bool {
        self != Mode::Ipvs || sandbox::is_wanted_privileged()
    }

    /// Its name in test output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Nftables => "nftables",
            Mode::Iptables => "iptables",
            Mode::Ipvs => "ipvs",
            Mode::Userspace => "userspace",
            Mode::Portals => "userspace by iptables",
        }
    }

    /// Those in which rules translate. IPVS takes packets for its virtual servers before a socket
    /// of the node gets them, so that the node cannot answer in its place.
    pub(crate) const OF_RULES: &'static [Mode] = &[Mode::Nftables, Mode::Iptables];

    /// The value of `--proxy-mode`.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Mode::Nftables => "nftables",
            Mode::Iptables => "iptables",
            Mode::Ipvs => "ipvs",
            Mode::Userspace | Mode::Portals => "userspace",
        }
    }

    /// Clients get to endpoints through sockets of the process.
    pub(crate) fn has_sockets(self) -> bool {
        matches!(self, Mode::Userspace | Mode::Portals)
    }

    /// Its rules are chains of iptables.
    pub(crate) fn has_chains(self) -> bool {
        matches!(self, Mode::Iptables | Mode::Portals)
    }

    /// Further flags, with which a flow stays where it is while nobody looks.
    pub(crate) fn patience(self) -> &'static [&'static str] {
        match self {
            Mode::Nftables | Mode::Iptables | Mode::Ipvs => &[],
            Mode::Userspace | Mode::Portals => &["--udp-timeout=1m"],
        }
    }

    /// The flags of `portolan run` in this mode under a setting.
    pub(crate) fn flags(self, setting: Setting) -> impl Iterator<Item = &'static str> {
        let (own, mode): (&[&str], &str) = match self {
            Mode::Nftables => (&[], "--proxy-mode=nftables"),
            Mode::Iptables => (&[], "--proxy-mode=iptables"),
            Mode::Ipvs => (&[], "--proxy-mode=ipvs"),
            // An answer may take longer than the 250 ms of kube-proxy.
            Mode::Userspace => (&["--udp-timeout=5s"], "--proxy-mode=userspace"),
            Mode::Portals => {
                (&["--udp-timeout=5s", "--userspace-diversion=iptables"], "--proxy-mode=userspace")
            }
        };
        setting.flags().iter().chain(own).copied().chain([mode])
    }
}

/// How the proxies of the lab are configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Setting {
    /// Local pods by cluster CIDR, NodePorts where the mode has them by default (spec §3.11).
    Default,
    MasqueradeAll,
    NodeCidr,
    BridgeInterface,
    InterfaceNamePrefix,
    /// No local detector (spec §4.9).
    NoDetector,
    /// NodePorts on the node's second address only.
    NodePortSecond,
    /// NodePorts on every local address.
    NodePortAll,
    /// NodePorts on the node's own address.
    NodePortPrimary,
    /// NodePorts on loopback addresses only.
    NodePortLoopback,
    /// NodePorts on the node's own address and on loopback addresses.
    NodePortLocalhost,
    /// NodePorts on every local address but loopback.
    NoLocalhost,
    /// Connections to Services pass where iptables drops what is forwarded.
    AcceptForwarded,
}

impl Setting {
    /// The flags of `portolan run`.
    fn flags(self) -> &'static [&'static str] {
        const CLUSTER: &str = "--cluster-cidr=10.244.0.0/16,fd00:244::/32";
        match self {
            Setting::Default => &[CLUSTER],
            Setting::MasqueradeAll => &[CLUSTER, "--masquerade-all"],
            Setting::NodeCidr => &["--detect-local-mode=NodeCIDR"],
            Setting::BridgeInterface => {
                &["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cbr0"]
            }
            Setting::InterfaceNamePrefix => {
                &["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=cb"]
            }
            Setting::NoDetector => &[],
            Setting::NodePortSecond => &[CLUSTER, "--nodeport-addresses=192.168.50.8/29,fd00:50::8/125"],
            Setting::NodePortAll => &[CLUSTER, "--nodeport-addresses=0.0.0.0/0,::/0"],
            Setting::NodePortPrimary => &[CLUSTER, "--nodeport-addresses=primary"],
            Setting::NodePortLoopback => &[CLUSTER, "--nodeport-addresses=127.0.0.0/8,::1/128"],
            Setting::NodePortLocalhost => &[CLUSTER, "--nodeport-addresses=primary,localhost"],
            Setting::AcceptForwarded => &[CLUSTER, "--accept-forwarded"],
            Setting::NoLocalhost => {
                &[CLUSTER, "--nodeport-addresses=0.0.0.0/0,::/0", "--iptables-localhost-nodeports=false"]
            }
        }
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// A pod on host1 that is no endpoint.
    PodHere,
    /// A pod on host2 that is no endpoint.
    PodElsewhere,
    /// The pod `a1` on host1, an endpoint of most Services.
    Endpoint,
    /// host1 itself.
    Node,
    /// A machine outside, 192.168.50.100, that sends everything through host1.
    Outside,
    /// The same with its other address, 192.168.50.200.
    OutsideOther,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Client::PodHere => "pod on the node",
            Client::PodElsewhere => "pod elsewhere",
            Client::Endpoint => "endpoint on the node",
            Client::Node => "node itself",
            Client::Outside => "outside",
            Client::OutsideOther => "outside, other address",
        })
    }
}

/// Where a connection goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frontend {
    /// The Service's ClusterIP, its port.
    ClusterIp,
    /// A port of the ClusterIP that the Service does not have.
    UnknownPort,
    /// An address of the Service network that no Service has.
    Unallocated,
    /// The Service's external address.
    ExternalIp,
    /// The Service's load-balancer address of mode VIP.
    LoadBalancer,
    /// A load-balancer address of mode Proxy: the load balancer itself answers there.
    ProxyModeAddress,
    /// The NodePort on host1's primary address.
    NodePort,
    /// The NodePort on host1's second address.
    SecondNodePort,
    /// The NodePort on host2's primary address.
    RemoteNodePort,
    /// The NodePort on the loopback address.
    LoopbackNodePort,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Frontend::ClusterIp => "ClusterIP",
            Frontend::UnknownPort => "unknown port of ClusterIP",
            Frontend::Unallocated => "unallocated ClusterIP",
            Frontend::ExternalIp => "externalIP",
            Frontend::LoadBalancer => "LB address",
            Frontend::ProxyModeAddress => "LB address of mode Proxy",
            Frontend::NodePort => "NodePort",
            Frontend::SecondNodePort => "NodePort on the second address",
            Frontend::RemoteNodePort => "NodePort on the other node",
            Frontend::LoopbackNodePort => "NodePort on loopback",
        })
    }
}

/// What source address the endpoint sees. An endpoint that answers itself always sees a node's
/// (hairpin, spec §4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The client's own.
    Own,
    /// An address of a node: the connection is masqueraded.
    Node,
}

/// What must happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// All of these answer, and nobody else: pods, or `pod:port` where the target port matters.
    Answers(&'static [&'static str], Source),
    /// The client gets an error at once.
    Refused,
    /// The client hears nothing.
    Dropped,
    /// No rule has to do with it: it goes where routes lead, which is to nobody.
    Untouched,
}

/// One row: a situation and what must happen in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) service: &'static str,
    pub(crate) frontend: Frontend,
    pub(crate) client: Client,
    pub(crate) expected: Expected,
    /// The clause that says so.
    pub(crate) clause: &'static str,
    pub(crate) setting: Setting,
    pub(crate) modes: &'static [Mode],
    pub(crate) protocols: &'static [Protocol],
    pub(crate) families: &'static [Family],
}

impl Case {
    /// The row's name in test output.
    pub(crate) fn name(&self, mode: Mode, protocol: Protocol, family: Family) -> String {
        let setting = match self.setting {
            Setting::Default => String::new(),
            other => format!(" [{other:?}]"),
        };
        format!(
            "{} {}{setting}: {} to {} over {protocol} {family}, spec {}",
            mode.name(),
            self.service,
            self.client,
            self.frontend,
            self.clause
        )
    }

    /// What must happen in `mode`. In mode userspace the proxy is the client that an endpoint sees
    /// (docs/userspace.md, "What is lost"), but for an address that no rule leads from.
    pub(crate) fn expected_in(&self, mode: Mode) -> Expected {
        match (mode, self.frontend, self.expected) {
            (_, Frontend::ProxyModeAddress, expected) => expected,
            (Mode::Userspace | Mode::Portals, _, Expected::Answers(pods, _)) => {
                Expected::Answers(pods, Source::Node)
            }
            (_, _, expected) => expected,
        }
    }

    /// The protocols and families that are tried in `mode`. With sockets not every combination is,
    /// but each with rules of one kind or the other: the rules are made as those of other modes
    /// are, in which all are tried.
    pub(crate) fn combinations(&self, mode: Mode) -> Vec<(Protocol, Family)> {
        let of_protocol = |protocol: &Protocol| {
            let protocol = *protocol;
            self.families.iter().map(move |family| (protocol, *family))
        };
        let all: Vec<_> = self.protocols.iter().flat_map(of_protocol).collect();
        match mode {
            Mode::Userspace if all.len() == 4 => {
                vec![(Protocol::Tcp, Family::V4), (Protocol::Udp, Family::V6)]
            }
            Mode::Portals if all.len() == 4 => vec![(Protocol::Udp, Family::V4), (Protocol::Tcp, Family::V6)],
            _ => all,
        }
    }

    /// The same row under other flags.
    pub(crate) const fn with(mut self, setting: Setting) -> Case {
        self.setting = setting;
        self
    }

    /// The row holds in these modes only, by its clause.
    pub(crate) const fn only(mut self, modes: &'static [Mode]) -> Case {
        self.modes = modes;
        self
    }

    /// The row holds for these protocols only.
    pub(crate) const fn over(mut self, protocols: &'static [Protocol]) -> Case {
        self.protocols = protocols;
        self
    }

    /// The row holds for these families only.
    pub(crate) const fn of(mut self, families: &'static [Family]) -> Case {
        self.families = families;
        self
    }
}

/// A row for every mode, TCP and UDP, both families, default flags.
pub(crate) const fn case(
    service: &'static str,
    frontend: Frontend,
    client: Client,
    expected: Expected,
    clause: &'static str,
) -> Case {
    Case {
        service,
        frontend,
        client,
        expected,
        clause,
        setting: Setting::Default,
        modes: Mode::ALL,
        protocols: &[Protocol::Tcp, Protocol::Udp],
        families: &Family::ALL,
    }
}
