//! The source against an API server that lists, watches, and fails in all the ways that real ones do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use portolan_apiserver::{
    Authentication, Corruption, Credential, Credentials, Options as ServerOptions, Resource, Server, Starting,
};
use portolan_kubernetes::{
    Event, Observation, Options, Origin, Problem, Regarding, Source, Timing, Update, start_with,
};
use portolan_service::{Catalog, Change, Node, ObjectName};
use serde_json::{Value, json};
use tempfile::TempDir;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// In a hurry: what takes minutes in a cluster takes tenths of seconds here.
fn hurried() -> Timing {
    Timing {
        connect: Duration::from_secs(2),
        answer: Duration::from_secs(2),
        list: Duration::from_secs(1),
        quiet: Duration::from_millis(600),
        pause: Duration::from_millis(20),
        pause_at_most: Duration::from_millis(200),
        rarely: Duration::from_millis(100),
        proof: Duration::from_millis(50),
        snapshot: Duration::from_millis(500),
        grace: Duration::from_secs(2),
        ..Timing::default()
    }
}

fn service(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
                 "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    })
}

fn slice(service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|ip| json!({"addresses": [ip], "nodeName": "n1"})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": format!("{service}-1"),
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

fn node(name: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
           "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
}

fn service_cidr(name: &str, network: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
           "spec": {"cidrs": [network]}})
}

/// A server, a source that follows it, and what a proxy would know of it.
struct Cluster {
    server: Server,
    folder: TempDir,
    snapshot: Option<PathBuf>,
    proxy: Option<Proxy>,
}

struct Proxy {
    source: Source,
    updates: Receiver<Update>,
    catalog: Catalog,
    node: Option<Node>,
    networks: Option<Vec<String>>,
    problems: Vec<Problem>,
    origins: Vec<Origin>,
    triggers: Vec<ObjectName>,
    /// How many changes came.
    changes: usize,
}

impl Cluster {
    fn new(options: ServerOptions) -> Cluster {
        let server = Server::start(options).expect("a server on loopback");
        let folder = tempfile::tempdir().expect("a folder");
        Cluster { server, folder, snapshot: None, proxy: None }
    }

    /// A server with a Service, its slice and a Node.
    fn small() -> Cluster {
        let cluster = Cluster::new(ServerOptions {
            bookmark_interval: Duration::from_millis(100),
            ..ServerOptions::default()
        });
        let objects = [service("a", "10.96.0.1"), slice("a", &["10.1.0.1"]), node("n1", "192.0.2.1")];
        cluster.server.load(objects).expect("objects");
        cluster
    }

    fn follow(&mut self) -> &mut Proxy {
        self.follow_as(&Credentials::None, hurried())
    }

    fn follow_as(&mut self, credentials: &Credentials, timing: Timing) -> &mut Proxy {
        let kubeconfig = self.folder.path().join("kubeconfig");
        self.server.kubeconfig(&kubeconfig, credentials).expect("a kubeconfig");
        let (sender, updates) = channel();
        let options = Options {
            kubeconfig: Some(kubeconfig),
            master: None,
            qps: 0.0,
            burst: 0,
            node_name: "n1".into(),
            snapshot: self.snapshot.clone(),
        };
        let source = start_with(options, timing, move |update| drop(sender.send(update))).expect("a source");
        self.proxy.insert(Proxy {
            source,
            updates,
            catalog: Catalog::default(),
            node: None,
            networks: None,
            problems: Vec::new(),
            origins: Vec::new(),
            triggers: Vec::new(),
            changes: 0,
        })
    }

    /// Waits until the proxy knows exactly what the server has.
    fn agree(&mut self, situation: &str) -> &mut Proxy {
        let expected = self.server.look(|state| {
            let mut expected = BTreeMap::new();
            for object in state.objects(Resource::Services) {
                expected.insert(key(&object["metadata"]["name"]), vec![key(&object["spec"]["clusterIP"])]);
            }
            for object in state.objects(Resource::EndpointSlices) {
                let service = key(&object["metadata"]["labels"]["kubernetes.io/service-name"]);
                let addresses = object["endpoints"].as_array().into_iter().flatten();
                expected
                    .entry(service)
                    .or_default()
                    .extend(addresses.map(|endpoint| key(&endpoint["addresses"][0])));
            }
            expected
        });
        let proxy = self.proxy.as_mut().expect("a proxy that follows");
        proxy.wait(situation, |proxy| proxy.known() == expected);
        proxy
    }

    fn watched(&self, situation: &str) {
        let watched = self.server.wait_for(
            |state| [Resource::Services, Resource::EndpointSlices].iter().all(|r| state.watchers(*r) == 1),
            PATIENCE,
        );
        assert!(watched, "{situation}: Services and EndpointSlices are watched");
    }

