use portolan_service::Family;

use super::parse::one_in;
use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Each rule, as it is written and as iptables-save of both variants (1.8.9) gives it back.
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn rules() -> Vec<(Rule, &'static str, &'static str)> {
    let svc = "KUBE-SVC-AAAA";
    vec![
        (
            Rule::new()
                .comment("a/b:http cluster IP")
                .transport(Protocol::Tcp, Some(80))
                .to(ip("10.0.0.1"))
                .jump(svc),
            "-m comment --comment \"a/b:http cluster IP\" -m tcp -p tcp -d 10.0.0.1 --dport 80 -j KUBE-SVC-AAAA",
            "-d 10.0.0.1/32 -p tcp -m comment --comment \"a/b:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-AAAA",
        ),
        (
            Rule::new().comment("a/b:http").transport(Protocol::Udp, Some(30000)).jump(svc),
            "-m comment --comment a/b:http -m udp -p udp --dport 30000 -j KUBE-SVC-AAAA",
            "-p udp -m comment --comment \"a/b:http\" -m udp --dport 30000 -j KUBE-SVC-AAAA",
        ),
        (
            Rule::new()
                .comment("x")
                .transport(Protocol::Tcp, Some(80))
                .to(ip("10.0.0.1"))
                .with(Match::Source { not: true, network: net("10.244.0.0/16") })
                .jump("KUBE-MARK-MASQ"),
            "-m comment --comment x -m tcp -p tcp -d 10.0.0.1 --dport 80 ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ",
            "! -s 10.244.0.0/16 -d 10.0.0.1/32 -p tcp -m comment --comment x -m tcp --dport 80 -j KUBE-MARK-MASQ",
        ),
        (
            Rule::new().with(Match::Input { not: true, interface: "cbr+".into() }).target(Target::Return),
            "! -i cbr+ -j RETURN",
            "! -i cbr+ -j RETURN",
        ),
        (
            Rule::new().state(States::Established).target(Target::Accept),
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ),
        (
            Rule::new().with(Match::Mark { not: true, value: 0x4000, mask: 0x4000 }).target(Target::Return),
            "-m mark ! --mark 0x00004000/0x00004000 -j RETURN",
            "-m mark ! --mark 0x4000/0x4000 -j RETURN",
        ),
        (
            Rule::new().target(Target::OrMark(0x4000)),
            "-j MARK --or-mark 0x00004000",
            "-j MARK --set-xmark 0x4000/0x4000",
        ),
        (
            Rule::new().target(Target::XorMark(0x4000)),
            "-j MARK --xor-mark 0x00004000",
            "-j MARK --set-xmark 0x4000/0x0",
        ),
        (
            Rule::new().comment("m").target(Target::Masquerade { random_fully: true }),
            "-m comment --comment m -j MASQUERADE --random-fully",
            "-m comment --comment m -j MASQUERADE --random-fully",
        ),
        (
            Rule::new().with(Match::SourceIsLocal).with(Match::DestinationIsLocal).target(Target::Drop),
            "-m addrtype --src-type LOCAL -m addrtype --dst-type LOCAL -j DROP",
            "-m addrtype --src-type LOCAL -m addrtype --dst-type LOCAL -j DROP",
        ),
        (
            Rule::new().with(Match::RecentCheck { name: "KUBE-SEP-B".into(), seconds: 10800 }).jump(svc),
            "-m recent --name KUBE-SEP-B --rcheck --seconds 10800 --reap -j KUBE-SVC-AAAA",
            "-m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-B --mask 255.255.255.255 --rsource -j KUBE-SVC-AAAA",
        ),
        (
            Rule::new()
                .comment("a/b")
                .with(Match::RecentSet("KUBE-SEP-B".into()))
                .transport(Protocol::Tcp, None)
                .target(Target::Dnat("10.1.1.1:80".parse().unwrap())),
            "-m comment --comment a/b -m recent --name KUBE-SEP-B --set -m tcp -p tcp -j DNAT --to-destination 10.1.1.1:80",
            "-p tcp -m comment --comment \"a/b\" -m recent --set --name KUBE-SEP-B --mask 255.255.255.255 --rsource -m tcp -j DNAT --to-destination 10.1.1.1:80",
        ),
        (
            Rule::new().with(Match::OneIn(3)).jump(svc),
            "-m statistic --mode random --probability 0.3333333333 -j KUBE-SVC-AAAA", // spec §14.3
            "-m statistic --mode random --probability 0.33333333349 -j KUBE-SVC-AAAA",
        ),
        (
            Rule::new().with(Match::OneIn(2)).target(Target::Reject),
            "-m statistic --mode random --probability 0.5000000000 -j REJECT",
            "-m statistic --mode random --probability 0.50000000000 -j REJECT --reject-with icmp-port-unreachable",
        ),
        (
            Rule::new().comment("no target"),
            "-m comment --comment \"no target\"",
            "-m comment --comment \"no target\"",
        ),
    ]
}

#[test]
fn rules_are_written_and_read() {
    for (rule, written, saved) in rules() {
        assert_eq!(rule.to_string(), written);
        assert_eq!(Rule::parse(written, Family::V4).as_ref(), Some(&rule), "{written}");
        assert_eq!(Rule::parse(saved, Family::V4).as_ref(), Some(&rule), "{saved}");
    }
}

#[test]
fn rules_of_others_are_not_taken_for_ours() {
    for text in [
        "-p tcp -m multiport --dports 80,443 -j ACCEPT",
        "! -p tcp -j ACCEPT",
        "-p icmp -j ACCEPT",
        "-o eth0 -j MASQUERADE",
        "-j MASQUERADE --to-ports 1024-2048",
        "-m conntrack --ctstate NEW,RELATED -j ACCEPT",
        "-j MARK --set-xmark 0x1/0xff",
        "-m statistic --mode nth --every 3 --packet 0 -j ACCEPT",
        "-m statistic --mode random --probability 0.33333333349 -g CHAIN",
        "-m statistic --mode random --probability 0.30000000000 -j ACCEPT",
        "-d 10.0.0.0/255.0.255.0 -j ACCEPT",
        "-d fd00::1/128 -j ACCEPT",
        "-m comment --comment \"never ends -j ACCEPT",
        "--dport 80 -j ACCEPT",
        "-m recent --update --seconds 1 --name x --rsource -j DROP",
    ] {
        assert_eq!(Rule::parse(text, Family::V4), None, "{text}");
    }
    let (rule, other) = (Rule::new().comment("a").jump("X"), Rule::new().comment("b").jump("X"));
    assert_ne!(rule, other);
    assert_eq!(rule.without_comments(), other.without_comments());
}

#[test]
fn a_line_stays_one_line() {
    let rule = Rule::new().comment("a\n-A INPUT -j DROP \"\\").jump("X");
    let text = rule.to_string();
    assert!(!text.contains('\n'), "{text}");
    assert_eq!(text, "-m comment --comment \"a?-A INPUT -j DROP \\\"\\\\\" -j X");
}

#[test]
fn every_count_is_recognised() {
    for count in (1..2000).chain([4096, 10_000, 46_000]) {
        let kernel = (f64::from(1_u32 << 31)
            * format!("{:.10}", 1.0 / f64::from(count)).parse::<f64>().unwrap())
        .round()
            / f64::from(1_u32 << 31);
        assert_eq!(one_in(&format!("{kernel:.11}")), Some(count), "{count}");
    }
}
