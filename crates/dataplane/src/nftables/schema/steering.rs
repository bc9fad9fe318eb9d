//! The rules that bring packets to IPVS and finish what it does.
//!
//! IPVS looks at what is for the node itself. An address of a Service is none of the node's, so
//! packets for frontends are marked and routed to the node by that mark: nothing else of the
//! address is taken, and no interface has it.

use portolan_netfilter::nft::{self, CmpOp, Expr, MetaKey, Register, Rule};
use portolan_service::Protocol;

use super::Schema;
use super::expressions::{ct_state_new, jump, lookup, protocol_is, rule, vmap};
use crate::nftables::chain::Chain;
use crate::nftables::marks::{LOCAL_MARKS, LOCAL_MARKS_MASK};
use crate::nftables::set::SetName;

/// `RTN_LOCAL` (linux/rtnetlink.h)
const LOCAL: u32 = 2;

impl Schema<'_> {
    /// What nobody serves to clients from outside ends here: IPVS has endpoints for others.
    pub(super) fn steer(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        if self.features.no_endpoints {
            let outside = self.not_local().unwrap_or_default();
            let refused = vec![vmap(SetName::NoEndpoints)];
            rules.push(rule([outside, ct_state_new(), self.frontend(0), refused]));
        }
        let frontend = vec![lookup(SetName::Frontends)];
        rules.push(rule([self.frontend(0), frontend, self.set_bit(true)]));
        rules
    }

    pub(super) fn unsteer(&self) -> Vec<Rule> {
        let mut rules = vec![rule([self.is_steered(true), self.set_bit(false)])];
        if self.features.services_local {
            let outside = self.not_local().unwrap_or_default();
            let mark = vec![
                Expr::Lookup {
                    set: SetName::LocalMarks.name().into(),
                    source: Register::R1,
                    dest: Some(Register::R1),
                    inverted: false,
                },
                Expr::SetMark { source: Register::R1 },
            ];
            rules.push(rule([outside, ct_state_new(), self.frontend(0), mark]));
        }
        rules
    }

    pub(super) fn unhandled(&self) -> Vec<Rule> {
        let frontend = || [self.frontend(0), vec![lookup(SetName::Frontends)]].concat();
        vec![
            rule([protocol_is(Protocol::Tcp), frontend(), vec![Expr::RejectTcpReset]]),
            rule([frontend(), vec![Expr::Immediate(nft::Verdict::Drop)]]),
        ]
    }

    /// A packet of the node's own keeps the route that it had to the ClusterIP.
    pub(super) fn reroute(&self) -> Vec<Rule> {
        let to_a_service = vec![self.original_address(Register::R1), lookup(SetName::ClusterIps)];
        let to_the_node = vec![
            Expr::FibDestinationType { dest: Register::R1 },
            Expr::Cmp { op: CmpOp::Equal, source: Register::R1, value: LOCAL.to_ne_bytes().into() },
        ];
        vec![rule([output_is_loopback(CmpOp::NotEqual), to_a_service, to_the_node, self.set_bit(true)])]
    }

    /// Whether the packet has the bit that steers.
    pub(super) fn is_steered(&self, yes: bool) -> Vec<Expr> {
        let bit = self.bit().unwrap_or_default();
        let op = if yes { CmpOp::NotEqual } else { CmpOp::Equal };
        mark_under(bit, op, 0)
    }

    /// Sets the bit that steers, or takes it off.
    fn set_bit(&self, on: bool) -> Vec<Expr> {
        let bit = self.bit().unwrap_or_default();
        vec![
            Expr::Meta { key: MetaKey::Mark, dest: Register::R1 },
            Expr::Bitwise {
                source: Register::R1,
                dest: Register::R1,
                mask: (!bit).to_ne_bytes().into(),
                xor: (if on { bit } else { 0 }).to_ne_bytes().into(),
            },
            Expr::SetMark { source: Register::R1 },
        ]
    }
}

/// IPVS sets no `ct status dnat`. What it translated is known by its destination before.
pub(super) fn masquerade_steered() -> Vec<Rule> {
    vec![
        rule([output_is_loopback(CmpOp::Equal), vec![Expr::Immediate(nft::Verdict::Return)]]),
        rule([jump(&Chain::Masq)]),
    ]
}

pub(super) fn unmark() -> Vec<Rule> {
    let none = vec![
        Expr::Constant { value: vec![0; 4], dest: Register::R1 },
        Expr::SetMark { source: Register::R1 },
    ];
    vec![rule([mark_under(LOCAL_MARKS_MASK, CmpOp::Equal, LOCAL_MARKS), none])]
}

/// Compares the bits of the packet's mark that `mask` has.
fn mark_under(mask: u32, op: CmpOp, value: u32) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::Mark, dest: Register::R1 },
        Expr::Bitwise {
            source: Register::R1,
            dest: Register::R1,
            mask: mask.to_ne_bytes().into(),
            xor: vec![0; 4],
        },
        Expr::Cmp { op, source: Register::R1, value: value.to_ne_bytes().into() },
    ]
}

fn output_is_loopback(op: CmpOp) -> Vec<Expr> {
    let mut name = b"lo".to_vec();
    name.resize(16, 0);
    vec![
        Expr::Meta { key: MetaKey::OutputInterfaceName, dest: Register::R1 },
        Expr::Cmp { op, source: Register::R1, value: name },
    ]
}
