//! Chains, rules, sets and elements, as objects of a listing.

use portolan_netfilter::nft::{
    ChainInfo, ChainType, Hook, OwnedData, OwnedElement, RuleInfo, SetInfo, Verdict,
};
use serde_json::{Value, json};

use super::layout::{Kind, Layout, values};

/// `NFT_SET_MAP` and `NFT_SET_TIMEOUT` of linux/netfilter/nf_tables.h.
const SET_MAP: u32 = 0x8;
const SET_TIMEOUT: u32 = 0x10;

pub(super) fn verdict_object(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Accept => json!({"accept": null}),
        Verdict::Drop => json!({"drop": null}),
        Verdict::Return => json!({"return": null}),
        Verdict::Jump(chain) => json!({"jump": {"target": chain}}),
        Verdict::Goto(chain) => json!({"goto": {"target": chain}}),
    }
}

pub(super) fn chain_object(family: &str, chain: &ChainInfo) -> Value {
    let mut body = json!({"family": family, "table": chain.table, "name": chain.name});
    if let Some(base) = chain.kind {
        body["type"] = match base.kind {
            ChainType::Nat => "nat",
            ChainType::Filter => "filter",
            ChainType::Route => "route",
        }
        .into();
        body["hook"] = match base.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        }
        .into();
        body["prio"] = base.priority.into();
        body["policy"] = if chain.drops { "drop" } else { "accept" }.into();
    }
    json!({"chain": body})
}

pub(super) fn rule_object(family: &str, rule: &RuleInfo, statements: &[Value]) -> Value {
    let mut body = json!({
        "family": family, "table": rule.table, "chain": rule.chain, "handle": rule.handle, "expr": statements,
    });
    if let Some(comment) = &rule.comment {
        body["comment"] = comment.as_str().into();
    }
    json!({"rule": body})
}

/// Without a `layout`, the set has no elements in the listing.
pub(super) fn set_object(
    family: &str,
    set: &SetInfo,
    layout: Option<&Layout>,
    elements: Vec<Value>,
) -> Value {
    let mut body = json!({"family": family, "table": set.table, "name": set.name});
    if set.flags & SET_TIMEOUT != 0 {
        body["flags"] = json!(["timeout"]);
    }
    let names = |kinds: &[Kind]| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" . ");
    let kind = match layout {
        None => "set",
        Some(layout) => {
            body["type"] = layout.key.iter().map(|kind| kind.name()).collect::<Vec<_>>().into();
            let is_map = set.flags & SET_MAP != 0;
            if is_map {
                body["map"] =
                    if layout.data.is_empty() { "verdict".into() } else { names(&layout.data).into() };
            }
            body["elem"] = elements.into();
            if is_map { "map" } else { "set" }
        }
    };
    json!({kind: body})
}

pub(super) fn element_object(element: &OwnedElement, layout: &Layout) -> Option<Value> {
    let first = values(&element.key, &layout.key)?;
    let last = element.key_end.as_ref().map(|end| values(end, &layout.key));
    let parts: Vec<Value> = match last {
        None => first,
        Some(last) => first
            .into_iter()
            .zip(last?)
            .map(|(first, last)| if first == last { first } else { json!({"range": [first, last]}) })
            .collect(),
    };
    let joined = |mut parts: Vec<Value>| {
        if parts.len() == 1 { parts.remove(0) } else { json!({"concat": parts}) }
    };
    let mut key = joined(parts);
    if let Some(comment) = &element.comment {
        key = json!({"elem": {"val": key, "comment": comment}});
    }
    Some(match &element.data {
        None => key,
        Some(OwnedData::Verdict(verdict)) => json!([key, verdict_object(verdict)]),
        Some(OwnedData::Value(value)) => json!([key, joined(values(value, &layout.data)?)]),
    })
}
