//! Corefiles as people have them, and what becomes of each option.

use std::time::Duration;

use portolan_corefile::{
    Action, Class, Corefile, Errors, Host, Imported, Listen, NoSurroundings, Refresh, Selection, ServerBlock,
    Surroundings, Template, Tls, To, kubeadm, parse,
};
use portolan_names::{Fallthrough, LabelValue, NamespaceFilter, PodMode, Settings};

/// A few files and variables.
struct Given;

impl Surroundings for Given {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "PORT").then(|| "5353".to_owned())
    }

    fn import(&self, pattern: &str, from: &str) -> Result<Vec<Imported>, String> {
        let file = |name: &str, text: &str| Imported { name: name.to_owned(), text: text.to_owned() };
        match pattern {
            "custom/*.override" => {
                assert_eq!(from, "Corefile");
                Ok(vec![file("custom/a.override", "log"), file("custom/b.override", "errors\nrewrite stop")])
            }
            "custom/*.server" => Ok(Vec::new()),
            "again" => Ok(vec![file("again", "import again")]),
            "twice" => Ok(vec![file("twice", "import twice\nimport twice\nlog")]),
            _ => Err("there is no such file: write its text in place of this line".to_owned()),
        }
    }
}

fn read(text: &str) -> Result<Corefile, Errors> {
    parse("Corefile", text, 53, &Given)
}

/// The only server block of `.:53` with these lines.
fn block(lines: &str) -> ServerBlock {
    let mut corefile = read(&format!(".:53 {{\n{lines}\n}}\n")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(corefile.blocks.len(), 1);
    corefile.blocks.remove(0)
}

fn names(lines: &str) -> Settings {
    block(&format!("kubernetes cluster.local {{\n{lines}\n}}")).kubernetes.expect("it is there").names
}

/// What kubeadm installed with each version of Kubernetes, and what is noticed about it.
const KUBEADM: [(&str, &str, &[&str]); 5] = [
    (
        "1.14",
        "health
        kubernetes cluster.local in-addr.arpa ip6.arpa {
           pods insecure
           upstream
           fallthrough in-addr.arpa ip6.arpa
        }
        prometheus :9153
        forward . /etc/resolv.conf
        cache 30",
        &["Corefile:5: kubernetes: upstream: has no effect"],
    ),
    (
        "1.16",
        "health
        ready
        kubernetes cluster.local in-addr.arpa ip6.arpa {
           pods insecure
           fallthrough in-addr.arpa ip6.arpa
           ttl 30
        }
        prometheus :9153
        forward . /etc/resolv.conf
        cache 30",
        &[],
    ),
    (
        "1.18",
        "health {
           lameduck 5s
        }
        ready
        kubernetes cluster.local in-addr.arpa ip6.arpa {
           pods insecure
           fallthrough in-addr.arpa ip6.arpa
           ttl 30
        }
        prometheus :9153
        forward . /etc/resolv.conf
        cache 30",
        &[],
    ),
    (
        "1.19",
        "health {
           lameduck 5s
        }
        ready
        kubernetes cluster.local in-addr.arpa ip6.arpa {
           pods insecure
           fallthrough in-addr.arpa ip6.arpa
           ttl 30
        }
        prometheus :9153
        forward . /etc/resolv.conf {
           max_concurrent 1000
        }
        cache 30",
        &[],
    ),
    (
        "1.33",
        "health {
           lameduck 5s
        }
        ready
        kubernetes cluster.local in-addr.arpa ip6.arpa {
           pods insecure
           fallthrough in-addr.arpa ip6.arpa
           ttl 30
        }
        prometheus :9153
        forward . /etc/resolv.conf {
           max_concurrent 1000
        }
        cache 30 {
           disable success cluster.local
           disable denial cluster.local
        }",
        &[],
    ),
];