    /// How many lists of Services and EndpointSlices were asked for, streaming or not.
    fn lists(&self) -> usize {
        self.server.look(|state| {
            let of_interest =
                |resource| matches!(resource, Some(Resource::Services | Resource::EndpointSlices));
            let requests = state.requests().iter().filter(|request| of_interest(request.resource));
            // One object is asked for to learn the server's version.
            let requests = requests.filter(|r| r.parameter("limit") != Some("1"));
            requests.filter(|r| !r.is_watch() || r.parameter("sendInitialEvents").is_some()).count()
        })
    }
}

fn key(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Proxy {
    /// Takes the next update.
    fn take(&mut self, situation: &str, until: Instant) {
        let wait = until.saturating_duration_since(Instant::now());
        let Ok(update) = self.updates.recv_timeout(wait) else {
            panic!("{situation}: no further update; known is {:?}", self.known());
        };
        assert!(update.received <= Instant::now());
        self.changes += update.changes.len();
        self.origins.push(update.origin);
        self.problems.extend(update.problems);
        self.triggers.extend(update.triggers.into_iter().map(|(service, _)| service));
        if let Some(networks) = update.service_networks {
            self.networks = Some(networks.iter().map(ToString::to_string).collect());
        }
        for change in update.changes {
            match change {
                Change::Node(node) => self.node = Some(node),
                Change::NodeRemoved(_) => self.node = None,
                change => drop(self.catalog.apply(change)),
            }
        }
    }

    fn wait(&mut self, situation: &str, holds: impl Fn(&Proxy) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            self.take(situation, until);
        }
    }

    /// The ClusterIP and endpoints of each Service.
    fn known(&self) -> BTreeMap<String, Vec<String>> {
        let services = self.catalog.services().map(|service| {
            let slices = self.catalog.slices(&service.name).iter().flat_map(|slice| &slice.endpoints);
            let addresses = service.cluster_ip.into_iter().chain(slices.map(|endpoint| endpoint.address));
            (service.name.name().to_owned(), addresses.map(|ip| ip.to_string()).collect())
        });
        services.collect()
    }

    fn resource(&self, name: &str) -> portolan_kubernetes::ResourceReport {
        let report = self.source.status().report();
        report.resources.into_iter().find(|resource| resource.name == name).expect("a resource")
    }
}

#[test]
fn everything_comes_at_once_and_then_each_change() {
    let mut cluster = Cluster::small();
    cluster.server.apply(service_cidr("kubernetes", "10.96.0.0/12")).unwrap();
    cluster.server.apply(node("n2", "192.0.2.2")).unwrap();
    cluster.follow();
    let proxy = cluster.agree("start");
    assert_eq!(proxy.origins, [Origin::Initial], "one update");
    assert_eq!(proxy.node.as_ref().map(|node| &*node.name), Some("n1"), "the own Node only, §1.1");
    assert_eq!(proxy.networks.as_deref(), Some(&["10.96.0.0/12".to_owned()][..]));
    assert_eq!(proxy.triggers, [], "nothing at the start waited for us, §9.15");

    let mut object = slice("a", &["10.1.0.1", "10.1.0.2"]);
    let now = jiff::Timestamp::try_from(SystemTime::now() + Duration::from_secs(1)).unwrap();
    object["metadata"]["annotations"] =
        json!({"endpoints.kubernetes.io/last-change-trigger-time": now.to_string()});
    cluster.server.apply(object).unwrap();
    let proxy = cluster.agree("changed slice");
    assert_eq!(proxy.origins, [Origin::Initial, Origin::Change]);
    assert_eq!(proxy.triggers, [ObjectName::new("shop", "a")], "§9.15");

    cluster.server.delete(Resource::EndpointSlices, "shop", "a-1");
    cluster.agree("removed slice");
    cluster.server.delete(Resource::Services, "shop", "a");
    cluster.agree("removed Service");
    cluster.server.apply(service_cidr("more", "10.112.0.0/12")).unwrap();
    cluster.server.delete(Resource::Nodes, "", "n1");
    let proxy = cluster.proxy.as_mut().unwrap();
    let both = ["10.96.0.0/12".to_owned(), "10.112.0.0/12".to_owned()];
    proxy.wait("Node gone, networks changed", |proxy| {
        proxy.node.is_none() && proxy.networks.as_deref() == Some(&both)
    });
    let services = proxy.resource("services");
    assert_eq!((services.received.added, services.received.deleted, services.relists), (1, 1, 0));
    assert!(proxy.source.status().age().is_some_and(|age| age < PATIENCE));
}

#[test]
fn what_is_not_for_a_service_proxy_is_not_even_sent() {
    let mut cluster = Cluster::small();
    let mut other = service("other", "10.96.0.9");
    other["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mesh"});
    let mut headless = slice("headless", &["10.1.0.9"]);
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
    cluster.server.load([other, headless, service("headless", "None")]).unwrap();
    let proxy = cluster.follow();
    proxy.wait("start", |proxy| !proxy.origins.is_empty());
    assert_eq!(proxy.known().len(), 1, "§1.1");
    assert_eq!(proxy.resource("services").received.added, 1);
    assert_eq!(proxy.resource("endpointslices").received.added, 1);
    let mut taken = service("a", "10.96.0.1");
    taken["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mesh"});
    cluster.server.apply(taken).unwrap();
    cluster.proxy.as_mut().unwrap().wait("given to another proxy, §1.5", |proxy| proxy.known().is_empty());
}

