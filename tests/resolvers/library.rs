//! What getaddrinfo(3) of a C library finds, and with how many questions.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use portolan_service::Family;

use crate::site::{LARGE, NOTHING_OUTSIDE, Questions, Site, server};
use crate::tools;

const WEB: &[&str] = &["10.96.0.80", "fd00:10:96::80"];
const API: &[&str] = &["10.96.0.70", "fd00:10:96::70"];
const OUT: &[&str] = &["192.0.2.80", "2001:db8::80"];
const NOT_FOUND: &[&str] = &[];

/// What is looked up, what is found, and how many questions that takes: a pair of them, for A and
/// AAAA, for each domain of the search list until the name is found.
const ROWS: &[(&str, &[&str], &[&str], u64)] = &[
    ("both families, the first domain", &["web"], WEB, 2),
    ("no AAAA: NODATA beside an address", &["four"], &["10.96.0.4"], 2),
    ("no A", &["six"], &["fd00:10:96::6"], 2),
    ("A alone is asked for", &["-4", "web"], &["10.96.0.80"], 1),
    ("AAAA alone is asked for", &["-6", "web"], &["fd00:10:96::80"], 1),
    ("the second domain", &["api.other"], API, 4),
    ("the third domain", &["web.shop.svc"], WEB, 6),
    ("the fourth domain, outside", &["intra"], &["192.0.2.99", "2001:db8::99"], 8),
    ("a whole name of the cluster", &["web.shop.svc.cluster.local"], WEB, 10),
    ("the same with a dot at its end", &["web.shop.svc.cluster.local."], WEB, 2),
    ("a name with a dot at its end is not searched", &["web."], NOT_FOUND, 2),
    ("outside, after the search list", &["www.example.com"], OUT, 10),
    ("outside, with a dot at its end", &["www.example.com."], OUT, 2),
    ("outside without AAAA", &["only-v4.example.com"], &["192.0.2.4"], 10),
    ("in no domain", &["gone.other"], NOT_FOUND, 10),
    ("no endpoint is ready", &["down.shop.svc.cluster.local."], NOT_FOUND, 2),
    ("an ExternalName to a Service", &["alias"], API, 2),
    ("an ExternalName to outside", &["out"], OUT, 2),
    ("a pod", &["10-1-2-3.shop.pod"], &["10.1.2.3"], 6),
    ("other letters", &["WeB.ShOp.SvC.cLuStEr.LoCaL."], WEB, 2),
];

/// Addresses and their names.
const REVERSE: &[(&str, &str)] =
    &[("10.96.0.80", "web.shop.svc.cluster.local"), ("fd00:10:96::70", "api.other.svc.cluster.local")];

/// So many times both questions of a pair come at the same moment from one port.
const PAIRS: u64 = 300;

/// `lookup`, of this C library, asks a server over `family`.
pub(crate) fn finds(lookup: &str, family: Family) -> anyhow::Result<()> {
    let site = Site::new(family)?;
    for (situation, arguments, expected, questions) in ROWS {
        let before = site.questions()?;
        found(&site, lookup, arguments, expected).with_context(|| format!("{situation}: {arguments:?}"))?;
        let asked = site.questions()?.udp - before.udp;
        ensure!(asked == *questions, "{situation}: {arguments:?} took {asked} questions, not {questions}");
    }
    for (address, expected) in REVERSE {
        let ran = site.run(lookup, &["-x", address])?;
        ensure!(ran.stdout.trim() == *expected, "{address}: {}", ran.stdout);
    }
    ensure!(site.questions()?.tcp == 0, "nothing of this needs TCP");
    let before = site.questions()?;
    let ran = site.run(lookup, &["-n", &PAIRS.to_string(), "web"])?;
    ran.at_once()?;
    ensure!(ran.code == Some(0), "{PAIRS} pairs: {}", ran.stdout);
    let asked = site.questions()?.udp - before.udp;
    ensure!(asked == 2 * PAIRS, "{PAIRS} pairs took {asked} questions: some were asked again");
    Ok(())
}

/// Where nobody knows names outside, nobody waits for them: after REFUSED or SERVFAIL, musl asks
/// again and again for 5 s.
pub(crate) fn nothing_outside(lookup: &str, family: Family) -> anyhow::Result<()> {
    let site = Site::with(family, NOTHING_OUTSIDE)?;
    for (situation, name, expected) in [
        ("in the cluster", "web", WEB),
        ("outside", "www.example.com", NOT_FOUND),
        ("outside, not searched", "www.example.com.", NOT_FOUND),
        ("in no domain", "gone", NOT_FOUND),
        ("an ExternalName to outside", "out", NOT_FOUND),
        ("an ExternalName to a Service", "alias", API),
    ] {
        found(&site, lookup, &[name], expected).with_context(|| format!("{situation}: {name}"))?;
    }
    Ok(())
}

/// An answer of hundreds of addresses, of which a datagram holds 29.
pub(crate) fn large_with_tcp(lookup: &str, family: Family, most: usize) -> anyhow::Result<()> {
    let site = Site::new(family)?;
    let ran = site.run(lookup, &["large"])?;
    ran.at_once()?;
    let addresses: BTreeSet<&str> = ran.stdout.lines().collect();
    ensure!(addresses.len() == LARGE.min(most), "{} addresses", addresses.len());
    let Questions { tcp, .. } = site.questions()?;
    ensure!(tcp >= 1, "there is no other way to get {} addresses", addresses.len());
    Ok(())
}