#[test]
fn what_kubeadm_installs_is_read_as_it_stands() {
    for (version, lines, notices) in KUBEADM {
        let text = format!(".:53 {{\n{lines}\nerrors\nloop\nreload\nloadbalance\n}}\n");
        let corefile = parse("Corefile", &text, 53, &NoSurroundings)
            .unwrap_or_else(|errors| panic!("{version}: {errors}"));
        let found: Vec<String> = corefile.notices.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), notices.len(), "{version}: {found:?}");
        assert!(
            found.iter().zip(notices).all(|(found, notice)| found.starts_with(notice)),
            "{version}: {found:?}"
        );
        let [block] = &*corefile.blocks else { panic!("{version}: {:?}", corefile.blocks) };
        let names = &block.kubernetes.as_ref().expect("it is there").names;
        assert_eq!(names.zones, ["cluster.local", "in-addr.arpa", "ip6.arpa"], "{version}");
        assert_eq!(names.pods, PodMode::Insecure, "{version}");
        assert_eq!(names.ttl, if version == "1.14" { 5 } else { 30 }, "{version}");
        let reverse = ["in-addr.arpa", "ip6.arpa"].map(str::to_owned).to_vec();
        assert_eq!(names.fallthrough, Fallthrough::Domains(reverse), "{version}");
        assert_eq!(block.prometheus, Some(Listen { address: None, port: 9153 }), "{version}");
        assert_eq!(block.forward[0].to, [To::File("/etc/resolv.conf".to_owned())], "{version}");
        let concurrent = if version < "1.19" { 0 } else { 1000 };
        assert_eq!(block.forward[0].max_concurrent, concurrent, "{version}");
        let cache = block.cache.as_ref().expect("it is there");
        assert_eq!((cache.success.ttl_max, cache.denial.ttl_max), (30, 30), "{version}");
        assert!(block.errors && block.loop_detection && block.reload.is_some(), "{version}");
    }
}

#[test]
fn the_default_is_what_kubeadm_installs_today() {
    let corefile = parse("default", &kubeadm("example.test", 1053), 53, &NoSurroundings).unwrap();
    assert!(corefile.notices.is_empty());
    let block = &corefile.blocks[0];
    assert_eq!(block.kubernetes.as_ref().unwrap().names.zones[0], "example.test");
    assert_eq!(block.zones[0].port, 1053);
    assert_eq!(block.health.unwrap().lameduck, Duration::from_secs(5));
    let cache = block.cache.as_ref().unwrap();
    assert_eq!(cache.success.disabled, ["example.test"]);
}