#[test]
fn without_streaming_lists_pages_are_read() {
    let mut cluster = Cluster::small();
    cluster.server.offer_streaming_lists(false);
    let many = (0..1203).map(|i| service(&format!("s{i}"), &format!("10.97.{}.{}", i / 250, i % 250 + 1)));
    cluster.server.load(many).unwrap();
    cluster.follow();
    let proxy = cluster.agree("start");
    assert_eq!(proxy.origins, [Origin::Initial], "one update");
    assert_eq!(proxy.resource("services").watch_errors, BTreeMap::new(), "a refusal to stream is no failure");
    let pages = cluster.server.look(|state| {
        let continued = |r: &&portolan_apiserver::Request| r.parameter("continue").is_some();
        state.requests().iter().filter(continued).count()
    });
    assert_eq!(pages, 2, "1204 Services are three pages");
    cluster.watched("after the list");
    cluster.server.apply(service("late", "10.98.0.1")).unwrap();
    cluster.agree("watching");
}

#[test]
fn a_forgotten_history_costs_only_the_differences() {
    for (as_status, streaming) in [(true, true), (false, true), (true, false), (false, false)] {
        let situation = format!("410 as status: {as_status}, streaming lists: {streaming}");
        let mut cluster = Cluster::small();
        cluster.server.offer_streaming_lists(streaming);
        cluster.server.gone_as_status(as_status);
        cluster.server.load([service("b", "10.96.0.2"), service("c", "10.96.0.3")]).unwrap();
        cluster.follow();
        cluster.agree(&situation);
        cluster.watched(&situation);
        let before = cluster.proxy.as_ref().unwrap().changes;
        cluster.server.down();
        cluster.server.apply(service("b", "10.96.0.22")).unwrap();
        cluster.server.delete(Resource::Services, "shop", "c");
        cluster.server.forget();
        cluster.server.up();
        let proxy = cluster.agree(&situation);
        assert_eq!(proxy.changes - before, 2, "{situation}: one changed, one gone");
        cluster.watched(&situation);
        assert_eq!(cluster.proxy.as_ref().unwrap().resource("services").relists, 1, "{situation}");
    }
}

#[test]
fn a_cut_connection_goes_on_where_it_was() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.watched("start");
    let lists = cluster.lists();
    for round in 2..5 {
        cluster.server.down();
        cluster.server.apply(service("a", &format!("10.96.0.{round}"))).unwrap();
        cluster.server.up();
        cluster.agree("after a cut");
        cluster.watched("after a cut");
    }
    assert_eq!(cluster.lists(), lists, "nothing was listed again");
}

#[test]
fn a_half_open_connection_is_noticed_and_renewed() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.watched("start");
    let lists = cluster.lists();
    cluster.server.mute_watches(None);
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    let proxy = cluster.agree("renewed");
    assert_eq!(proxy.resource("services").watch_errors.get("quiet"), Some(&1));
    assert_eq!(cluster.lists(), lists, "nothing was listed again");
}

#[test]
fn a_quiet_watch_with_bookmarks_is_left_alone() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.watched("start");
    let bookmarks =
        |cluster: &Cluster| cluster.proxy.as_ref().unwrap().resource("services").received.bookmarks;
    // Longer than a watch may be quiet: bookmarks are what comes.
    let enough = bookmarks(&cluster) + 10;
    let until = Instant::now() + PATIENCE;
    while bookmarks(&cluster) < enough && Instant::now() < until {
        std::thread::yield_now();
    }
    assert!(bookmarks(&cluster) >= enough, "bookmarks come");
    assert_eq!(cluster.proxy.as_ref().unwrap().resource("services").watch_errors, BTreeMap::new());
}

#[test]
fn what_does_not_decode_is_skipped_and_the_rest_applied() {
    for how in [Corruption::WrongType, Corruption::NoMetadata, Corruption::Syntax] {
        let situation = format!("{how:?}");
        let mut cluster = Cluster::small();
        cluster.follow();
        cluster.agree(&situation);
        cluster.watched(&situation);
        assert!(cluster.server.corrupt(Resource::Services, "shop", "a", &how));
        cluster.server.apply(service("b", "10.96.0.2")).unwrap();
        let proxy = cluster.proxy.as_mut().unwrap();
        proxy.wait(&situation, |proxy| proxy.known().contains_key("b"));
        assert_eq!(proxy.known()["a"], ["10.96.0.1", "10.1.0.1"], "{situation}: the last good state stays");
        let problem = proxy.problems.first().expect("a problem");
        assert_eq!(problem.kind, "Service", "{situation}");
        if how != Corruption::NoMetadata {
            assert_eq!(problem.name, "shop/a", "{situation}");
            assert_eq!(proxy.resource("services").undecodable, 1, "{situation}");
        }
        // A new list has it as well, and may not take it for removed.
        if how != Corruption::Syntax {
            cluster.server.down();
            cluster.server.forget();
            cluster.server.apply(service("c", "10.96.0.3")).unwrap();
            cluster.server.up();
            let proxy = cluster.proxy.as_mut().unwrap();
            proxy.wait(&situation, |proxy| proxy.known().contains_key("c"));
            assert_eq!(proxy.known()["a"], ["10.96.0.1", "10.1.0.1"], "{situation}: not taken for removed");
        }
        cluster.server.apply(service("a", "10.96.0.11")).unwrap();
        let proxy = cluster.agree(&format!("{situation}, repaired"));
        assert_eq!(proxy.resource("services").undecodable, 0, "{situation}");
        assert!(cluster.server.corrupt(Resource::Services, "shop", "b", &how));
        if how != Corruption::NoMetadata {
            cluster.server.delete(Resource::Services, "shop", "b");
            cluster.agree(&format!("{situation}, deleted"));
        }
    }
}

