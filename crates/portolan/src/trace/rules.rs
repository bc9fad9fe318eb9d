//! Where rules come from: dumps, this node's kernel, or manifests.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};
use portolan_netfilter::nft::{TableFamily, TableRef};
use portolan_netfilter::socket::Socket;
use portolan_service::Family;
use portolan_trace::explain::Services;
use portolan_trace::{IpSets, Ruleset, is_nft_text, nft_text_listing, ruleset};
use serde_json::{Value, json};

use super::args::SourceArgs;
use super::comments::Comments;
use super::{iptables_nft, kernel_tables};

/// Rules, with the names of Services in them.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) ruleset: Ruleset,
    pub(super) services: Services,
    /// What people should know of the answers.
    pub(super) warnings: Vec<String>,
}

/// The tables that iptables has, by name.
const IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// Reads dumps. Each may be standard input, once.
pub(super) fn from_dumps(source: &SourceArgs, input: &mut Inputs) -> anyhow::Result<Rules> {
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

/// Reads files, and standard input for `-`.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    taken: bool,
}

impl Inputs {
    pub(super) fn read(&mut self, path: &Path) -> anyhow::Result<String> {
        if path != Path::new("-") {
            let bytes = fs::read(path).with_context(|| path.display().to_string())?;
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        if self.taken {
            bail!("standard input (`-`) can be read only once: save one of the dumps to a file");
        }
        self.taken = true;
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).context("standard input")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Rule sets that are put together.
#[derive(Debug, Default)]
struct Collected {
    ruleset: Ruleset,
    ipsets: IpSets,
    comments: Comments,
    warnings: Vec<String>,
}

impl Collected {
    fn listing(&mut self, text: &str) -> anyhow::Result<()> {
        let listing: Value = serde_json::from_str(text)
            .map_err(|error| anyhow!("not JSON ({error}): give the output of `nft -j list ruleset`"))?;
        self.tables(&listing)
    }

    /// What nft lists as text.
    fn nft_text(&mut self, text: &str) -> anyhow::Result<()> {
        self.tables(&nft_text_listing(text)?)
    }

    fn tables(&mut self, listing: &Value) -> anyhow::Result<()> {
        if let Some(table) = without_elements(listing) {
            bail!(
                "no set or map of table {table} has an element, so that no answer could be trusted: was it listed with \
                 `nft -t`? List it without -t"
            );
        }
        self.comments.read_listing(listing);
        self.ruleset.merge(Ruleset::from_nft_listing(listing)?);
        Ok(())
    }

    fn objects(&mut self, objects: &[Value]) -> anyhow::Result<()> {
        let listing = json!({"nftables": objects});
        self.comments.read_listing(&listing);
        self.ruleset.merge(Ruleset::from_nft_listing(&listing)?);
        Ok(())
    }

    fn iptables(&mut self, text: &str, family: Family) -> anyhow::Result<()> {
        self.add(Ruleset::from_iptables_save_with(text, family, &self.ipsets)?);
        Ok(())
    }

    /// The same, in whatever form and of whatever family.
    fn printed_by_iptables(&mut self, text: &str) -> anyhow::Result<()> {
        self.add(Ruleset::from_iptables(text, &self.ipsets)?);
        Ok(())
    }

    /// Adds rules of iptables.
    fn add(&mut self, rules: Ruleset) {
        self.comments.read_iptables(&rules);
        self.ruleset.merge(rules);
    }

    fn done(self) -> Rules {
        Rules { ruleset: self.ruleset, services: self.comments.services(), warnings: self.warnings }
    }
}

/// The first table of a service proxy none of whose sets has an element.
fn without_elements(listing: &Value) -> Option<String> {
    let objects = listing.get("nftables")?.as_array()?;
    let mut empty: Option<String> = None;
    for object in objects {
        let Some(set) = object.get("set").or_else(|| object.get("map")) else { continue };
        let table = set.get("table").and_then(Value::as_str).unwrap_or_default();
        if !matches!(table, "portolan" | "kube-proxy") {
            continue;
        }
        if set.get("elem").is_some() {
            return None;
        }
        let family = set.get("family").and_then(Value::as_str).unwrap_or_default();
        empty.get_or_insert_with(|| format!("{family} {table}"));
    }
    empty
}

/// Reads what the kernel holds in the network namespace of the calling thread: our own tables by netlink, those of other
/// programs with `nft` if it is installed, those of iptables with the iptables-save of each variant in use.
pub(super) fn live() -> anyhow::Result<Rules> {
    let mut collected = Collected::default();
    let mut socket = Socket::open().context("opening netfilter")?;
    let mut objects = Vec::new();
    let mut iptables_nft = Vec::new();
    let mut others = BTreeSet::new();
    for family in [TableFamily::Ip, TableFamily::Ip6] {
        let tables = socket.tables(family).map_err(|error| denied(&error, "reading tables of nftables"))?;
        for table in tables {
            if table.name == "portolan" {
                let read = kernel_tables::read(&mut socket, TableRef { family, name: &table.name });
                objects.extend(read.map_err(|error| denied(&error, "reading table portolan"))?);
            } else if IPTABLES.contains(&table.name.as_str()) {
                iptables_nft.push((family, table.name));
            } else {
                others.insert((family.to_string(), table.name));
            }
        }
    }
    collected.objects(&objects)?;
    collected.others(&mut socket, others)?;
    if !iptables_nft.is_empty() {
        collected.ipsets()?;
        // It fails, too, where there are rules of nft in a table that it cannot read: nft can.
        let unread = collected.saved(&["-nft-save", "-save"], "nf_tables")?;
        for (family, name) in &iptables_nft {
            collected.check(&mut socket, *family, name)?;
        }
        for (family, name) in &iptables_nft {
            if !collected.ruleset.has(of_family(*family), name) {
                collected.warnings.extend(unread.iter().cloned());
                break;
            }
        }
    }
    if legacy_in_use() {
        let unread = collected.saved(&["-legacy-save", "-save"], "legacy")?;
        collected.warnings.extend(unread);
    }
    Ok(collected.done())
}

fn of_family(family: TableFamily) -> ruleset::TableFamily {
    ruleset::TableFamily::Only(if family == TableFamily::Ip6 { Family::V6 } else { Family::V4 })
}

fn denied(error: &io::Error, doing: &str) -> anyhow::Error {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return anyhow!(
            "{doing}: not allowed: live rules can be read by root only. Run as root, or trace a dump: \
             `sudo iptables-save | portolan trace --iptables-save - ...`, `sudo nft -j list ruleset | portolan trace --nft-json - ...`"
        );
    }
    anyhow!("{doing}: {error}")
}

/// iptables-legacy has tables in this network namespace. Asking its own program would load its kernel modules.
pub(super) fn legacy_in_use() -> bool {
    ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"]
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|names| !names.trim().is_empty()))
}