#[test]
fn server_blocks_have_domains_and_ports() {
    for (name, text, expected) in [
        ("the root", ".:53 {\n}", &[(".", 53)][..]),
        ("no port", "example.org {\n}", &[("example.org", 53)]),
        ("a protocol", "dns://Example.org.:5353 {\n}", &[("example.org", 5353)]),
        ("several", "a:1053 b, \n c {\n}", &[("a", 1053), ("b", 53), ("c", 53)]),
        ("a network", "10.0.0.0/8:5353 {\n}", &[("10.in-addr.arpa", 5353)]),
        (
            "a network within a label",
            "10.96.0.0/15 {\n}",
            &[("96.10.in-addr.arpa", 53), ("97.10.in-addr.arpa", 53)],
        ),
        ("an IPv6 network", "fd00::/8 {\n}", &[("d.f.ip6.arpa", 53)]),
        ("a variable", ".:{$PORT} {\n}", &[(".", 5353)]),
        ("another form of variables", ".:{%PORT%} {\n}", &[(".", 5353)]),
        ("no braces", ".:53\nerrors\nlog", &[(".", 53)]),
        ("the brace of a plugin on the next line", ".\n{\nhealth\n{\nlameduck 1s\n}\n}", &[(".", 53)]),
        ("two blocks", "a {\n}\nb {\n}", &[("a", 53), ("b", 53)]),
        ("one domain on two ports", "a:53 a:54 {\n}", &[("a", 53), ("a", 54)]),
        ("one domain on two addresses", "a {\nbind 127.0.0.1\n}\na {\nbind ::1\n}", &[("a", 53), ("a", 53)]),
        ("an import of nothing", "import custom/*.server\n. {\n}", &[(".", 53)]),
    ] {
        let corefile = read(text).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        let zones = corefile.blocks.iter().flat_map(|block| &block.zones);
        let found: Vec<(&str, u16)> = zones.map(|zone| (&*zone.domain, zone.port)).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn every_option_of_kubernetes_that_changes_answers_is_taken() {
    let defaults = Settings { zones: vec!["cluster.local".to_owned()], ..Settings::default() };
    assert_eq!(names(""), defaults);
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = defaults.clone();
        change(&mut settings);
        settings
    };
    for (line, expected) in [
        ("pods disabled", with(&|_| {})),
        ("pods insecure", with(&|names| names.pods = PodMode::Insecure)),
        ("pods verified", with(&|names| names.pods = PodMode::Verified)),
        ("endpoint_pod_names", with(&|names| names.endpoint_pod_names = true)),
        ("noendpoints", with(&|names| names.endpoints = false)),
        ("zonal", with(&|names| names.zonal = true)),
        ("ignore empty_service", with(&|names| names.ignore_empty_service = true)),
        ("ttl 0", with(&|names| names.ttl = 0)),
        ("ttl 3600", with(&|names| names.ttl = 3600)),
        ("fallthrough", with(&|names| names.fallthrough = Fallthrough::Everything)),
        (
            "fallthrough 10.0.0.0/8 Example.org.",
            with(&|names| {
                let domains = ["10.in-addr.arpa", "example.org"].map(str::to_owned).to_vec();
                names.fallthrough = Fallthrough::Domains(domains);
            }),
        ),
        (
            "namespaces a b\nnamespaces c",
            with(&|names| {
                names.namespaces = NamespaceFilter::Listed(["a", "b", "c"].map(str::to_owned).to_vec());
            }),
        ),
    ] {
        assert_eq!(names(line), expected, "{line}");
    }
    let NamespaceFilter::Labelled(labels) = names("namespace_labels team in (red, blue),!old").namespaces
    else {
        panic!("labels")
    };
    assert_eq!(labels[1].value, LabelValue::Absent);
    assert_eq!(labels[0].value, LabelValue::In(vec!["red".to_owned(), "blue".to_owned()]));
}

#[test]
fn names_of_services_have_the_server_blocks_domain_unless_said_otherwise() {
    let corefile = read("cluster.local 10.0.0.0/8 {\nkubernetes\n}").unwrap();
    let names = &corefile.blocks[0].kubernetes.as_ref().unwrap().names;
    assert_eq!(names.zones, ["cluster.local", "10.in-addr.arpa"]);
}

#[test]
fn the_api_server_may_be_named() {
    let found = block(
        "kubernetes cluster.local {
            endpoint https://192.0.2.1:6443
            tls cert key ca
            kubeconfig /k other
            apiserver_qps 5
            startup_timeout 1s
        }",
    );
    let api = found.kubernetes.unwrap().api;
    assert_eq!(api.endpoint.unwrap().1, "https://192.0.2.1:6443");
    assert_eq!(api.tls.unwrap().1, ["cert", "key", "ca"].map(str::to_owned));
    let kubeconfig = api.kubeconfig.unwrap();
    assert_eq!((&*kubeconfig.file, kubeconfig.context.as_deref()), ("/k", Some("other")));
    assert_eq!(kubeconfig.place.to_string(), "Corefile:5");
}

#[test]
fn options_of_forward() {
    let found = block(
        "forward . 192.0.2.1 tls://192.0.2.2 /etc/resolv.conf {
            except a.example 10.0.0.0/8
            force_tcp
            prefer_udp
            expire 1m
            read_timeout 1s
            max_fails 0
            max_connect_attempts 3
            tls cert key ca
            tls_servername dns.example
            policy sequential
            health_check 5s no_rec domain example.org
            max_concurrent 7
            failover refused SERVFAIL
            failfast_all_unhealthy_upstreams
        }
        forward example.org 192.0.2.3",
    );
    let [first, second] = &*found.forward else { panic!("{:?}", found.forward) };
    assert_eq!(first.to.len(), 3);
    assert_eq!(first.except, ["a.example", "10.in-addr.arpa"]);
    assert!(first.force_tcp && first.prefer_udp && first.fail_fast);
    assert_eq!(first.expire, Duration::from_mins(1));
    assert_eq!(first.read_timeout, Duration::from_secs(1));
    assert_eq!((first.max_fails, first.max_connect_attempts, first.max_concurrent), (0, Some(3), 7));
    let own = Some(("cert".to_owned(), "key".to_owned()));
    assert_eq!(first.tls, Tls { own, authority: Some("ca".to_owned()) });
    assert_eq!(first.tls_server_name.as_deref(), Some("dns.example"));
    assert_eq!(first.policy, Selection::Sequential);
    assert_eq!((first.health_check.recursion, &*first.health_check.domain), (false, "example.org"));
    assert_eq!(first.failover, [5, 2]);
    assert_eq!(second.from, ["example.org"]);
    assert_eq!((second.max_fails, second.policy), (2, Selection::Random));
}

