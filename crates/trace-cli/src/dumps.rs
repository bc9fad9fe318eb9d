//! Rules from dumps: texts that iptables, nft and ipset have printed.

use anyhow::anyhow;
use portolan_trace::IpSets;
use portolan_trace::ipvs::VirtualServers;

use crate::args::SourceArgs;
use crate::input::Inputs;
use crate::printed::{Printed, read_as};
use crate::rules::{Collected, Rules};

/// What nft prints.
const NFT: [Printed; 2] = [Printed::NftJson, Printed::NftText];
/// What the programs of iptables print.
const IPTABLES: [Printed; 2] = [Printed::IptablesSave, Printed::Iptables];

/// Reads dumps. Each may be standard input, once.
pub(crate) fn read(source: &SourceArgs, input: &mut Inputs) -> anyhow::Result<Rules> {
    let mut collected = Collected::default();
    for path in &source.ipset_save {
        let text = input.read(path)?;
        let sets = IpSets::from_text(&text).map_err(Into::into);
        collected.ipsets.extend(read_as(&[Printed::Ipset], path, &text, sets)?);
    }
    for path in &source.nft_json {
        let text = input.read(path)?;
        let read = match Printed::of(&text) {
            Some(Printed::NftText) => collected.nft_text(&text),
            _ => collected.listing(&text),
        };
        read_as(&NFT, path, &text, read)?;
    }
    for path in &source.iptables_save {
        let text = input.read(path)?;
        let read = if Printed::of(&text).is_some_and(|printed| NFT.contains(&printed)) {
            Err(anyhow!("not what iptables-save prints"))
        } else {
            collected.printed_by_iptables(&text)
        };
        read_as(&IPTABLES, path, &text, read)?;
    }
    for path in &source.dump {
        let text = input.read(path)?;
        let read = match Printed::of(&text) {
            Some(Printed::NftJson) => collected.listing(&text),
            Some(Printed::NftText) => collected.nft_text(&text),
            _ => collected.printed_by_iptables(&text),
        };
        read_as(&[NFT, IPTABLES].concat(), path, &text, read)?;
    }
    let mut servers = Vec::new();
    for path in &source.ipvsadm_save {
        let text = input.read(path)?;
        let read = VirtualServers::from_text(&text).map_err(Into::into);
        servers.push(read_as(&[Printed::Ipvsadm], path, &text, read)?);
    }
    collected.virtual_servers(&servers);
    Ok(collected.done())
}
