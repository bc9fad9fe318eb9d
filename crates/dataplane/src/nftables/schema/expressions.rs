//! Expressions that many rules have, under the names that nft gives them.

use ipnet::IpNet;
use portolan_netfilter::nft::{self, CmpOp, CtKey, Expr, MetaKey, Register, Rule};
use portolan_service::Protocol;

use crate::nftables::chain::Chain;
use crate::nftables::encoding::put_address;
use crate::nftables::set::SetName;

pub(super) fn rule<const N: usize>(parts: [Vec<Expr>; N]) -> Rule {
    Rule { exprs: parts.into_iter().flatten().collect(), comment: None }
}

pub(super) fn commented<const N: usize>(parts: [Vec<Expr>; N], comment: &str) -> Rule {
    Rule { exprs: parts.into_iter().flatten().collect(), comment: Some(comment.into()) }
}

pub(super) fn lookup(set: SetName) -> Expr {
    Expr::Lookup { set: set.name().into(), source: Register::R1, dest: None, inverted: false }
}

pub(super) fn vmap(map: SetName) -> Expr {
    Expr::Lookup {
        set: map.name().into(),
        source: Register::R1,
        dest: Some(Register::VERDICT),
        inverted: false,
    }
}

pub(super) fn jump(chain: &Chain) -> Vec<Expr> {
    vec![Expr::Immediate(nft::Verdict::Jump(chain.name()))]
}

pub(super) fn protocol_is(protocol: Protocol) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::L4Proto, dest: Register::R1 },
        Expr::Cmp { op: CmpOp::Equal, source: Register::R1, value: vec![protocol.number()] },
    ]
}

/// `ct state new`: bit 3 of `NF_CT_STATE_BIT`.
pub(super) fn ct_state_new() -> Vec<Expr> {
    ct_bit(CtKey::State, 1 << 3)
}

/// `ct status dnat`: `IPS_DST_NAT`.
pub(super) fn ct_status_dnat() -> Vec<Expr> {
    ct_bit(CtKey::Status, 1 << 5)
}

pub(super) fn ct_bit(key: CtKey, bit: u32) -> Vec<Expr> {
    vec![
        Expr::Ct { key, direction: None, dest: Register::R1 },
        Expr::Bitwise {
            source: Register::R1,
            dest: Register::R1,
            mask: bit.to_ne_bytes().into(),
            xor: vec![0; 4],
        },
        Expr::Cmp { op: CmpOp::NotEqual, source: Register::R1, value: vec![0; 4] },
    ]
}

/// `fib saddr type local`: `RTN_LOCAL` (linux/rtnetlink.h).
pub(super) fn source_is_local() -> Vec<Expr> {
    vec![
        Expr::FibSourceType { dest: Register::R1 },
        Expr::Cmp { op: CmpOp::Equal, source: Register::R1, value: 2u32.to_ne_bytes().into() },
    ]
}

/// Compares the address that `load` puts into the first register.
pub(super) fn in_network(load: Expr, network: IpNet, op: CmpOp) -> Vec<Expr> {
    let mut value = Vec::with_capacity(16);
    let mut mask = Vec::with_capacity(16);
    put_address(&mut value, network.network());
    put_address(&mut mask, network.netmask());
    let mut exprs = vec![load];
    if network.prefix_len() < network.max_prefix_len() {
        let xor = vec![0; mask.len()];
        exprs.push(Expr::Bitwise { source: Register::R1, dest: Register::R1, mask, xor });
    }
    exprs.push(Expr::Cmp { op, source: Register::R1, value });
    exprs
}