#[test]
fn options_of_cache() {
    let cache = |lines: &str| block(lines).cache.unwrap();
    let plain = cache("cache");
    assert_eq!((plain.success.ttl_max, plain.denial.ttl_max, plain.success.ttl_min), (3600, 1800, 5));
    assert_eq!(
        (plain.servfail, plain.keep_ttl, plain.stale, plain.prefetch),
        (Duration::from_secs(5), false, None, None)
    );
    assert_eq!(cache("cache example.org").domains, ["example.org"]);
    let full = cache(
        "cache 60 example.org {
            success 5000 30 10
            denial 2500 15
            prefetch 10 1m 20%
            serve_stale 30m verify 100ms
            servfail 0
            disable denial a.example b.example
            disable success
            keepttl
        }",
    );
    assert_eq!((full.success.capacity, full.success.ttl_max, full.success.ttl_min), (5000, 30, 10));
    assert_eq!((full.denial.capacity, full.denial.ttl_max, full.denial.ttl_min), (2500, 15, 5));
    assert_eq!(full.denial.disabled, ["a.example", "b.example"]);
    assert_eq!(full.success.disabled, ["."]);
    assert_eq!(full.prefetch.map(|prefetch| (prefetch.amount, prefetch.percentage)), Some((10, 20)));
    let stale = full.stale.unwrap();
    assert_eq!(stale.refresh, Refresh::Before(Some(Duration::from_millis(100))));
    assert_eq!(stale.up_to, Duration::from_mins(30));
    assert!(full.keep_ttl && full.servfail.is_zero());
    let stale = cache("cache {\nserve_stale\n}").stale.unwrap();
    assert_eq!((stale.up_to, stale.refresh), (Duration::from_hours(1), Refresh::After));
}

#[test]
fn options_of_the_other_plugins() {
    let found = block(
        "health :8081 {
            lameduck 7s
        }
        ready 127.0.0.1:8182 {
            monitor continuously
        }
        prometheus
        reload 10s 2s
        hosts /etc/coredns/NodeHosts example.org {
            192.0.2.1 a.example.org b.example.org
            2001:db8::1 a.example.org
            ttl 60
            reload 15s
            no_reverse
            fallthrough
        }
        log a.example b.example \"{name} {common}\" {
            class denial error
        }
        log
        bind 127.0.0.1 eth0 {
            except ::1
        }
        acl example.org {
            allow net 10.0.0.0/8 192.0.2.1 type A AAAA
            filter type ANY
            drop net *
        }",
    );
    let health = found.health.unwrap();
    assert_eq!((health.listen.to_string(), health.lameduck), (":8081".to_owned(), Duration::from_secs(7)));
    let ready = found.ready.unwrap();
    assert_eq!((ready.listen.to_string(), ready.continuously), ("127.0.0.1:8182".to_owned(), true));
    assert_eq!(found.prometheus.unwrap().to_string(), "127.0.0.1:9153");
    let reload = found.reload.unwrap();
    assert_eq!((reload.interval, reload.jitter), (Duration::from_secs(10), Duration::from_secs(2)));
    let hosts = found.hosts.unwrap();
    assert_eq!((&*hosts.file, &*hosts.domains), ("/etc/coredns/NodeHosts", &["example.org".to_owned()][..]));
    assert_eq!(hosts.lines.len(), 2);
    assert_eq!(hosts.lines[0].1, ["a.example.org", "b.example.org"]);
    assert_eq!((hosts.ttl, hosts.reverse), (60, false));
    assert_eq!(hosts.fallthrough, Fallthrough::Everything);
    assert_eq!(found.log[0].domains, ["a.example", "b.example"]);
    assert!(found.log[0].format.starts_with("{name} {remote}:{port}"), "{}", found.log[0].format);
    assert_eq!(found.log[0].classes, [Class::Denial, Class::Error]);
    assert_eq!((&*found.log[1].domains, found.log[1].classes.is_empty()), (&[".".to_owned()][..], true));
    assert_eq!(
        found.bind[0].hosts,
        [Host::Address("127.0.0.1".parse().unwrap()), Host::Interface("eth0".to_owned())]
    );
    assert_eq!(found.bind[0].except, [Host::Address("::1".parse().unwrap())]);
    let [allow, filter, drop] = &*found.acl[0].policies else { panic!("{:?}", found.acl) };
    assert_eq!((allow.action, filter.action, drop.action), (Action::Allow, Action::Filter, Action::Drop));
    assert_eq!(allow.types.as_deref(), Some(&[1, 28][..]));
    assert_eq!(allow.networks.as_ref().unwrap()[1].to_string(), "192.0.2.1/32");
    assert_eq!((&filter.types, &filter.networks), (&Some(vec![255]), &None));
    assert_eq!((&drop.types, &drop.networks), (&None, &None));
}