/// A resolver that has no TCP makes do with what a datagram holds, and each time with others.
pub(crate) fn large_without_tcp(lookup: &str, family: Family) -> anyhow::Result<()> {
    const OF_A_DATAGRAM: usize = 29;
    let site = Site::new(family)?;
    let mut all = BTreeSet::new();
    for _ in 0..10 {
        let ran = site.run(lookup, &["-4", "large"])?;
        ran.at_once()?;
        let addresses: BTreeSet<&str> = ran.stdout.lines().collect();
        ensure!(addresses.len() == OF_A_DATAGRAM, "{}: {}", addresses.len(), ran.stdout);
        all.extend(addresses.into_iter().map(str::to_owned));
    }
    ensure!(all.len() > 3 * OF_A_DATAGRAM, "{} endpoints get their turn", all.len());
    ensure!(site.questions()?.tcp == 0, "it has TCP after all: the table must expect more of it");
    Ok(())
}

/// getent(1), which asks in ways of its own: `hosts` for AAAA through the whole list and then for
/// A, `ahosts` for both.
pub(crate) fn getent(program: &str, family: Family) -> anyhow::Result<()> {
    let site = Site::new(family)?;
    for (database, name, expected) in [
        ("ahosts", "web", &["10.96.0.80", "fd00:10:96::80"][..]),
        ("ahostsv4", "web", &["10.96.0.80"]),
        ("ahosts", "api.other", API),
        ("ahosts", "www.example.com", OUT),
        ("ahosts", "gone", &[]),
        ("hosts", "web", &["fd00:10:96::80"]),
        ("hosts", "four", &["10.96.0.4"]),
        ("hosts", "10.96.0.4", &["10.96.0.4"]),
        ("hosts", "gone", &[]),
    ] {
        let ran = site.run(program, &[database, name])?;
        ran.at_once().with_context(|| format!("{database} {name}"))?;
        let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
        let found: BTreeSet<String> = ran.stdout.lines().filter_map(first).collect();
        let expected: BTreeSet<String> = expected.iter().map(|&text| text.to_owned()).collect();
        ensure!(found == expected, "{database} {name}: {}", ran.stdout);
    }
    Ok(())
}

/// systemd-resolved between the C library and our server. It asks with EDNS, and keeps answers.
pub(crate) fn by_resolved(lookup: &str, resolved: &str, family: Family) -> anyhow::Result<()> {
    // It wants to become this user, which has no number in our user namespace but that of root.
    const USERS: &str = "root:x:0:0::/:/bin/sh\nsystemd-resolve:x:0:0::/:/usr/sbin/nologin\n";
    const START: &str =
        "mount --bind \"$0/passwd\" /etc/passwd && mount --bind \"$0/systemd\" /run/systemd && exec \"$@\"";
    let mut site = Site::new(family)?;
    let ours = server(family)?;
    let folder = tempfile::TempDir::new_in("/run")?;
    let settings = folder.path().join("systemd/resolved.conf.d");
    fs::create_dir_all("/run/systemd")?;
    fs::create_dir_all(&settings)?;
    fs::write(folder.path().join("passwd"), USERS)?;
    fs::write(
        settings.join("ours.conf"),
        format!("[Resolve]\nDNS={ours}\nFallbackDNS=\nDomains=~.\nDNSSEC=no\nLLMNR=no\nMulticastDNS=no\n"),
    )?;
    let log = folder.path().join("log");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", START]).arg(folder.path()).arg(resolved);
    command.env("LD_LIBRARY_PATH", tools::resolved_libraries());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
    site.start(&mut command)?;
    site.resolver(IpAddr::from([127, 0, 0, 53]))?;
    site.until("systemd-resolved answers", || {
        let ran = site.run(lookup, &["-4", "web"])?;
        Ok(ran.stdout.trim() == "10.96.0.80")
    })
    .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    for (situation, arguments, expected, _) in ROWS {
        found(&site, lookup, arguments, expected).with_context(|| format!("{situation}: {arguments:?}"))?;
    }
    let ran = site.run(lookup, &["-4", "large"])?;
    ran.at_once()?;
    ensure!(ran.stdout.lines().count() == LARGE, "{} of {LARGE} addresses", ran.stdout.lines().count());
    ensure!(site.questions()?.tcp > 0, "it asks again over TCP for what is cut");
    Ok(())
}

/// Fails unless these addresses are found, without a wait.
fn found(site: &Site, lookup: &str, arguments: &[&str], expected: &[&str]) -> anyhow::Result<()> {
    let ran = site.run(lookup, arguments)?;
    ran.at_once()?;
    if expected.is_empty() {
        ensure!(ran.code == Some(1) && ran.stdout.starts_with("error: "), "is found: {}", ran.stdout);
        return Ok(());
    }
    let found: BTreeSet<IpAddr> = ran.stdout.lines().filter_map(|line| line.parse().ok()).collect();
    let expected: BTreeSet<IpAddr> = expected.iter().filter_map(|text| text.parse().ok()).collect();
    ensure!(ran.code == Some(0) && found == expected, "exit code {:?}: {}", ran.code, ran.stdout);
    Ok(())
}
