//! Programs that are resolvers of their own.

use anyhow::{Context, ensure};
use portolan_service::Family;

use crate::site::{LARGE, Site};

/// What is asked, the exit code, what must be printed, and what must not.
type Row = (&'static [&'static str], i32, &'static [&'static str], &'static [&'static str]);

const DIG: &[Row] = &[
    (&["+search", "+short", "web"], 0, &["10.96.0.80\n"], &["fd00"]),
    (&["+search", "+short", "web", "AAAA"], 0, &["fd00:10:96::80\n"], &[]),
    (&["+search", "+short", "api.other"], 0, &["10.96.0.70\n"], &[]),
    (&["+search", "+short", "web.shop.svc"], 0, &["10.96.0.80\n"], &[]),
    (&["+search", "+short", "intra"], 0, &["192.0.2.99\n"], &[]),
    (&["+search", "+short", "www.example.com"], 0, &["192.0.2.80\n"], &[]),
    (&["+search", "+short", "out"], 0, &["www.example.com.\n192.0.2.80\n"], &[]),
    (&["web.shop.svc.cluster.local."], 0, &["status: NOERROR", "flags: qr aa rd;", "EDNS: version: 0"], &[]),
    (
        &["four.shop.svc.cluster.local", "AAAA"],
        0,
        &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1", "IN\tSOA\tns.dns.cluster.local."],
        &[],
    ),
    (&["web"], 0, &["status: NXDOMAIN", "flags: qr rd ra;"], &["flags: qr aa"]),
    (&["gone.shop.svc.cluster.local"], 0, &["status: NXDOMAIN", "ANSWER: 0, AUTHORITY: 1"], &[]),
    (&["down.shop.svc.cluster.local"], 0, &["status: NXDOMAIN"], &[]),
    (&["-x", "10.96.0.80", "+short"], 0, &["web.shop.svc.cluster.local.\n"], &[]),
    (
        &["_http._tcp.web.shop.svc.cluster.local", "SRV"],
        0,
        &["\t0 50 80 web.shop.svc.cluster.local.", "IN\tA\t10.96.0.80", "IN\tAAAA\tfd00:10:96::80"],
        &[],
    ),
    (&["dns-version.cluster.local", "TXT", "+short"], 0, &["\"1.1.0\"\n"], &[]),
    (&["+tcp", "+short", "web.shop.svc.cluster.local"], 0, &["10.96.0.80\n"], &[]),
    (
        &["+tcp", "+keepopen", "+short", "web.shop.svc.cluster.local", "four.shop.svc.cluster.local"],
        0,
        &["10.96.0.80\n10.96.0.4\n"],
        &[],
    ),
    (&["+ignore", "+noedns", "large.shop.svc.cluster.local"], 0, &[" tc", "ANSWER: 29,"], &["EDNS"]),
    (&["+ignore", "+bufsize=4096", "large.shop.svc.cluster.local"], 0, &[" tc", "ANSWER: 73,"], &[]),
    (&["+qr", "+dnssec", "web.shop.svc.cluster.local"], 0, &["10.96.0.80", "flags: qr aa rd;"], &["RRSIG"]),
    (&["+subnet=192.0.2.0/24", "+nsid", "+short", "web.shop.svc.cluster.local"], 0, &["10.96.0.80"], &[]),
    (&["+edns=1", "+noednsnegotiation", "web.shop.svc.cluster.local"], 0, &["status: BADVERS"], &["10.96"]),
    (&["+opcode=NOTIFY", "web.shop.svc.cluster.local"], 0, &["status: NOTIMP"], &[]),
    (&["-c", "CH", "web.shop.svc.cluster.local"], 0, &["status: REFUSED"], &[]),
    (&["cluster.local", "AXFR"], 0, &["Transfer failed"], &[]),
    (&["WeB.sHoP.svc.cluster.LOCAL"], 0, &["\nWeB.sHoP.svc.cluster.LOCAL. 5\tIN\tA\t10.96.0.80"], &[]),
];

const NSLOOKUP: &[Row] = &[
    (&["nslookup", "web"], 1, &["Name:\tweb.shop.svc.cluster.local", "10.96.0.80", "fd00:10:96::80"], &[]),
    (&["nslookup", "intra"], 1, &["Name:\tintra.corp.example", "192.0.2.99"], &[]),
    (&["nslookup", "web.shop.svc.cluster.local"], 0, &["10.96.0.80", "fd00:10:96::80"], &["NXDOMAIN"]),
    (&["nslookup", "web.shop.svc.cluster.local."], 0, &["10.96.0.80", "fd00:10:96::80"], &["NXDOMAIN"]),
    (&["nslookup", "four.shop.svc.cluster.local"], 0, &["10.96.0.4"], &["can't find", "Parse error"]),
    (&["nslookup", "six.shop.svc.cluster.local"], 0, &["fd00:10:96::6"], &["can't find", "Parse error"]),
    (&["nslookup", "www.example.com"], 0, &["192.0.2.80", "2001:db8::80"], &[]),
    (&["nslookup", "-type=a", "out.shop.svc.cluster.local"], 0, &["www.example.com", "192.0.2.80"], &[]),
    (
        &["nslookup", "-type=srv", "_http._tcp.web.shop.svc.cluster.local"],
        0,
        &["0 50 80 web.shop.svc.cluster.local"],
        &[],
    ),
    (&["nslookup", "10.96.0.80"], 0, &["name = web.shop.svc.cluster.local"], &[]),
    (&["nslookup", "fd00:10:96::70"], 0, &["name = api.other.svc.cluster.local"], &[]),
    (&["nslookup", "gone.other.svc.cluster.local"], 1, &["NXDOMAIN"], &["timed out"]),
    (&["nslookup", "gone"], 1, &["NXDOMAIN"], &["timed out"]),
];

/// dig(1) of BIND: with EDNS of 1232 octets, and with a cookie.
pub(crate) fn dig(program: &str, family: Family) -> anyhow::Result<()> {
    let site = Site::new(family)?;
    each(&site, program, DIG)?;
    let before = site.questions()?;
    let ran = site.run(program, &["+short", "large.shop.svc.cluster.local"])?;
    let found = ran.stdout.lines().filter(|line| line.starts_with("10.1.")).count();
    ensure!(found == LARGE, "{found} of {LARGE} addresses: {}", ran.stdout);
    let after = site.questions()?;
    let (udp, tcp) = (after.udp - before.udp, after.tcp - before.tcp);
    ensure!((udp, tcp) == (1, 1), "{udp} questions over UDP and {tcp} over TCP");
    Ok(())
}

/// nslookup of busybox, which asks for both types in all domains at once, and does not search names
/// that have a dot.
pub(crate) fn busybox(program: &str, family: Family) -> anyhow::Result<()> {
    each(&Site::new(family)?, program, NSLOOKUP)
}

fn each(site: &Site, program: &str, rows: &[Row]) -> anyhow::Result<()> {
    for (arguments, code, parts, absent) in rows {
        let ran = site.run(program, arguments)?;
        let what = || format!("{arguments:?} printed\n{}", ran.stdout);
        ran.at_once().with_context(what)?;
        ensure!(ran.code == Some(*code), "exit code {:?}: {}", ran.code, what());
        for part in *parts {
            ensure!(ran.stdout.contains(part), "{part:?} is missing: {}", what());
        }
        for part in *absent {
            ensure!(!ran.stdout.contains(part), "{part:?} is there: {}", what());
        }
    }
    Ok(())
}