#[test]
fn rubbish_on_a_watch_harms_nothing() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.watched("start");
    for line in
        ["", "rubbish", "{}", r#"{"type":"ADDED"}"#, r#"{"type":"ADDED","object":null}"#, "\u{0}\u{1}"]
    {
        cluster.server.inject(Some(Resource::Services), line);
    }
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    let proxy = cluster.agree("after rubbish");
    assert!(proxy.problems.iter().all(|problem| !problem.message.is_empty()));
}

#[test]
fn a_list_that_breaks_off_removes_nothing() {
    for streaming in [true, false] {
        let mut cluster = Cluster::small();
        cluster.server.offer_streaming_lists(streaming);
        cluster.server.load((2..50).map(|i| service(&format!("s{i}"), &format!("10.96.0.{i}")))).unwrap();
        cluster.follow();
        cluster.agree("start");
        cluster.watched("start");
        let before = cluster.proxy.as_ref().unwrap().changes;
        cluster.server.break_next_list(Resource::Services, 3);
        cluster.server.down();
        cluster.server.forget();
        cluster.server.apply(service("new", "10.96.1.1")).unwrap();
        cluster.server.up();
        let proxy = cluster.agree("after a list that broke off");
        assert_eq!(proxy.changes - before, 1, "streaming: {streaming}");
    }
}

#[test]
fn a_server_that_comes_back_from_a_backup_is_believed() {
    for streaming in [true, false] {
        let situation = format!("streaming: {streaming}");
        let mut cluster = Cluster::small();
        cluster.server.offer_streaming_lists(streaming);
        for i in 1..30 {
            cluster.server.apply(service("b", &format!("10.96.1.{i}"))).unwrap();
        }
        cluster.follow();
        cluster.agree(&situation);
        cluster.watched(&situation);
        cluster.server.refuse_connections(true);
        cluster.server.restore(2);
        cluster.server.apply(service("b", "10.96.2.1")).unwrap();
        cluster.server.delete(Resource::EndpointSlices, "shop", "a-1");
        cluster.server.refuse_connections(false);
        cluster.agree(&situation);
        cluster.watched(&situation);
        cluster.server.apply(service("c", "10.96.2.2")).unwrap();
        cluster.agree(&situation);
    }
}

/// What a restart of the server may cost: as much as it takes to notice, and what a busy machine
/// takes.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn a_server_that_restarts_is_followed_as_soon_as_it_is_ready() {
    for starting in [Starting::Forbidden, Starting::Initializing] {
        let situation = format!("{starting:?}");
        let mut cluster = Cluster::small();
        cluster.server.apply(service_cidr("kubernetes", "10.96.0.0/12")).unwrap();
        cluster.follow_as(&Credentials::None, Timing::default());
        cluster.agree(&situation);
        cluster.watched(&situation);
        cluster.server.down();
        // An outage that is long enough for pauses to grow.
        let failures = |name| -> u64 {
            let proxy = cluster.proxy.as_ref().unwrap();
            proxy.resource(name).watch_errors.get("unreachable").copied().unwrap_or_default()
        };
        let until = Instant::now() + PATIENCE;
        while failures("services") + failures("endpointslices") < 8 {
            assert!(Instant::now() < until, "{situation}: attempts are made");
            std::thread::yield_now();
        }
        cluster.server.apply(service("a", "10.96.0.2")).unwrap();
        cluster.server.apply(slice("a", &["10.1.0.2"])).unwrap();
        cluster.server.apply(service_cidr("more", "10.112.0.0/12")).unwrap();
        let before = cluster.server.look(|state| state.requests().len());
        cluster.server.boot(starting);
        let booted = Instant::now();
        let asked = cluster.server.wait_for(|state| state.requests().len() >= before + 4, PATIENCE);
        assert!(asked, "{situation}: asked while it starts");
        assert!(
            booted.elapsed() > Duration::from_secs(1),
            "{situation}: four times in {:?}",
            booted.elapsed()
        );
        cluster.server.ready();
        let ready = Instant::now();
        let proxy = cluster.agree(&situation);
        proxy.wait(&situation, |proxy| proxy.networks.as_ref().is_some_and(|networks| networks.len() == 2));
        let behind = ready.elapsed();
        assert!(behind < SOON, "{situation}: {behind:?} behind the server");
    }
}