impl Collected {
    /// Tables of other programs: of inet, too, which only nft tells of.
    fn others(&mut self, socket: &mut Socket, known: BTreeSet<(String, String)>) -> anyhow::Result<()> {
        let mut tables = known;
        let Some(listed) = run("nft", &["-j", "list", "tables"])? else {
            for (family, name) in tables {
                self.warnings.push(format!(
                    "nft is not installed: of rules of table {family} {name} that do more than the proxy's, only their kind is known"
                ));
                let family = if family == "ip6" { TableFamily::Ip6 } else { TableFamily::Ip };
                let objects = kernel_tables::read(socket, TableRef { family, name: &name });
                self.objects(&objects.map_err(|error| denied(&error, "reading tables of nftables"))?)?;
            }
            return Ok(());
        };
        let listed: Value = serde_json::from_str(&listed).context("what `nft -j list tables` prints")?;
        for object in listed.get("nftables").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| object.pointer(&format!("/table/{key}")).and_then(Value::as_str);
            if let (Some("inet"), Some(name)) = (text("family"), text("name")) {
                tables.insert(("inet".to_owned(), name.to_owned()));
            }
        }
        for (family, name) in tables {
            // Gone between the two: nothing to be read.
            if let Some(listing) = run("nft", &["-j", "list", "table", &family, &name])? {
                self.listing(&listing).with_context(|| format!("table {family} {name}"))?;
            }
        }
        Ok(())
    }

    /// The sets that rules of iptables look into.
    fn ipsets(&mut self) -> anyhow::Result<()> {
        if let Some(text) = run("ipset", &["save"])?
            && let Ok(sets) = IpSets::from_text(&text)
        {
            self.ipsets = sets;
        }
        Ok(())
    }

    /// Holds what iptables-save has printed of a table against the kernel's own rules. Where it is
    /// not all, what nft lists of the table takes its place, or else answers depend on what is
    /// missing.
    fn check(&mut self, socket: &mut Socket, family: TableFamily, name: &str) -> anyhow::Result<()> {
        let of = of_family(family);
        let arguments = ["list", "table", &family.to_string(), name];
        let Some(listing) = run("nft", &[&["-j"][..], &arguments].concat())? else {
            if self.ruleset.stands_in(of, name) {
                let objects = kernel_tables::read(socket, TableRef { family, name });
                self.objects(&objects.map_err(|error| denied(&error, "reading tables of nftables"))?)?;
            }
            return Ok(());
        };
        let listing: Value = serde_json::from_str(&listing).context("what `nft -j list table` prints")?;
        let saved = self.ruleset.tables().iter().find(|table| table.family == of && &*table.name == name);
        let parts = match saved {
            Some(saved) if !self.ruleset.stands_in(of, name) => iptables_nft::parts(&listing, saved),
            // Of a table without any chain iptables-save prints nothing.
            _ => None,
        };
        if let Some(parts) = parts {
            for part in parts {
                self.ruleset.require(of, name, &part.chain, part.rule, &part.tests());
            }
            return Ok(());
        }
        if let Some(text) = run("nft", &arguments)? {
            let read = Ruleset::from_nft_listing(&nft_text_listing(&text)?)?;
            self.ruleset.replace(of, name, read);
        }
        Ok(())
    }

    /// What the first program of these prints that is of `variant`, for each family. Returns
    /// warnings where none did.
    fn saved(&mut self, programs: &[&str], variant: &str) -> anyhow::Result<Vec<String>> {
        let mut unread = Vec::new();
        for (family, name) in [(Family::V4, "iptables"), (Family::V6, "ip6tables")] {
            let mut found = false;
            for suffix in programs {
                let Some(text) = run(&format!("{name}{suffix}"), &[])? else { continue };
                let is_nft = text.contains("(nf_tables)");
                let of_variant = suffix.len() > "-save".len() || is_nft == (variant == "nf_tables");
                if !of_variant {
                    continue;
                }
                match self.iptables(&text, family) {
                    Ok(()) => found = true,
                    // It ends where it met a rule that it cannot read.
                    Err(error) if is_nft => unread.push(format!("{name}{suffix}: {error}")),
                    Err(error) => return Err(error.context(format!("{name}{suffix}"))),
                }
                break;
            }
            if !found {
                unread.push(format!(
                    "rules of iptables ({variant}) are in force, but {name}{} of that variant is missing or fails: they are left \
                     out; install the package iptables",
                    programs[0]
                ));
            }
        }
        Ok(unread)
    }
}

/// What `program` prints; `None` if it is not installed or fails.
fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Option<String>> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&directories)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|path| path.is_file());
    let Some(path) = path else { return Ok(None) };
    let done = Command::new(&path)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", path.display()))?;
    Ok(done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned()))
}

/// Rules of mode iptables as text, for each family.
pub(super) fn from_texts(texts: &[(Family, String)]) -> anyhow::Result<Rules> {
    let mut collected = Collected::default();
    for (family, text) in texts {
        collected.iptables(text, *family)?;
    }
    Ok(collected.done())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_without_elements_is_known() {
        let listing = |elements: Value| {
            let mut set = json!({"family": "ip", "table": "portolan", "name": "services"});
            if !elements.is_null() {
                set["elem"] = elements;
            }
            json!({"nftables": [{"set": {"family": "ip", "table": "mine", "name": "a"}}, {"map": set}]})
        };
        assert_eq!(without_elements(&listing(Value::Null)).as_deref(), Some("ip portolan"));
        assert_eq!(without_elements(&listing(json!(["10.96.0.1"]))), None);
        assert_eq!(without_elements(&json!({"nftables": []})), None);
    }
}
