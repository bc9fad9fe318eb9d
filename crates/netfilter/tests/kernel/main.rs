//! Against the running kernel, each case in a network namespace of its own.
//!
//! As root that needs nothing; anybody else enters a user namespace first, which a process can do
//! only before it has threads: hence no harness. As root the cases run a second time in a user
//! namespace, where limits differ.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use portolan_netfilter::conntrack::{Conntrack, Flow};
use portolan_netfilter::nft::{
    Batch, ChainInfo, Element, ElementAt, ElementData, ElementOperation, OwnedData, OwnedElement, Rule, Set,
    TableFamily, TableRef, Verdict,
};
use portolan_netfilter::socket::{CommitError, Socket};

mod design;
#[path = "../../../netlink/tests/kernel/namespace.rs"]
mod namespace;
use design::Design;
use namespace::{Case, enter_user_namespace, in_network_namespace};

const IN_USER_NAMESPACE: &str = "PORTOLAN_TEST_IN_USER_NAMESPACE";
const FAMILIES: [TableFamily; 2] = [TableFamily::Ip, TableFamily::Ip6];

const CASES: [(&str, Case); 13] = [
    ("the whole design comes back as it was loaded", design_comes_back),
    ("what is there can be added again, an element only with the same data", design_twice),
    ("a batch for another generation is stale, for this one not", generation),
    ("an error names message, element and reason", error_names_element),
    ("of a refused batch nothing is applied", nothing_applied),
    ("several refused messages are all reported", all_errors),
    ("50,000 elements go in messages of at most 64 KiB", chunks),
    ("a batch above the limit of an unprivileged process is refused with the limit", limit),
    ("elements are deleted, destroyed, flushed", element_removal),
    ("rules, chains, sets and tables are deleted", removal),
    ("what is missing is empty", missing),
    ("dumps stay whole while another socket commits", dump_under_commits),
    ("UDP flows are found by destination and deleted exactly", conntrack),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // SAFETY: no arguments, no failure.
    let root = unsafe { libc::geteuid() } == 0;
    let asked = std::env::var_os(IN_USER_NAMESPACE).is_some();
    let entered = !root || asked;
    if entered && let Err(error) = enter_user_namespace() {
        eprintln!("cannot enter a user namespace, which these tests need without root: {error}");
        return ExitCode::FAILURE;
    }
    let mut trials: Vec<Trial> =
        CASES.into_iter().map(|(name, case)| Trial::test(name, move || in_network_namespace(case))).collect();
    if root && !asked {
        trials.push(Trial::test("all of it in a user namespace", again_in_user_namespace));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn again_in_user_namespace() -> Result<(), Failed> {
    let output = Command::new(std::env::current_exe()?).env(IN_USER_NAMESPACE, "1").output()?;
    if output.status.success() {
        return Ok(());
    }
    Err([output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat()
        .into())
}

fn loaded(family: TableFamily) -> Result<(Design, Socket), Failed> {
    let design = Design { family };
    let mut batch = Batch::new();
    design.load(&mut batch);
    let mut socket = Socket::open()?;
    socket.commit(&batch)?;
    Ok((design, socket))
}

fn elements(socket: &mut Socket, table: TableRef<'_>, set: &str) -> Result<Vec<OwnedElement>, Failed> {
    let mut elements = Vec::new();
    socket.elements(table, set, |element| elements.push(element))?;
    elements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(elements)
}

fn set<'s>(sets: &'s [Set], name: &str) -> &'s Set {
    sets.iter().find(|set| set.name == name).expect("the design has it")
}

fn design_comes_back() -> Result<(), Failed> {
    for family in FAMILIES {
        let (design, mut socket) = loaded(family)?;
        let table = design.table();

        let tables = socket.tables(family)?;
        assert_eq!(tables.len(), 1);
        assert_eq!((tables[0].name.as_str(), tables[0].flags), ("svc", 0));
        assert_eq!(tables[0].comment.as_deref(), Some("Services: every object, set type and comment"));

        let chains = socket.chains(table)?;
        let expected: Vec<ChainInfo> = Design::chains()
            .into_iter()
            .map(|chain| ChainInfo {
                table: "svc".to_owned(),
                name: chain.name,
                is_base: chain.kind.is_some(),
                kind: chain.kind,
                drops: false,
                comment: chain.comment,
            })
            .collect();
        assert_eq!(chains, expected);

        let rules = socket.rules(table)?;
        for chain in Design::chains() {
            let of_chain = |(name, _): &(&str, Rule)| *name == chain.name;
            let expected: Vec<Rule> =
                design.rules().into_iter().filter(of_chain).map(|(_, rule)| rule).collect();
            let found: Vec<Rule> = rules
                .iter()
                .filter(|rule| rule.chain == chain.name)
                .map(|rule| Rule { exprs: rule.exprs.clone(), comment: rule.comment.clone() })
                .collect();
            assert_eq!(found, expected, "chain {} of {table}", chain.name);
        }
        let handles: BTreeSet<u64> = rules.iter().map(|rule| rule.handle).collect();
        assert_eq!(handles.len(), design.rules().len());

        let sets = socket.sets(table)?;
        assert_eq!(sets.len(), Design::sets().len());
        for (info, set) in sets.iter().zip(Design::sets()) {
            assert_eq!(info.name, set.name);
            assert_eq!(info.flags, set.flags(), "{}", set.name);
            assert_eq!(info.key_len, set.key_len(family), "{}", set.name);
            assert_eq!(info.data_len, set.data_len(family), "{}", set.name);
            assert_eq!(info.size, set.size, "{}", set.name);
            assert_eq!(info.userdata, set.userdata(family), "{}", set.name);
            assert_eq!(info.comment(), set.comment, "{}", set.name);
            // Told since 6.16.
            if let Some(count) = info.count {
                assert_eq!(count as usize, elements(&mut socket, table, &set.name)?.len(), "{}", set.name);
            }
        }

        let services = elements(&mut socket, table, "services")?;
        let jump = OwnedData::Verdict(Verdict::Jump("pick-3".to_owned()));
        assert_eq!(services.len(), 2);
        assert_eq!(services[0].key, design.frontend(1, 80));
        assert_eq!(services[0].data, Some(jump));
        assert_eq!(services[0].comment.as_deref(), Some("shop/web:http"));
        assert_eq!(services[1].data, Some(OwnedData::Verdict(Verdict::Drop)));

        let endpoints = elements(&mut socket, table, "endpoints")?;
        let endpoint = [design.address(9), design::keys::padded(8080)].concat();
        assert_eq!(endpoints.len(), 3);
        assert!(endpoints.iter().all(|element| element.data == Some(OwnedData::Value(endpoint.clone()))));

        let affinity = elements(&mut socket, table, "affinity")?;
        assert_eq!(affinity.len(), 1);
        assert_eq!(affinity[0].timeout, Some(Duration::from_hours(1)));
        let left = affinity[0].expires.expect("it expires");
        assert!(left > Duration::from_secs(3500) && left <= Duration::from_hours(1), "{left:?}");

        let (first, last) = design.range(&design.frontend(1, 80));
        let allowed = elements(&mut socket, table, "allowed")?;
        assert_eq!(allowed.len(), 1);
        assert_eq!((&allowed[0].key, allowed[0].key_end.as_ref()), (&first, Some(&last)));
        let chunk = set(&Design::sets(), "allowed").key_len(family) as usize;
        assert_eq!(first.len(), chunk);
    }
    Ok(())
}

fn design_twice() -> Result<(), Failed> {
    let (design, mut socket) = loaded(TableFamily::Ip)?;
    let mut batch = Batch::new();
    for chain in Design::chains() {
        batch.add_chain(design.table(), &chain);
    }
    for set in Design::sets() {
        batch.add_set(design.table(), &set);
    }
    batch.add_elements(design.table(), "cluster-ips", [Element::new(&design.address(1))]);
    socket.commit(&batch)?;
    let verdict = Verdict::Drop;
    let key = design.frontend(1, 80);
    let element = Element { data: Some(ElementData::Verdict(&verdict)), ..Element::new(&key) };
    batch.clear();
    batch.add_elements(design.table(), "services", [element]);
    let error = socket.commit(&batch).expect_err("it leads elsewhere");
    assert_eq!(error.errors()[0].errno, libc::EEXIST);
    Ok(())
}

fn generation() -> Result<(), Failed> {
    let (design, mut socket) = loaded(TableFamily::Ip)?;
    let before = socket.generation()?;
    let mut batch = Batch::new();
    batch.add_elements(design.table(), "cluster-ips", [Element::new(&design.address(50))]);
    batch.expect_generation(before);
    socket.commit(&batch)?;
    let after = socket.generation()?;
    assert_eq!(after, before + 1);
    let error = socket.commit(&batch).expect_err("it is another generation now");
    assert!(error.is_stale(), "{error}");
    assert!(error.errors().is_empty());
    batch.clear();
    batch.add_elements(design.table(), "cluster-ips", [Element::new(&design.address(51))]);
    socket.commit(&batch)?;
    assert_eq!(elements(&mut socket, design.table(), "cluster-ips")?.len(), 3);
    Ok(())
}

fn error_names_element() -> Result<(), Failed> {
    let (design, mut socket) = loaded(TableFamily::Ip6)?;
    let lost = Verdict::Jump("no-such-chain".to_owned());
    let keys: Vec<Vec<u8>> = (10..20).map(|last| design.frontend(last, 80)).collect();
    let verdicts: Vec<&Verdict> =
        (0..10).map(|index| if index == 7 { &lost } else { &Verdict::Drop }).collect();
    let services = keys.iter().zip(verdicts).map(|(key, verdict)| Element {
        data: Some(ElementData::Verdict(verdict)),
        comment: Some("shop/web"),
        ..Element::new(key)
    });
    let mut batch = Batch::new();
    batch.add_elements(design.table(), "cluster-ips", [Element::new(&design.address(50))]);
    batch.add_elements(design.table(), "services", services);
    batch.add_elements(design.table(), "cluster-ips", [Element::new(&design.address(51))]);
    let error = socket.commit(&batch).expect_err("the chain is missing");
    let [error] = error.errors() else { return Err(format!("{error:?}").into()) };
    assert_eq!((error.index, error.errno), (1, libc::ENOENT));
    assert_eq!(error.what, "add 10 elements to services");
    let expected = ElementAt {
        family: TableFamily::Ip6,
        table: "svc".to_owned(),
        set: "services".to_owned(),
        key: keys[7].clone(),
    };
    assert_eq!(error.element, Some(expected));
    Ok(())
}

fn nothing_applied() -> Result<(), Failed> {
    let (design, mut socket) = loaded(TableFamily::Ip)?;
    let before = socket.generation()?;
    let mut batch = Batch::new();
    batch.add_elements(design.table(), "cluster-ips", [Element::new(&design.address(50))]);
    batch.delete_elements(design.table(), "cluster-ips", [Element::new(&design.address(77))]);
    assert!(socket.commit(&batch).is_err());
    assert_eq!(elements(&mut socket, design.table(), "cluster-ips")?.len(), 1);
    assert_eq!(socket.generation()?, before);
    Ok(())
}

fn all_errors() -> Result<(), Failed> {
    let (design, mut socket) = loaded(TableFamily::Ip)?;
    let mut batch = Batch::new();
    for last in 0..200 {
        batch.delete_elements(design.table(), "hairpin", [Element::new(&design.frontend(last, 1)[..8])]);
        batch.add_elements(design.table(), "cluster-ips", [Element::new(&design.address(last))]);
    }
    let error = socket.commit(&batch).expect_err("these are missing");
    let indices: Vec<usize> = error.errors().iter().map(|error| error.index).collect();
    assert_eq!(indices, (0..400).step_by(2).collect::<Vec<_>>());
    // The socket is as good as before.
    batch.clear();
    batch.add_elements(design.table(), "cluster-ips", [Element::new(&design.address(50))]);
    socket.commit(&batch)?;
    Ok(())
}

fn number_key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn chunks() -> Result<(), Failed> {
    const COUNT: u32 = 50_000;
    let (design, mut socket) = loaded(TableFamily::Ip)?;
    let limit = socket.batch_limit().unwrap_or(usize::MAX);
    let mut batch = Batch::new();
    let mut sent = 0;
    let mut number = 0;
    while number < COUNT {
        batch.clear();
        // As many as an unprivileged process may send at once; all of them otherwise.
        let most = u32::try_from(limit / 32).unwrap_or(COUNT);
        let end = COUNT.min(number.saturating_add(most));
        let mut list = batch.element_list(design.table(), "cluster-ips", ElementOperation::Add);
        for next in number..end {
            list.push(&Element::new(&number_key(0x0b00_0000 + next)));
        }
        drop(list);
        number = end;
        assert!(batch.messages() >= batch.len() / (64 << 10), "{} in {}", batch.len(), batch.messages());
        socket.commit(&batch)?;
        sent += 1;
    }
    assert!(limit < usize::MAX || sent == 1);
    let mut found: BTreeSet<Vec<u8>> = BTreeSet::new();
    socket.elements(design.table(), "cluster-ips", |element| assert!(found.insert(element.key), "twice"))?;
    assert_eq!(found.len(), COUNT as usize + 1);
    assert!((0..COUNT).all(|number| found.contains(&number_key(0x0b00_0000 + number)[..])));
    Ok(())
}

fn limit() -> Result<(), Failed> {
    let (design, mut socket) = loaded(TableFamily::Ip)?;
    let limit = socket.batch_limit();
    // An element with such a key takes 16 bytes, so that this is above any limit there is.
    let count = u32::try_from(limit.unwrap_or(4 << 20) / 16 + 1)?;
    let keys: Vec<[u8; 4]> = (0..count).map(|number| number_key(0x0b00_0000 + number)).collect();
    let mut batch = Batch::new();
    batch.add_elements(design.table(), "cluster-ips", keys.iter().map(|key| Element::new(key)));
    let Some(limit) = limit else { return Ok(socket.commit(&batch)?) };
    match socket.commit(&batch) {
        Err(CommitError::TooLarge { bytes, limit: reported }) => {
            assert!(bytes == batch.len() && reported == limit && limit < bytes);
        }
        result => return Err(format!("{result:?}").into()),
    }
    // The longest batch that fits is sent.
    let per_element = batch.len() / keys.len();
    let mut most = limit / per_element;
    while batch.len() > limit {
        batch.clear();
        batch.add_elements(design.table(), "cluster-ips", keys[..most].iter().map(|key| Element::new(key)));
        most -= batch.len().saturating_sub(limit) / per_element + 1;
    }
    assert!(batch.len() > limit - 1000, "{} of {limit}", batch.len());
    Ok(socket.commit(&batch)?)
}

fn element_removal() -> Result<(), Failed> {
    let (design, mut socket) = loaded(TableFamily::Ip6)?;
    let table = design.table();
    let mut batch = Batch::new();
    let [one, two, gone] = [1, 2, 3].map(|last| design.address(last));
    batch.add_elements(table, "cluster-ips", [Element::new(&two)]);
    batch.delete_elements(table, "cluster-ips", [Element::new(&one)]);
    batch.destroy_elements(table, "cluster-ips", [Element::new(&gone)]);
    let (first, last) = design.range(&design.frontend(1, 80));
    batch.delete_elements(table, "allowed", [Element { key_end: Some(&last), ..Element::new(&first) }]);
    batch.flush_set(table, "endpoints");
    // None, so no message.
    batch.add_elements(table, "hairpin", []);
    assert_eq!(batch.messages(), 5);
    socket.commit(&batch)?;
    let left = elements(&mut socket, table, "cluster-ips")?;
    assert_eq!(left.iter().map(|element| &element.key).collect::<Vec<_>>(), [&two]);
    assert!(elements(&mut socket, table, "allowed")?.is_empty());
    assert!(elements(&mut socket, table, "endpoints")?.is_empty());
    assert_eq!(elements(&mut socket, table, "services")?.len(), 2);
    Ok(())
}

fn removal() -> Result<(), Failed> {
    let (design, mut socket) = loaded(TableFamily::Ip)?;
    let table = design.table();
    let mut batch = Batch::new();
    batch.flush_chain(table, "nat-prerouting");
    batch.delete_chain(table, "nat-prerouting");
    batch.delete_chain(table, "pick-3");
    let error = socket.commit(&batch).expect_err("elements lead to pick-3");
    assert_eq!((error.errors()[0].index, error.errors()[0].errno), (2, libc::EBUSY));
    batch.clear();
    batch.flush_chain(table, "nat-prerouting");
    batch.delete_chain(table, "nat-prerouting");
    socket.commit(&batch)?;
    assert_eq!(socket.chains(table)?.len(), Design::chains().len() - 1);
    batch.clear();
    batch.flush_rules(table);
    batch.delete_set(table, "services");
    socket.commit(&batch)?;
    assert!(socket.rules(table)?.is_empty());
    assert_eq!(socket.sets(table)?.len(), Design::sets().len() - 1);
    batch.clear();
    batch.delete_table(table);
    socket.commit(&batch)?;
    assert!(socket.tables(TableFamily::Ip)?.is_empty());
    Ok(())
}

fn missing() -> Result<(), Failed> {
    let mut socket = Socket::open()?;
    for family in FAMILIES {
        let table = TableRef { family, name: "svc" };
        assert!(socket.tables(family)?.is_empty());
        assert!(socket.chains(table)?.is_empty());
        assert!(socket.rules(table)?.is_empty());
        assert!(socket.sets(table)?.is_empty());
        assert!(elements(&mut socket, table, "services")?.is_empty());
    }
    socket.commit(&Batch::new())?;
    let (design, mut socket) = loaded(TableFamily::Ip)?;
    // A table of the same name in the other family is another table.
    let other = TableRef { family: TableFamily::Ip6, ..design.table() };
    assert!(socket.chains(other)?.is_empty() && socket.rules(other)?.is_empty());
    assert!(elements(&mut socket, design.table(), "no-such-set")?.is_empty());
    Ok(())
}

/// A writer adds and removes an element in alternation and keeps two sets equal in every
/// generation; a reader that dumps one set never sees half of a transaction.
fn dump_under_commits() -> Result<(), Failed> {
    let (design, mut socket) = loaded(TableFamily::Ip)?;
    let keys: Vec<[u8; 4]> = (0..3000).map(|number| number_key(0x0b00_0000 + number)).collect();
    let mut batch = Batch::new();
    batch.flush_set(design.table(), "cluster-ips");
    batch.add_elements(design.table(), "cluster-ips", keys.iter().map(|key| Element::new(key)));
    socket.commit(&batch)?;
    let mut writer = Socket::open()?;
    let (commits, done) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<(), CommitError> {
            let (low, high) = keys.split_at(keys.len() / 2);
            let mut batch = Batch::new();
            while !done.load(Ordering::Relaxed) {
                // Exactly one half is there at any time but the beginning.
                let even = commits.fetch_add(1, Ordering::Relaxed) % 2 == 0;
                let (gone, come) = if even { (low, high) } else { (high, low) };
                batch.clear();
                batch.destroy_elements(
                    design.table(),
                    "cluster-ips",
                    gone.iter().map(|key| Element::new(key)),
                );
                batch.add_elements(design.table(), "cluster-ips", come.iter().map(|key| Element::new(key)));
                writer.commit(&batch)?;
                std::thread::yield_now();
            }
            Ok(())
        });
        let mut whole = 0;
        let mut result = Ok(());
        for _ in 0..500 {
            let mut count = 0;
            match socket.elements(design.table(), "cluster-ips", |_| count += 1) {
                Ok(()) if count == keys.len() / 2 || count == keys.len() => whole += 1,
                Ok(()) => result = Err(format!("{count} of {}", keys.len()).into()),
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {}
                Err(error) => result = Err(error.into()),
            }
            if result.is_err() || (whole >= 5 && commits.load(Ordering::Relaxed) >= 50) {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        writing.join().expect("the writer does not panic")?;
        assert!(whole >= 5 && commits.load(Ordering::Relaxed) >= 50, "{whole} dumps, {commits:?} commits");
        result
    })
}