#[test]
fn a_refusal_of_a_moment_is_no_lasting_one() {
    let mut cluster = Cluster::small();
    cluster.server.apply(service_cidr("kubernetes", "10.96.0.0/12")).unwrap();
    cluster.server.answer_next(1, Some(Resource::ServiceCidrs), 403, None);
    cluster.follow_as(&Credentials::None, Timing::default());
    let begun = Instant::now();
    let proxy = cluster.agree("start");
    proxy.wait("ServiceCIDRs", |proxy| proxy.networks.is_some());
    assert!(begun.elapsed() < SOON, "asked again after {:?}", begun.elapsed());
}

#[test]
fn a_list_that_must_replace_a_watch_is_made_at_once() {
    let mut cluster = Cluster::small();
    cluster.follow_as(&Credentials::None, Timing::default());
    cluster.agree("start");
    cluster.watched("start");
    let lists = cluster.lists();
    cluster.server.forget();
    cluster.server.fail_watches(None, 410, "too old resource version");
    let begun = Instant::now();
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    cluster.agree("listed again");
    assert!(begun.elapsed() < Duration::from_secs(1), "after {:?}", begun.elapsed());
    assert!(cluster.lists() > lists, "it did list");
}

#[test]
fn a_history_that_goes_back_is_noticed_soon() {
    for streaming in [true, false] {
        let situation = format!("streaming: {streaming}");
        // Bookmarks as rare as real ones, and patience as long as in a cluster.
        let mut cluster =
            Cluster::new(ServerOptions { streaming_lists: streaming, ..ServerOptions::default() });
        cluster.server.load([service("a", "10.96.0.1"), slice("a", &["10.1.0.1"])]).unwrap();
        for i in 1..30 {
            cluster.server.apply(service("b", &format!("10.96.1.{i}"))).unwrap();
        }
        cluster.follow_as(&Credentials::None, Timing::default());
        cluster.agree(&situation);
        cluster.watched(&situation);
        cluster.server.down();
        cluster.server.restore(2);
        cluster.server.apply(service("b", "10.96.2.1")).unwrap();
        cluster.server.delete(Resource::EndpointSlices, "shop", "a-1");
        cluster.server.up();
        let back = Instant::now();
        let proxy = cluster.agree(&situation);
        assert!(back.elapsed() < Duration::from_secs(10), "{situation}: noticed after {:?}", back.elapsed());
        assert_eq!(proxy.resource("services").watch_errors.get("went_back"), Some(&1), "{situation}");
        cluster.server.apply(service("c", "10.96.2.2")).unwrap();
        cluster.agree(&situation);
    }
}

#[test]
fn that_a_watch_is_accepted_makes_the_view_no_younger() {
    let mut cluster = Cluster::new(ServerOptions::default());
    cluster.server.load([service("a", "10.96.0.1"), slice("a", &["10.1.0.1"])]).unwrap();
    let timing = Timing { proof: Duration::from_hours(1), quiet: Duration::from_hours(1), ..hurried() };
    cluster.follow_as(&Credentials::None, timing);
    cluster.agree("start");
    cluster.watched("start");
    let known = Instant::now();
    let watches = |state: &portolan_apiserver::State| {
        let answered = state.requests().iter().filter(|r| r.is_watch() && r.code == Some(200));
        answered.filter(|r| r.resource == Some(Resource::Services)).count()
    };
    for round in 0..3 {
        let before = cluster.server.look(watches);
        cluster.server.cut();
        assert!(cluster.server.wait_for(|state| watches(state) > before, PATIENCE), "watched again");
        cluster.watched("again");
        let age = cluster.proxy.as_ref().unwrap().source.status().age().expect("an age");
        assert!(age >= known.elapsed(), "round {round}: {age:?} of {:?}", known.elapsed());
    }
    // An event is a proof.
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    cluster.server.apply(slice("b", &["10.1.0.2"])).unwrap();
    let changed = Instant::now();
    let proxy = cluster.agree("changed");
    assert!(proxy.source.status().age().is_some_and(|age| age <= changed.elapsed()), "younger again");
}

#[test]
fn what_nobody_reads_is_not_asked_for() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.server.look(|state| {
        for request in state.requests().iter().filter(|request| request.method == "GET") {
            // KEP-5958, and for servers without it the media type alone.
            let wanted = "application/json;drop=metadata.managedFields,application/json";
            assert_eq!(request.accept, wanted, "{}", request.path);
        }
    });
}

#[test]
fn a_server_that_is_gone_is_waited_for() {
    let mut cluster = Cluster::small();
    cluster.server.down();
    cluster.follow();
    let proxy = cluster.proxy.as_ref().unwrap();
    let until = Instant::now() + PATIENCE;
    while proxy.resource("services").watch_errors.get("unreachable").is_none_or(|count| *count < 3) {
        assert!(Instant::now() < until, "attempts are made");
        std::thread::yield_now();
    }
    assert!(proxy.updates.try_recv().is_err(), "nothing is known, nothing is said");
    assert_eq!(proxy.source.status().age(), None);
    cluster.server.up();
    let proxy = cluster.agree("at last");
    assert_eq!(proxy.origins, [Origin::Initial]);
}

