//! Who may ask, as the Corefile's `acl` says.

use anyhow::bail;
use ipnet::IpNet;
use portolan_corefile::{Acl, Action, ServerBlock};
use portolan_dns::{MayAsk, Refusal};

/// Who may ask: the networks that the command line or `acl` of all server blocks names.
///
/// What `acl` can say is more than what can be done here, which is: some networks may ask, and all
/// others get nothing. Anything else is refused.
pub(super) fn may_ask(blocks: &[ServerBlock], allow_from: &[IpNet]) -> anyhow::Result<MayAsk> {
    let default = MayAsk::default();
    let with = |block: &&ServerBlock| !block.acl.is_empty();
    let Some(first) = blocks.iter().find(with) else {
        let networks = if allow_from.is_empty() { default.networks } else { allow_from.to_vec() };
        return Ok(MayAsk { networks, ..default });
    };
    let place = &first.place;
    if let Some(other) = blocks.iter().find(|block| block.acl != first.acl) {
        bail!(
            "{}: acl: it is not the same as that of the server block in {place}: write the same in each",
            other.place
        );
    }
    let [Acl { domains, policies }] = &*first.acl else {
        bail!("{place}: acl: write one in each server block, not {}", first.acl.len());
    };
    if first.zones.iter().any(|zone| !domains.contains(&zone.domain)) {
        bail!("{place}: acl: one for some domains is not had: delete the domains after it");
    }
    let mut networks = Vec::new();
    for policy in policies {
        let remedy = "write allow with networks, and then block or drop alone";
        if policy.types.is_some() {
            bail!("{place}: acl: one for some types of records is not had: {remedy}");
        }
        match (policy.action, &policy.networks) {
            (Action::Allow, Some(allowed)) => networks.extend(allowed),
            (Action::Allow, None) => return Ok(MayAsk::everybody()),
            (Action::Block, None) => return Ok(MayAsk { networks, otherwise: Refusal::Refused }),
            (Action::Drop, None) => return Ok(MayAsk { networks, otherwise: Refusal::Silence }),
            (Action::Block | Action::Drop, Some(_)) => {
                bail!("{place}: acl: all but some networks is not had: {remedy}")
            }
            (Action::Filter, _) => bail!("{place}: acl: filter is not had: {remedy}"),
        }
    }
    // Whom no policy fits may ask.
    Ok(MayAsk::everybody())
}

#[cfg(test)]
mod tests {
    use portolan_corefile::{NoSurroundings, parse};

    use super::*;

    #[test]
    fn acl_says_who_may_ask() {
        let of = |text: &str, flag: &[IpNet]| {
            let corefile = parse("C", text, 53, &NoSurroundings).unwrap_or_else(|errors| panic!("{errors}"));
            may_ask(&corefile.blocks, flag).map_err(|error| error.to_string())
        };
        let network = |text: &str| text.parse::<IpNet>().unwrap();
        let ten = vec![network("10.0.0.0/8")];
        assert_eq!(of(". {\n}", &[]), Ok(MayAsk::default()));
        let given = MayAsk { networks: ten.clone(), otherwise: Refusal::Refused };
        assert_eq!(of(". {\n}", &ten), Ok(given.clone()));
        assert_eq!(of(". {\nacl {\nallow net 10.0.0.0/8\nblock\n}\n}", &[]), Ok(given));
        let silent = MayAsk { networks: ten, otherwise: Refusal::Silence };
        assert_eq!(of(". {\nacl {\nallow net 10.0.0.0/8\ndrop net *\n}\n}", &[]), Ok(silent));
        assert_eq!(of(". {\nacl {\nallow net 10.0.0.0/8\n}\n}", &[]), Ok(MayAsk::everybody()));
        for (text, expected) in [
            (". {\nacl {\nblock net 10.0.0.0/8\n}\n}", "C:1: acl: all but some networks"),
            (". {\nacl {\nblock type ANY\n}\n}", "C:1: acl: one for some types"),
            (". {\nacl {\nfilter\n}\n}", "C:1: acl: filter is not had"),
            (". {\nacl a.example {\nblock\n}\n}", "C:1: acl: one for some domains"),
            ("a {\nacl {\nblock\n}\n}\nb {\n}", "C:6: acl: it is not the same as that"),
        ] {
            let error = of(text, &[]).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
