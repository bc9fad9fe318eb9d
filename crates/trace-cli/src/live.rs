//! The rules in force: what the kernel holds in the network namespace of the calling thread.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow};
use portolan_netfilter::nft::{TableFamily, TableRef};
use portolan_netfilter::socket::Socket;
use portolan_service::Family;
use portolan_trace::{IpSets, Ruleset, nft_text_listing, ruleset};
use serde_json::Value;

use crate::rules::{Collected, Rules};
use crate::{iptables_nft, kernel_tables, virtual_servers};

/// The tables that iptables has, by name.
const IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// Reads what the kernel holds in the network namespace of the calling thread: its rules, and
/// virtual servers of IPVS.
pub(crate) fn read() -> anyhow::Result<Rules> {
    let mut rules = rules()?;
    match virtual_servers::live() {
        Ok(servers) => rules.ruleset.add_virtual_servers(&servers.unwrap_or_default()),
        Err(error) => {
            for family in Family::ALL {
                if rules.ruleset.lacks_virtual_servers(family) {
                    rules.warnings.push(format!(
                        "virtual servers of IPVS: {error}: only root of the machine reads them"
                    ));
                    rules.ruleset.miss_virtual_servers(family);
                }
            }
        }
    }
    Ok(rules)
}

/// Reads its rules: our own tables by netlink, tables of other programs with `nft` if it is
/// installed, and tables of iptables with the iptables-save of each variant in use.
pub(crate) fn rules() -> anyhow::Result<Rules> {
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

/// Whether iptables-legacy has tables in this network namespace. Its own program is not asked: that
/// would load its kernel modules.
pub(crate) fn legacy_in_use() -> bool {
    ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"]
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|names| !names.trim().is_empty()))
}

impl Collected {
    /// Tables of other programs. Only nft lists those of family inet.
    fn others(&mut self, socket: &mut Socket, known: BTreeSet<(String, String)>) -> anyhow::Result<()> {
        let mut tables = known;
        // nft 1.0.6 prints what is no JSON of tables that have an owner, which ours of DNS have.
        let Some(listed) = run("nft", &["-j", "list", "tables", "inet"])? else {
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
        let listed: Value = serde_json::from_str(&listed).context("what `nft -j list tables inet` prints")?;
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
