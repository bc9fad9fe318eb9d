//! The cost of a new flow: a UDP packet's whole way through a node that forwards, under different
//! rules.

use std::fs;
use std::io::BufRead;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_dataplane::Dataplane;
use portolan_dataplane::ipvs::Ipvs;
use portolan_dataplane::nftables::Nftables;
use portolan_netlink::socket::NetlinkSocket;
use portolan_service::{Protocol, ServicePlan};

use crate::cluster::{CLUSTER_IPS, POD_ADDRESSES, Shape, members};
use crate::flood::{Flood, stay_on_one_processor};
use crate::forwarding::{build, forwarded};
use crate::process;
use crate::report::{Figure, Line, Required};
use crate::rules::Rules;
use crate::sample::Sample;
use crate::step::{self, Session, Step};
use crate::{ipvs, kube_proxy, kube_proxy_ipvs, load};

const LIMIT: Duration = Duration::from_mins(3);
/// Packets still on their way this long after the last was sent are lost.
const ARRIVAL: Duration = Duration::from_secs(2);
/// IPVS forgets flows after [`crate::ipvs::FLOW_SECONDS`], and looks at them from time to time.
const FORGOTTEN: Duration = Duration::from_mins(1);
/// A flood is repeated this often if the kernel lost packets because its processor was taken away.
const ATTEMPTS: usize = 5;

/// Times new flows at clusters of `shapes`.
pub(crate) fn bench(shapes: &[Shape], rounds: usize, flows: u32) -> anyhow::Result<Vec<Line>> {
    let all = if load::nft_is_there() {
        &[Rules::None, Rules::OneDnat, Rules::KubeProxy, Rules::Portolan][..]
    } else {
        &[Rules::None, Rules::Portolan]
    };
    let against = [
        ("no rules", Rules::None, None),
        ("one DNAT rule", Rules::OneDnat, None),
        ("kube-proxy's layout", Rules::KubeProxy, None),
    ];
    compare("flow", shapes, (rounds, flows), all, (Rules::Portolan, &against))
}

/// The same where IPVS forwards.
pub(crate) fn bench_ipvs(shape: Shape, rounds: usize, flows: u32) -> anyhow::Result<Vec<Line>> {
    let all = [Rules::Ipvs, Rules::KubeProxyIpvs, Rules::Portolan];
    let against = [
        ("kube-proxy's mode ipvs", Rules::KubeProxyIpvs, Some(Required::TimesBetter(1.0))),
        ("our mode nftables", Rules::Portolan, None),
    ];
    compare("ipvs", &[shape], (rounds, flows), &all, (Rules::Ipvs, &against))
}

/// What the time of a flow is compared with, and how it has to be.
type Against = (&'static str, Rules, Option<Required>);

/// Times new flows under each of `all`, and compares those of the first of `of` with its others.
fn compare(
    bench: &'static str,
    shapes: &[Shape],
    (rounds, flows): (usize, u32),
    all: &[Rules],
    (ours, against): (Rules, &[Against]),
) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for &shape in shapes {
        let mut sessions = Vec::new();
        for &rules in all {
            let mut session = Session::start(&Step::Flood { rules, shape, flows }, LIMIT)?;
            let _: u64 = session.answer().with_context(|| format!("loading {rules:?} {shape}"))?;
            sessions.push((rules, session, Vec::new()));
        }
        for _ in 0..rounds {
            for (_, session, times) in &mut sessions {
                times.push(session.ask::<u64>()?);
            }
        }
        let mut medians = Vec::new();
        for (rules, session, times) in sessions {
            session.end()?;
            medians.push((rules, Figure::Nanoseconds(Sample::new(times).median())));
        }
        let median = |wanted| medians.iter().find(|(rules, _)| *rules == wanted).map(|(_, median)| *median);
        let Some(ours) = median(ours) else { continue };
        for (name, rules, required) in against {
            if let Some(theirs) = median(*rules) {
                let line = Line::new(bench, shape, "time a flow", ours).against(name, theirs);
                lines.push(required.iter().fold(line, |line, required| line.required(*required)));
            }
        }
    }
    Ok(lines)
}