/// A cluster with two Services whose state is on disk, and its proxy ended.
fn remembered() -> Cluster {
    let mut cluster = Cluster::small();
    cluster.server.load([service("b", "10.96.0.2"), service_cidr("kubernetes", "10.96.0.0/12")]).unwrap();
    let file = cluster.folder.path().join("state");
    cluster.snapshot = Some(file.clone());
    cluster.follow();
    cluster.agree("start");
    // Two Services, a slice, a Node and a ServiceCIDR; the journal says when each is in the file.
    let until = Instant::now() + PATIENCE;
    while portolan_kubernetes::snapshot::read(&file, |_| {})
        .ok()
        .flatten()
        .is_none_or(|loaded| loaded.objects < 5)
    {
        assert!(Instant::now() < until, "the state is written");
        std::thread::yield_now();
    }
    cluster.proxy.take();
    cluster.server.down();
    cluster
}

#[test]
fn a_server_that_is_gone_at_the_start_is_replaced_by_the_snapshot() {
    let mut cluster = remembered();
    let proxy = cluster.follow();
    proxy.wait("from the snapshot", |proxy| !proxy.origins.is_empty());
    assert!(matches!(proxy.origins[..], [Origin::Snapshot { taken }] if taken <= SystemTime::now()));
    assert_eq!(proxy.known()["a"], ["10.96.0.1", "10.1.0.1"]);
    assert_eq!(proxy.known()["b"], ["10.96.0.2"]);
    assert_eq!(proxy.node.as_ref().map(|node| &*node.name), Some("n1"));
    assert!(proxy.networks.is_some(), "ServiceCIDRs, too");
    let report = proxy.source.status().report();
    assert!(report.snapshot.is_some() && report.age.is_none(), "says that it did");
    let before = proxy.changes;

    cluster.server.delete(Resource::Services, "shop", "b");
    cluster.server.apply(service("c", "10.96.0.3")).unwrap();
    cluster.server.up();
    let proxy = cluster.agree("the server is back");
    assert_eq!(proxy.changes - before, 2, "the difference to the snapshot");
    assert_eq!(proxy.origins.get(1), Some(&Origin::Initial));
    assert_eq!(proxy.source.status().report().snapshot, None);
}

/// Objects of format 1 lacked hostnames and zones: the same version says more when the server is back.
#[test]
fn an_older_snapshot_is_used_and_then_completed() {
    let mut cluster = remembered();
    let file = cluster.snapshot.clone().expect("a snapshot");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8..12].copy_from_slice(&1_u32.to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let proxy = cluster.follow();
    proxy.wait("from the snapshot", |proxy| !proxy.origins.is_empty());
    assert!(matches!(proxy.origins[..], [Origin::Snapshot { .. }]));
    assert_eq!(proxy.known()["a"], ["10.96.0.1", "10.1.0.1"]);
    let before = proxy.changes;
    cluster.server.up();
    let proxy = cluster.proxy.as_mut().expect("a proxy that follows");
    proxy.wait("the server is back", |proxy| proxy.origins.len() > 1);
    assert_eq!(
        proxy.changes - before,
        4,
        "two Services, a slice and a Node, though their versions are the same"
    );
}

#[test]
fn a_server_that_answers_is_better_than_the_snapshot() {
    let mut cluster = remembered();
    cluster.server.delete(Resource::Services, "shop", "b");
    cluster.server.up();
    cluster.follow();
    let proxy = cluster.agree("start");
    assert_eq!(proxy.origins, [Origin::Initial]);
}

#[test]
fn half_a_server_and_the_snapshot_make_a_whole() {
    let mut cluster = remembered();
    cluster.server.delete(Resource::Services, "shop", "b");
    cluster.server.answer_always(Resource::EndpointSlices, Some(500));
    cluster.server.up();
    let proxy = cluster.follow();
    proxy.wait("Services as they are, endpoints as they were", |proxy| !proxy.origins.is_empty());
    assert_eq!(
        proxy.known(),
        BTreeMap::from([("a".to_owned(), vec!["10.96.0.1".to_owned(), "10.1.0.1".to_owned()])])
    );
    cluster.server.apply(slice("a", &["10.1.0.2"])).unwrap();
    cluster.server.answer_always(Resource::EndpointSlices, None);
    cluster.agree("whole again");
}