#[test]
fn snippets_and_files_are_put_in_their_places() {
    let corefile = read(
        "(common) {
            errors
            cache 10 {
                keepttl
            }
        }
        (all) {
            import common
            log
        }
        a {
            import all
            health
        }
        b {
            import common
        }",
    )
    .unwrap();
    let [a, b] = &*corefile.blocks else { panic!("{:?}", corefile.blocks) };
    assert!(
        a.errors
            && a.cache.as_ref().is_some_and(|cache| cache.keep_ttl)
            && a.log.len() == 1
            && a.health.is_some()
    );
    assert!(b.errors && b.cache.is_some() && b.log.is_empty());
    let errors = read(". {\nimport custom/*.override\n}").unwrap_err();
    assert_eq!(errors.0.len(), 1);
    assert!(errors.to_string().starts_with("custom/b.override:2: rewrite: this plugin"), "{errors}");
}

/// Each text has one error, which begins as expected.
fn refused(rows: &[(&str, &str, &str)]) {
    for (name, text, expected) in rows {
        let errors = read(text).map(|corefile| panic!("{name}: {corefile:?}")).unwrap_err();
        assert_eq!(errors.0.len(), 1, "{name}: {errors}");
        assert!(errors.to_string().starts_with(expected), "{name}: {errors}");
    }
}

#[test]
fn text_that_cannot_be_read_is_named_with_its_line() {
    refused(&[
        ("nothing", "# only a comment", "Corefile:1: there is no server block"),
        ("no end", ". {\nlog", "Corefile:2: the file ends where } is expected, for the { in line 1"),
        ("no end of a plugin", ". {\nhealth {\nlameduck 1s", "Corefile:3: the file ends where } is expected"),
        ("too many ends", ". {\n}\n}", "Corefile:3: } stands where"),
        (
            "an end on the line",
            ". {\nhealth {\nlameduck 5s }\n}",
            "Corefile:3: } should be on a line of its own",
        ),
        ("a lonely brace", ". {\n{\n}\n}", "Corefile:2: { has no match"),
        ("no snippet", ". {\nimport nowhere\n}", "Corefile:2: import: nowhere: there is no such file"),
        (
            "imports without end",
            ". {\nimport again\n}",
            "again:1: import: again: what is imported has no end",
        ),
        ("imports that grow", ". {\nimport twice\n}", "twice:1: import: twice: what is imported has no end"),
        ("a snippet twice", "(a) {\n}\n(a) {\n}", "Corefile:3: snippet (a) is there twice"),
        ("a quote", ". {\nlog . \"a\n}", "Corefile:2: a quote (\") has no end"),
        ("a comma", "a, {\n}", "Corefile:1: another zone should follow the comma"),
        ("a port", ".:0 {\n}", "Corefile:1: .:0: 0 is no port"),
        ("no port", ".: {\n}", "Corefile:1: .:: a port should follow"),
        ("a protocol", "tls://. {\n}", "Corefile:1: tls://.: DNS over TLS for clients is not had"),
        ("a domain", "a..b {\n}", "Corefile:1: server block: \"a..b\" is no domain"),
        ("one zone twice", ". {\n}\n.:53 {\n}", "Corefile:3: .:53 is answered for already by Corefile:1"),
        (
            "a plugin twice",
            ". {\ncache\ncache\n}",
            "Corefile:3: cache: is in this server block already, in Corefile:2",
        ),
    ]);
}

