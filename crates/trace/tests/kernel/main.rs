//! The evaluator against the kernel: random rule sets are loaded, read back, and asked about
//! packets that are really sent. What happens to a packet must be among what the evaluator says is
//! possible.

mod iptables;
mod nftables;
mod topology;
mod wire;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use fastrand::Rng;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sched::{CloneFlags, unshare};
use portolan_trace::{
    Answer, Entry, Family, IpSets, Outcome, Packet, Protocol, Record, Ruleset, Verdict, evaluate,
};

use self::topology::{CLIENTS, NODE, SERVERS, Topology, VIRTUAL, described, tool};
use self::wire::{Seen, Sent, Wire};

/// How many rule sets each trial loads.
const RULE_SETS: u64 = 40;
/// How many packets meet each of them.
const PACKETS: usize = 60;
/// Ports that packets go to and rules ask for.
const PORTS: [u16; 4] = [53, 80, 8080, 8443];

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    if let Err(error) = enter_user_namespace() {
        eprintln!("entering a user namespace: {error}: are they allowed on this machine?");
        return std::process::ExitCode::FAILURE;
    }
    let trials = vec![
        Trial::test("iptables", || alone(|| agree(&iptables_rules))),
        Trial::test("nftables", || alone(|| agree(&nftables_rules))),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Becomes root of a user namespace, which a process can do only before it has threads.
fn enter_user_namespace() -> std::io::Result<()> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// On a thread of its own, which may move to other namespaces.
fn alone(work: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Result<(), Failed> {
    std::thread::spawn(work).join().unwrap_or_else(|_| Err("it panicked".into()))
}

fn some<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

/// Rules that were loaded.
struct Loaded {
    written: String,
    ruleset: Ruleset,
    /// The same rules, as other commands print them.
    otherwise: Vec<(&'static str, Ruleset)>,
}

/// Loads random rules, and reads them back.
type Load = dyn Fn(&mut Rng, u16) -> Result<Loaded, Failed>;

fn iptables_rules(rng: &mut Rng, first_port: u16) -> Result<Loaded, Failed> {
    tool("iptables-nft-restore", &iptables::rules(rng, first_port))?;
    let saved = tool("iptables-nft-save", "")?;
    let ruleset = Ruleset::from_iptables_save(&saved, Family::V4)?;
    let each = |list: &str| -> Result<String, Failed> {
        let mut all = String::new();
        for table in ["raw", "mangle", "nat", "filter"] {
            all.push_str(&tool(&format!("iptables-nft -t {table} {list}"), "")?);
            all.push('\n');
        }
        Ok(all)
    };
    let sets = IpSets::default();
    let otherwise = vec![
        ("iptables -S", Ruleset::from_iptables(&each("-S")?, &sets)?),
        ("iptables -L -n -v", Ruleset::from_iptables(&each("-L -n -v")?, &sets)?),
    ];
    // Not as nft lists them: its translations of several matches of iptables say something else.
    Ok(Loaded { written: saved, ruleset, otherwise })
}

fn nftables_rules(rng: &mut Rng, first_port: u16) -> Result<Loaded, Failed> {
    let written = nftables::rules(rng, first_port);
    tool("nft -f -", &written)?;
    let ruleset = Ruleset::from_nft_json(&tool("nft -j list ruleset", "")?)?;
    let otherwise = vec![("nft list ruleset", Ruleset::from_nft_text(&tool("nft list ruleset", "")?)?)];
    Ok(Loaded { written, ruleset, otherwise })
}

/// Every form gives the same answer, unless it does not show what a rule asks.
fn same(answer: &Answer, loaded: &Loaded, asked: &Packet, compared: &mut usize) -> Result<(), Failed> {
    let outcomes = |answer: &Answer| -> BTreeSet<String> {
        let shown =
            |it: &Outcome| format!("{:?} {} {} {:?}", it.verdict, it.probability, it.masquerade, it.source);
        answer.outcomes.iter().map(shown).collect()
    };
    for (form, ruleset) in &loaded.otherwise {
        let other = evaluate(ruleset, &described(), asked, Record::Nothing);
        if !answer.conditions.is_empty() || !other.conditions.is_empty() {
            continue;
        }
        *compared += 1;
        let (expected, actual) = (outcomes(answer), outcomes(&other));
        if expected != actual {
            let written = &loaded.written;
            return Err(format!("{written}\n{asked:?}\nby {form}: {actual:?}\nexpected: {expected:?}").into());
        }
    }
    Ok(())
}

fn packet(rng: &mut Rng, source_port: u16) -> Sent {
    let from_node = rng.u8(..3) == 0;
    let source = if from_node { NODE[1] } else { some(rng, &CLIENTS) };
    let destination = match rng.u8(..6) {
        0 => some(rng, &NODE),
        1 => some(rng, &SERVERS),
        2 if from_node => Ipv4Addr::LOCALHOST,
        _ => some(rng, &VIRTUAL),
    };
    Sent {
        from_node,
        source: SocketAddrV4::new(source, source_port),
        destination: SocketAddrV4::new(destination, some(rng, &PORTS)),
        protocol: some(rng, &[Protocol::Tcp, Protocol::Udp]),
    }
}

/// How often each end was seen, and how often only one was possible.
#[derive(Debug, Default)]
struct Count {
    delivered: usize,
    translated: usize,
    masqueraded: usize,
    rejected: usize,
    dropped: usize,
    certain: usize,
    undecided: usize,
    /// Answers by other forms of the same rules.
    compared: usize,
}

fn agree(load: &Load) -> Result<(), Failed> {
    let topology = Topology::new()?;
    let mut wire = Wire::new(&topology)?;
    let node = described();
    let mut count = Count::default();
    for seed in 0..RULE_SETS {
        let mut rng = Rng::with_seed(seed);
        let loaded = load(&mut rng, wire.next_port())?;
        let Loaded { written: rules, ruleset, .. } = &loaded;
        let packets: Vec<Sent> = (0..PACKETS).map(|_| packet(&mut rng, wire.next_port())).collect();
        for (sent, seen) in packets.iter().zip(wire.send(&packets)?) {
            let entry = if sent.from_node {
                Entry::Output
            } else {
                Entry::Prerouting { interface: Some("vc".to_owned()) }
            };
            let asked = Packet::new(sent.source.into(), sent.destination.into(), sent.protocol, entry);
            let answer = evaluate(ruleset, &node, &asked, Record::Nothing);
            same(&answer, &loaded, &asked, &mut count.compared)?;
            let undecided =
                answer.outcomes.iter().any(|outcome| matches!(outcome.verdict, Verdict::Undecided(_)));
            if !undecided && !answer.outcomes.iter().any(|outcome| is(outcome, sent, seen)) {
                let answer = evaluate(ruleset, &node, &asked, Record::Steps);
                let steps: Vec<String> = answer
                    .outcomes
                    .iter()
                    .flat_map(|outcome| &outcome.paths)
                    .flat_map(|path| &path.steps)
                    .filter(|step| step.kind != portolan_trace::StepKind::Miss)
                    .map(|step| {
                        let table = &ruleset.tables()[step.table as usize];
                        let chain = &table.chains[step.chain as usize];
                        let rule = step.rule.map_or("", |rule| &chain.rules[rule as usize].text);
                        format!("{} {}/{}: {rule}: {}", step.hook, table.name, chain.name, step.why)
                    })
                    .collect();
                let steps = steps.join("\n");
                let outcomes = answer.outcomes;
                return Err(format!(
                    "seed {seed}\n{rules}\n{sent:?}\nin the kernel: {seen:?}\nby the evaluator: {outcomes:?}\n{steps}"
                )
                .into());
            }
            count.add(sent, seen);
            count.undecided += usize::from(undecided);
            count.certain += usize::from(matches!(&answer.outcomes[..], [only] if only.probability.is_one()));
        }
    }
    count.check()
}

/// Whether `outcome` is what was seen.
fn is(outcome: &Outcome, sent: &Sent, seen: Seen) -> bool {
    let to = match outcome.verdict {
        Verdict::Forward(to) => to,
        Verdict::Accept => sent.destination.into(),
        Verdict::Reject => return seen == Seen::Rejected,
        Verdict::Drop => return seen == Seen::Nothing,
        // Nothing is known of the kernel here, and every interface has an address.
        Verdict::ToNode { .. } | Verdict::Stopped { .. } | Verdict::Undecided(_) => return false,
    };
    match seen {
        Seen::Delivered { source, destination } => {
            let from = if outcome.masquerade { outcome.source } else { Some((*sent.source.ip()).into()) };
            to == SocketAddr::from(destination) && from.is_none_or(|from| from == source)
        }
        Seen::Rejected | Seen::Nothing => false,
    }
}

impl Count {
    fn add(&mut self, sent: &Sent, seen: Seen) {
        match seen {
            Seen::Delivered { source, destination } => {
                self.delivered += 1;
                self.translated += usize::from(destination != sent.destination);
                self.masqueraded += usize::from(source != *sent.source.ip());
            }
            Seen::Rejected => self.rejected += 1,
            Seen::Nothing => self.dropped += 1,
        }
    }

    /// Rule sets that let everything through, or nothing, would prove nothing.
    fn check(&self) -> Result<(), Failed> {
        println!("{self:?}");
        let packets = self.delivered + self.rejected + self.dropped;
        let tenth = packets / 10;
        let varied = self.delivered > 3 * tenth
            && self.dropped > tenth / 2
            && self.translated > tenth / 2
            && self.masqueraded > tenth / 4
            && self.rejected > tenth / 10
            && self.certain > 5 * tenth
            && self.undecided < tenth / 4
            && self.compared > 5 * tenth;
        if varied { Ok(()) } else { Err(format!("these rules ask too little: {self:?}").into()) }
    }
}
