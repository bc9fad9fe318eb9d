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
use portolan_trace::Ruleset;
use portolan_trace::explain::Services;
use serde_json::{Value, json};

use super::comments::Comments;
use super::kernel_tables;

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
pub(super) fn from_dumps(iptables_save: &[PathBuf], nft_json: &[PathBuf]) -> anyhow::Result<Rules> {
    let mut input = Inputs::default();
    let mut collected = Collected::default();
    for path in nft_json {
        let text = input.read(path)?;
        collected.listing(&text).with_context(|| path.display().to_string())?;
    }
    for path in iptables_save {
        let text = input.read(path)?;
        if text.trim_start().starts_with('{') {
            bail!("{}: is a listing of nftables: give it with --nft-json", path.display());
        }
        collected.iptables(&text, family_of(&text)).with_context(|| path.display().to_string())?;
    }
    Ok(collected.done())
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

/// The family of a dump, by its header or by the first address in it. One without either holds no rule that asks for
/// an address, and is taken for IPv4's.
pub(super) fn family_of(text: &str) -> Family {
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with('#') {
            if line.contains("ip6tables-save v") {
                return Family::V6;
            }
            // iptables-save also prints this name, of either family, when it is called through a multi-call binary.
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        while let Some(word) = words.next() {
            if matches!(word, "-s" | "-d" | "--to-destination" | "--src-range" | "--dst-range") {
                let value = words.next().unwrap_or("");
                let is_v6 = value.starts_with('[') || value.matches(':').count() > 1;
                return if is_v6 { Family::V6 } else { Family::V4 };
            }
            if matches!(word, "ipv6-icmp" | "icmp6" | "icmp6-port-unreachable") {
                return Family::V6;
            }
        }
    }
    Family::V4
}

/// Rule sets that are put together.
#[derive(Debug, Default)]
struct Collected {
    ruleset: Ruleset,
    comments: Comments,
    warnings: Vec<String>,
}

impl Collected {
    fn listing(&mut self, text: &str) -> anyhow::Result<()> {
        let listing: Value = serde_json::from_str(text)
            .map_err(|error| anyhow!("not JSON ({error}): give the output of `nft -j list ruleset`"))?;
        if let Some(table) = without_elements(&listing) {
            bail!(
                "no set or map of table {table} has an element, so that no answer could be trusted: was it listed with \
                 `nft -t`? List it without -t"
            );
        }
        self.comments.read_listing(&listing);
        self.ruleset.merge(Ruleset::from_nft_json(text)?);
        Ok(())
    }

    fn objects(&mut self, objects: &[Value]) -> anyhow::Result<()> {
        let listing = json!({"nftables": objects});
        self.comments.read_listing(&listing);
        self.ruleset.merge(Ruleset::from_nft_json(&listing.to_string())?);
        Ok(())
    }

    fn iptables(&mut self, text: &str, family: Family) -> anyhow::Result<()> {
        let rules = Ruleset::from_iptables_save(text, family)?;
        self.comments.read_iptables(&rules);
        self.ruleset.merge(rules);
        Ok(())
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
    let mut iptables_nft = false;
    let mut others = BTreeSet::new();
    for family in [TableFamily::Ip, TableFamily::Ip6] {
        let tables = socket.tables(family).map_err(|error| denied(&error, "reading tables of nftables"))?;
        for table in tables {
            if table.name == "portolan" {
                let read = kernel_tables::read(&mut socket, TableRef { family, name: &table.name });
                objects.extend(read.map_err(|error| denied(&error, "reading table portolan"))?);
            } else if IPTABLES.contains(&table.name.as_str()) {
                iptables_nft = true;
            } else {
                others.insert((family.to_string(), table.name));
            }
        }
    }
    collected.objects(&objects)?;
    collected.others(&mut socket, others)?;
    if iptables_nft {
        collected.saved(&["-nft-save", "-save"], "nf_tables")?;
    }
    if legacy_in_use() {
        collected.saved(&["-legacy-save", "-save"], "legacy")?;
    }
    Ok(collected.done())
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

    /// What the first program of these prints that is of `variant`, for each family.
    fn saved(&mut self, programs: &[&str], variant: &str) -> anyhow::Result<()> {
        for (family, name) in [(Family::V4, "iptables"), (Family::V6, "ip6tables")] {
            let mut found = false;
            for suffix in programs {
                let Some(text) = run(&format!("{name}{suffix}"), &[])? else { continue };
                let is_nft = text.contains("(nf_tables)");
                let of_variant = suffix.len() > "-save".len() || is_nft == (variant == "nf_tables");
                if of_variant {
                    self.iptables(&text, family).with_context(|| format!("{name}{suffix}"))?;
                    found = true;
                    break;
                }
            }
            if !found {
                self.warnings.push(format!(
                    "rules of iptables ({variant}) are in force, but {name}{} of that variant is missing: they are left out; \
                     install the package iptables",
                    programs[0]
                ));
            }
        }
        Ok(())
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
    fn families_of_dumps() {
        for (text, expected) in [
            ("", Family::V4),
            ("# Generated by iptables-save v1.8.9 (nf_tables)\n*nat\nCOMMIT\n", Family::V4),
            ("# Generated by ip6tables-save v1.8.9 on X\n*nat\nCOMMIT\n", Family::V6),
            ("*nat\n-A X -d 10.0.0.1/32 -j Y\nCOMMIT\n", Family::V4),
            ("*nat\n-A X -d fd00::1/128 -j Y\nCOMMIT\n", Family::V6),
            ("*nat\n-A X -j DNAT --to-destination [fd00::1]:80\nCOMMIT\n", Family::V6),
            ("*nat\n-A X -j DNAT --to-destination 10.0.0.1:80\nCOMMIT\n", Family::V4),
            ("*filter\n-A X -j REJECT --reject-with icmp6-port-unreachable\nCOMMIT\n", Family::V6),
        ] {
            assert_eq!(family_of(text), expected, "{text}");
        }
    }

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