#[test]
fn what_is_not_had_is_named_with_its_line_and_a_remedy() {
    refused(&[
        (
            "a plugin that is not had",
            ". {\nrewrite name a b\n}",
            "Corefile:2: rewrite: this plugin, which changes questions",
        ),
        ("a slip", ". {\nkubernets\n}", "Corefile:2: kubernets: no such plugin: did you mean kubernetes?"),
        ("a plugin of someone", ". {\nblocklist\n}", "Corefile:2: blocklist: CoreDNS has no such plugin"),
        ("a small bufsize", ". {\nbufsize 512\n}", "Corefile:2: bufsize: smaller answers"),
        (
            "an option",
            ". {\nhealth {\nlameduk 5s\n}\n}",
            "Corefile:3: health: lameduk: no such option: did you mean lameduck?",
        ),
        (
            "a block in a block",
            ". {\nhealth {\nlameduck 5s {\na\n}\n}\n}",
            "Corefile:3: health: lameduck: no option has a block",
        ),
        ("no zone", ". {\nkubernetes in-addr.arpa\n}", "Corefile:2: kubernetes: has no domain for Services"),
        (
            "the root alone is one",
            ". {\nkubernetes {\nttl 3601\n}\n}",
            "Corefile:3: kubernetes: ttl: \"3601\" is no number from 0 to 3600",
        ),
        (
            "pods",
            "a {\nkubernetes {\npods all\n}\n}",
            "Corefile:3: kubernetes: pods: \"all\": write disabled",
        ),
        (
            "labels",
            "a {\nkubernetes {\nlabels a=b\n}\n}",
            "Corefile:3: kubernetes: labels: objects chosen by labels are not had",
        ),
        (
            "multicluster",
            "a {\nkubernetes {\nmulticluster a\n}\n}",
            "Corefile:3: kubernetes: multicluster: Services of several",
        ),
        ("ignore", "a {\nkubernetes {\nignore\n}\n}", "Corefile:3: kubernetes: ignore: takes empty_service"),
        (
            "both filters",
            "a {\nkubernetes {\nnamespaces a\nnamespace_labels b\n}\n}",
            "Corefile:4: kubernetes: namespace_labels: namespaces and namespace_labels exclude",
        ),
        (
            "zonal",
            "a {\nkubernetes {\nzonal\nnoendpoints\n}\n}",
            "Corefile:3: kubernetes: zonal: needs names of endpoints",
        ),
    ]);
}