fn conntrack() -> Result<(), Failed> {
    loopback_up()?;
    // Rules that look at connections make the kernel track them in this namespace.
    let (_, _socket) = loaded(TableFamily::Ip)?;
    let (_, _socket6) = loaded(TableFamily::Ip6)?;
    let mut conntrack = Conntrack::open()?;
    let cases = [
        (TableFamily::Ip, IpAddr::from(Ipv4Addr::LOCALHOST)),
        (TableFamily::Ip6, IpAddr::from(Ipv6Addr::LOCALHOST)),
    ];
    for (family, address) in cases {
        let server = UdpSocket::bind((address, 0))?;
        let other = UdpSocket::bind((address, 0))?;
        let (port, other_port) = (server.local_addr()?.port(), other.local_addr()?.port());
        let client = UdpSocket::bind((address, 0))?;
        client.send_to(b"?", (address, port))?;
        client.send_to(b"?", (address, other_port))?;

        let find = |conntrack: &mut Conntrack, destination| {
            let mut flows = Vec::new();
            conntrack.udp_flows(family, destination, |flow| flows.push(*flow)).map(|()| flows)
        };
        assert_eq!(find(&mut conntrack, None)?.len(), 2, "{family}");
        let flows = find(&mut conntrack, Some((address, port)))?;
        let [flow] = flows[..] else { return Err(format!("{flows:?}").into()) };
        assert_eq!((flow.original.source, flow.original.destination), (address, address));
        assert_eq!(
            (flow.original.source_port, flow.original.destination_port),
            (client.local_addr()?.port(), port)
        );
        assert_eq!(
            (flow.reply.source_port, flow.reply.destination_port),
            (port, client.local_addr()?.port())
        );
        assert_eq!((flow.protocol, flow.zone), (17, None));

        let between = |conntrack: &mut Conntrack, replier| {
            let mut flows = Vec::new();
            conntrack.udp_flows_between((address, port), replier, |flow| flows.push(*flow)).map(|()| flows)
        };
        assert_eq!(between(&mut conntrack, (address, port))?, [flow], "{family}");
        assert!(between(&mut conntrack, (address, other_port))?.is_empty(), "{family}");

        let another = Flow { id: flow.id ^ 1, ..flow };
        assert!(!conntrack.delete(&another)?, "{family}: deleted by addresses and ports alone");
        assert_eq!(find(&mut conntrack, Some((address, port)))?, [flow]);
        assert!(conntrack.delete(&flow)?);
        assert!(!conntrack.delete(&flow)?, "it is gone");
        assert!(find(&mut conntrack, Some((address, port)))?.is_empty());
        let left = find(&mut conntrack, None)?;
        assert_eq!(left.iter().map(|flow| flow.original.destination_port).collect::<Vec<_>>(), [other_port]);
        let elsewhere = if address.is_ipv4() { cases[1].1 } else { cases[0].1 };
        assert!(find(&mut conntrack, Some((elsewhere, port)))?.is_empty());
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "the lowest bit")]
const UP: libc::c_short = libc::IFF_UP as libc::c_short;

/// Brings the loopback interface of the namespace up.
fn loopback_up() -> std::io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = UP;
    // SAFETY: the request is a valid ifreq and lives until the call returns.
    let result = unsafe {
        libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS, &raw const request)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