#[test]
fn refusals_are_survived() {
    for (code, retry_after) in [(429, Some(1)), (503, Some(0)), (500, None), (401, None), (403, None)] {
        let situation = format!("{code}");
        let mut cluster = Cluster::small();
        cluster.server.answer_next(6, None, code, retry_after);
        let begun = Instant::now();
        cluster.follow();
        let proxy = cluster.agree(&situation);
        assert_eq!(proxy.origins, [Origin::Initial], "{situation}");
        let refused = Arc::new(AtomicUsize::new(0));
        let count = refused.clone();
        proxy.source.status().on_observation(move |observation| {
            let refused =
                matches!(observation, Observation::Request { code: seen, .. } if *seen == Some(code));
            count.fetch_add(usize::from(refused), Ordering::Relaxed);
        });
        assert_eq!(refused.load(Ordering::Relaxed), 6, "{situation}: told by code");
        if retry_after == Some(1) {
            assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After is honoured");
        }
        cluster.server.fail_watches(Some(Resource::Services), 500, "storage is gone");
        cluster.server.apply(service("b", "10.96.0.2")).unwrap();
        cluster.agree(&situation);
    }
}

#[test]
fn an_api_server_without_service_cidrs_is_good_enough() {
    for code in [404, 403] {
        let mut cluster = Cluster::small();
        cluster.server.answer_always(Resource::ServiceCidrs, Some(code));
        cluster.follow();
        let proxy = cluster.agree("start");
        assert_eq!(proxy.networks, None, "{code}");
        assert_eq!(proxy.origins, [Origin::Initial], "{code}");
        cluster.server.apply(service_cidr("kubernetes", "10.96.0.0/12")).unwrap();
        cluster.server.answer_always(Resource::ServiceCidrs, None);
        cluster.proxy.as_mut().unwrap().wait("served later", |proxy| proxy.networks.is_some());
    }
}

#[test]
fn one_resource_that_fails_does_not_stop_the_others() {
    let mut cluster = Cluster::small();
    cluster.server.answer_always(Resource::Nodes, Some(403));
    cluster.follow();
    cluster.agree("without the own Node");
    cluster.server.answer_always(Resource::EndpointSlices, Some(500));
    cluster.server.cut();
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    cluster.agree("while EndpointSlices fail");
    cluster.server.answer_always(Resource::EndpointSlices, None);
    cluster.server.answer_always(Resource::Nodes, None);
    cluster.server.apply(slice("b", &["10.1.0.7"])).unwrap();
    cluster.agree("again");
    cluster.proxy.as_mut().unwrap().wait("the own Node", |proxy| proxy.node.is_some());
}

#[test]
fn credentials_are_those_of_the_kubeconfig() {
    let exec = |script: &str| Credentials::Exec {
        command: "/bin/sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
    };
    let print = r#"echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"x"}}'"#;
    let tokens = || Authentication::Tokens(vec!["x".to_owned()]);
    let table = [
        ("token", Credentials::Token("x".to_owned()), tokens()),
        ("client certificate", Credentials::ClientCertificate, Authentication::ClientCertificate),
        ("program", exec(print), tokens()),
    ];
    for (situation, credentials, authentication) in table {
        let mut cluster = Cluster::small();
        cluster.server.authenticate(authentication);
        cluster.follow_as(&credentials, hurried());
        cluster.agree(situation);
    }
}

#[test]
fn a_program_that_gives_no_credentials_yet_is_asked_again() {
    let mut cluster = Cluster::small();
    cluster.server.authenticate(Authentication::Tokens(vec!["x".to_owned()]));
    let flag = cluster.folder.path().join("may-log-in");
    let print = r#"echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"x"}}'"#;
    let script = format!("test -e {} && {print}", flag.display());
    let credentials =
        Credentials::Exec { command: "/bin/sh".to_owned(), args: vec!["-c".to_owned(), script] };
    let proxy = cluster.follow_as(&credentials, hurried());
    let until = Instant::now() + PATIENCE;
    while !proxy.resource("services").watch_errors.contains_key("credentials") {
        assert!(Instant::now() < until, "attempts are made");
        std::thread::yield_now();
    }
    std::fs::write(&flag, "").unwrap();
    cluster.agree("logged in");
}

#[test]
fn a_token_that_is_replaced_is_read_again() {
    let mut cluster = Cluster::small();
    let file = cluster.folder.path().join("token");
    // As editors and `echo` write it.
    std::fs::write(&file, "old\n").unwrap();
    cluster.server.authenticate(Authentication::Tokens(vec!["old".to_owned()]));
    cluster.follow_as(&Credentials::TokenFile(file.clone()), hurried());
    cluster.agree("old token");
    cluster.watched("old token");
    cluster.server.authenticate(Authentication::Tokens(vec!["new".to_owned()]));
    cluster.server.down();
    cluster.server.up();
    let refused = |state: &portolan_apiserver::State| state.requests().iter().any(|r| r.code == Some(401));
    assert!(cluster.server.wait_for(refused, PATIENCE), "the old token is refused");
    std::fs::write(&file, "new").unwrap();
    cluster.server.apply(service("b", "10.96.0.2")).unwrap();
    cluster.agree("new token");
    let token = Credential::Token("new".to_owned());
    assert!(cluster.server.look(|state| state.requests().iter().any(|r| r.credential == token)));
}

