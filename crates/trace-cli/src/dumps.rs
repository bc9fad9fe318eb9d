//! Rules from dumps: texts that iptables, nft and ipset have printed.

use anyhow::{Context, bail};
use portolan_trace::{IpSets, is_nft_text};

use crate::args::SourceArgs;
use crate::input::Inputs;
use crate::rules::{Collected, Rules};

/// Reads dumps. Each may be standard input, once.
pub(crate) fn read(source: &SourceArgs, input: &mut Inputs) -> anyhow::Result<Rules> {
    let mut collected = Collected::default();
    for path in &source.ipset_save {
        let text = input.read(path)?;
        collected.ipsets.extend(IpSets::from_text(&text).with_context(|| path.display().to_string())?);
    }
    for path in &source.nft_json {
        let text = input.read(path)?;
        let read = match Printed::of(&text) {
            Printed::NftText => collected.nft_text(&text),
            Printed::NftJson | Printed::Iptables => collected.listing(&text),
        };
        read.with_context(|| path.display().to_string())?;
    }
    for path in &source.iptables_save {
        let text = input.read(path)?;
        if Printed::of(&text) != Printed::Iptables {
            bail!("{}: is a listing of nftables: give it with --nft-json", path.display());
        }
        collected.printed_by_iptables(&text).with_context(|| path.display().to_string())?;
    }
    for path in &source.dump {
        let text = input.read(path)?;
        let read = match Printed::of(&text) {
            Printed::NftJson => collected.listing(&text),
            Printed::NftText => collected.nft_text(&text),
            Printed::Iptables => collected.printed_by_iptables(&text),
        };
        read.with_context(|| path.display().to_string())?;
    }
    Ok(collected.done())
}

/// What a text was printed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Printed {
    NftJson,
    NftText,
    Iptables,
}

impl Printed {
    fn of(text: &str) -> Printed {
        if text.trim_start().starts_with('{') {
            Printed::NftJson
        } else if is_nft_text(text) {
            Printed::NftText
        } else {
            Printed::Iptables
        }
    }
}