/// The step [`Step::Flood`]: answers 0 when ready, then nanoseconds a flow for each line of input.
pub(crate) fn answer_floods(rules: Rules, shape: Shape, flows: u32) -> anyhow::Result<()> {
    stay_on_one_processor().context("staying on one processor")?;
    let mut routed = vec![POD_ADDRESSES];
    if rules == Rules::None {
        routed.push(CLUSTER_IPS);
    }
    build(&routed)?;
    load_rules(rules, shape)?;
    let flows = flows.min(room()? / 4 * 3);
    let flood = Flood::prepare(shape.services, flows)?;
    let mut tracking = NetlinkSocket::open(libc::NETLINK_NETFILTER).context("opening a netlink socket")?;
    step::answer(&0_u64)?;
    for line in std::io::stdin().lock().lines() {
        line.context("waiting for the next question")?;
        step::answer(&timed(&flood, flows, rules, &mut tracking)?)?;
    }
    Ok(())
}

/// Floods once; returns nanoseconds a flow.
fn timed(flood: &Flood, flows: u32, rules: Rules, tracking: &mut NetlinkSocket) -> anyhow::Result<u64> {
    let mut arrived = 0;
    for _ in 0..ATTEMPTS {
        forget_flows(tracking)?;
        if rules.balance() {
            await_no_connections()?;
        }
        let before = forwarded()?;
        let started = Instant::now();
        flood.send().context("sending")?;
        let sent = Instant::now();
        loop {
            arrived = forwarded()? - before;
            let took = started.elapsed();
            if arrived >= u64::from(flows) {
                return u64::try_from(took.as_nanos() / u128::from(flows)).context("too long a flood");
            }
            if sent.elapsed() > ARRIVAL {
                break;
            }
        }
    }
    anyhow::bail!("only {arrived} of {flows} packets were forwarded")
}

fn load_rules(rules: Rules, shape: Shape) -> anyhow::Result<()> {
    let text = match rules {
        Rules::None => return Ok(()),
        Rules::Portolan => {
            let plans: Vec<ServicePlan> = members(shape, Protocol::Udp).map(|member| member.plan()).collect();
            let outcome = Nftables::new(load::settings()?)?.sync(&mut plans.iter())?;
            ensure!(outcome.refused.is_empty(), "the kernel refused {:?}", outcome.refused.first());
            return Ok(());
        }
        Rules::Ipvs => {
            let plans: Vec<ServicePlan> = members(shape, Protocol::Udp).map(|member| member.plan()).collect();
            let outcome = Ipvs::new(ipvs::settings()?)?.sync(&mut plans.iter())?;
            ensure!(outcome.refused.is_empty(), "the kernel refused {:?}", outcome.refused.first());
            return Ok(());
        }
        Rules::KubeProxyIpvs => return kube_proxy_ipvs::load(shape),
        Rules::OneDnat => kube_proxy::one_dnat(),
        Rules::KubeProxy => kube_proxy::rules(shape),
    };
    let folder = tempfile::tempdir().context("creating a temporary folder")?;
    let file = folder.path().join("rules.nft");
    fs::write(&file, text).context("writing rules")?;
    let loaded = process::run(Command::new("nft").arg("-f").arg(&file))?;
    ensure!(loaded.status.success(), "nft -f {}: {}", file.display(), loaded.status);
    Ok(())
}

/// Waits until IPVS has forgotten all flows, which it does by itself.
fn await_no_connections() -> anyhow::Result<()> {
    let path = "/proc/thread-self/net/ip_vs_conn";
    let end = Instant::now() + FORGOTTEN;
    loop {
        let file = fs::File::open(path).with_context(|| format!("reading {path}"))?;
        // Below its heading.
        let Some(line) = std::io::BufReader::new(file).lines().nth(1) else { return Ok(()) };
        ensure!(Instant::now() < end, "IPVS still has flows: {}", line.unwrap_or_default());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How many flows connection tracking has room for.
fn room() -> anyhow::Result<u32> {
    let path = "/proc/sys/net/netfilter/nf_conntrack_max";
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().with_context(|| format!("{path}: {text:?}")),
        // Connection tracking is a module that nothing has needed yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(u32::MAX),
        Err(error) => Err(error).with_context(|| format!("reading {path}")),
    }
}

/// Empties the connection tracking table of this network namespace.
fn forget_flows(tracking: &mut NetlinkSocket) -> anyhow::Result<()> {
    // linux/netfilter/nfnetlink_conntrack.h: a deletion that names no flow.
    const NFNL_SUBSYS_CTNETLINK: u16 = 1;
    const IPCTNL_MSG_CT_DELETE: u16 = 2;
    let kind = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE;
    let of_ipv4 = [2, 0, 0, 0];
    tracking.acknowledged(kind, &of_ipv4, |_| {}).context("emptying the connection tracking table")
}