#[test]
fn a_burst_is_few_updates() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    cluster.watched("start");
    cluster.server.load((2..200).map(|i| service(&format!("s{i}"), &format!("10.96.0.{i}")))).unwrap();
    let proxy = cluster.agree("burst");
    assert!(proxy.origins.len() < 20, "198 changes came in {} updates", proxy.origins.len() - 1);
}

#[test]
fn events_are_published_and_repeats_are_a_series() {
    let mut cluster = Cluster::small();
    cluster.follow();
    cluster.agree("start");
    let event = Event {
        regarding: Regarding::Service(ObjectName::new("shop", "a")),
        warning: true,
        reason: "FailedToStartServiceHealthcheck",
        action: "Listen",
        note: "node n1 failed to start healthcheck".to_owned(),
    };
    let source = &cluster.proxy.as_ref().unwrap().source;
    source.publish(event.clone());
    source.publish(event);
    let series = |state: &portolan_apiserver::State| {
        state.objects(Resource::Events).iter().any(|event| event["series"]["count"] == 2)
    };
    assert!(cluster.server.wait_for(series, PATIENCE), "one Event, twice");
    let events = cluster.server.look(|state| state.objects(Resource::Events));
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["regarding"]["name"], "a");
    assert_eq!(events[0]["reportingController"], "kube-proxy");
}

#[test]
fn unusable_configurations_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let cluster = |user: &str| {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{server: 'https://192.0.2.1:6443'}}}}], users: [{{name: u, user: {user}}}]}}"
        )
    };
    // In YAML as in JSON the last of two values of a key may win, or be an error: the server is
    // named once.
    let on = |field: &str| {
        let server = if field.starts_with("server") { "" } else { ", server: 'https://192.0.2.1:6443'" };
        format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{{field}{server}}}}}]}}"
        )
    };
    let empty = folder.path().join("no-token").display().to_string();
    std::fs::write(&empty, "\n").unwrap();
    let table = [
        ("missing file", Some(folder.path().join("none")), None, "none"),
        ("not YAML", Some(write("bad", "{")), None, "bad"),
        ("no context", Some(write("empty", "{apiVersion: v1, kind: Config}")), None, "context"),
        (
            "missing token file",
            Some(write("token", &cluster("{tokenFile: /nonexistent}"))),
            None,
            "/nonexistent",
        ),
        (
            "no such program",
            Some(write(
                "exec",
                &cluster(
                    "{exec: {apiVersion: client.authentication.k8s.io/v1, command: /nonexistent, interactiveMode: Never}}",
                ),
            )),
            None,
            "/nonexistent cannot be run",
        ),
        ("no URL", None, Some("not a url".to_owned()), "https://HOST:PORT"),
        ("a port of the URL", None, Some("https://192.0.2.1:0".to_owned()), "not in 1-65535"),
        (
            "a token of two words",
            Some(write("words", &cluster("{token: 'two words'}"))),
            None,
            r#"user "u": token: the token has a character"#,
        ),
        (
            "an empty token file",
            Some(write("empty-token", &cluster(&format!("{{tokenFile: {empty}}}")))),
            None,
            "empty",
        ),
        (
            "a provider that is gone",
            Some(write("gcp", &cluster("{auth-provider: {name: gcp}}"))),
            None,
            r#"user "u": auth-provider: "gcp" cannot be used"#,
        ),
        (
            "a program without a version",
            Some(write("version", &cluster("{exec: {command: /bin/true}}"))),
            None,
            r#"user "u": exec: apiVersion"#,
        ),
        (
            "too many groups",
            Some(write("groups", &cluster(&format!("{{as: a, as-groups: [{}]}}", "g, ".repeat(257))))),
            None,
            r#"user "u": as-groups: there are 257"#,
        ),
        (
            "a server's name",
            Some(write("name", &on("tls-server-name: 'a b'"))),
            None,
            r#"cluster "c": tls-server-name"#,
        ),
        (
            "a proxy",
            Some(write("proxy", &on("proxy-url: 'http://192.0.2.9:3128'"))),
            None,
            r#"cluster "c": proxy-url"#,
        ),
        (
            "another scheme",
            Some(write("scheme", &on("server: 'ftp://192.0.2.1'"))),
            None,
            r#"cluster "c": server"#,
        ),
        (
            "no server",
            Some(write("server", &on("server: ''"))),
            None,
            r#"cluster "c": server: "": it is empty"#,
        ),
    ];
    for (situation, kubeconfig, master, expected) in table {
        let node_name: Arc<str> = "n1".into();
        let options = Options { kubeconfig, master, qps: 5.0, burst: 10, node_name, snapshot: None };
        let error = start_with(options, hurried(), |_| {}).expect_err(situation).to_string();
        assert!(error.contains(expected), "{situation}: {error}");
    }
    let address: SocketAddr = ([127, 0, 0, 1], 1).into();
    let options = Options {
        kubeconfig: None,
        master: Some(address.to_string()),
        qps: 5.0,
        burst: 10,
        node_name: "n1".into(),
        snapshot: None,
    };
    start_with(options, hurried(), |_| {}).expect("an address where nothing listens is no error");
}