#[test]
fn options_that_cannot_be_are_named_with_their_lines() {
    refused(&[
        ("forward", ". {\nforward .\n}", "Corefile:2: forward: takes a domain and servers"),
        (
            "https",
            ". {\nforward . https://192.0.2.1\n}",
            "Corefile:2: forward: https://192.0.2.1: servers are not asked by https",
        ),
        (
            "policy",
            ". {\nforward . 192.0.2.1 {\npolicy best\n}\n}",
            "Corefile:3: forward: policy: \"best\": write random",
        ),
        (
            "a rcode",
            ". {\nforward . 192.0.2.1 {\nfailover NOPE\n}\n}",
            "Corefile:3: forward: failover: \"NOPE\" is no rcode",
        ),
        (
            "a negative duration",
            ". {\nhealth {\nlameduck -5s\n}\n}",
            "Corefile:3: health: lameduck: -5s is negative",
        ),
        (
            "an address",
            ". {\nprometheus 9153\n}",
            "Corefile:2: prometheus: \"9153\" is no address to listen on",
        ),
        ("servfail", ". {\ncache {\nservfail 6m\n}\n}", "Corefile:3: cache: servfail: is at most 5m"),
        ("a TTL of the cache", ". {\ncache 0\n}", "Corefile:2: cache: 0 is no TTL"),
        ("reload", ". {\nreload 1s\n}", "Corefile:2: reload: 1s: the interval is at least 2s"),
        (
            "loadbalance",
            ". {\nloadbalance weighted f\n}",
            "Corefile:2: loadbalance: weights of addresses are not had",
        ),
        ("hosts", ". {\nhosts {\n192.0.2 a\n}\n}", "Corefile:3: hosts: 192.0.2: no such option"),
        ("log", ". {\nlog {\nclass some\n}\n}", "Corefile:3: log: class: \"some\": write success"),
        (
            "records that are made up",
            ". {\ntemplate IN A {\nanswer \"{{.Name}} A 1.2.3.4\"\n}\n}",
            "Corefile:3: template: answer: only response codes of whole domains are had",
        ),
        (
            "a code of EDNS",
            ". {\ntemplate IN A {\nrcode BADVERS\n}\n}",
            "Corefile:3: template: rcode: is no response code without EDNS",
        ),
        ("a class", ". {\ntemplate CH ANY\n}", "Corefile:2: template: CH: only class IN"),
        ("a type", ". {\ntemplate IN AAAAA\n}", "Corefile:2: template: \"AAAAA\" is no type"),
        (
            "autopath of a file",
            ". {\nkubernetes\nautopath a.example /etc/resolv.conf\n}",
            "Corefile:3: autopath: only the search lists of pods are had: write @kubernetes at the end",
        ),
        (
            "autopath without names",
            ". {\nautopath @kubernetes\n}",
            "Corefile:2: autopath: there is no kubernetes in this server block: delete the line",
        ),
        (
            "acl",
            ". {\nacl {\nallow net 10.0.0.0/33\n}\n}",
            "Corefile:3: acl: allow: \"10.0.0.0/33\" is no network",
        ),
    ]);
}

#[test]
fn templates_of_response_codes() {
    let found =
        block("template ANY ANY {\nrcode NXDOMAIN\n}\ntemplate in aaaa Corp.example a.b {\n}").template;
    let domains = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let expected = [
        Template { domains: domains(&["."]), kind: None, rcode: 3 },
        Template { domains: domains(&["corp.example", "a.b"]), kind: Some(28), rcode: 0 },
    ];
    assert_eq!(found, expected);
}

#[test]
fn all_errors_are_found_at_once() {
    let errors = read(". {\nrewrite a\ncache {\nkeepttl 1\nnone\n}\n}\na {\ntemplate\n}").unwrap_err();
    let lines: Vec<usize> = errors.0.iter().map(|problem| problem.place.line).collect();
    assert_eq!(lines, [2, 4, 5, 9]);
}

#[test]
fn what_has_no_effect_is_noticed() {
    for (text, expected) in [
        ("debug", "Corefile:2: debug: has no effect"),
        ("bufsize", "Corefile:2: bufsize: has no effect"),
        ("errors {\nconsolidate 5m \".*\" warning\n}", "Corefile:3: errors: consolidate: has no effect"),
        ("log . {$ABSENT}", "Corefile:2: {$ABSENT}: no such environment variable"),
        ("kubernetes a {\nresyncperiod 5m\n}", "Corefile:3: kubernetes: resyncperiod: has no effect"),
    ] {
        let corefile = read(&format!(". {{\n{text}\n}}"));
        let corefile = match corefile {
            Ok(corefile) => corefile,
            // A variable that is not set leaves an empty word.
            Err(errors) if text.contains('$') => {
                assert!(errors.to_string().contains("\"\" is no domain name"), "{errors}");
                continue;
            }
            Err(errors) => panic!("{text}: {errors}"),
        };
        assert_eq!(corefile.notices.len(), 1, "{text}");
        assert!(corefile.notices[0].to_string().starts_with(expected), "{text}: {}", corefile.notices[0]);
    }
}
