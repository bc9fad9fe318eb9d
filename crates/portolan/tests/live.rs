//! `portolan trace` of live rules: what the kernel does besides them is looked at, in a network
//! namespace of its own.

use std::process::Command;

use serde_json::Value;

/// One Service as kube-proxy's mode nftables writes it, in short.
const RULES: &str = "
table ip kube-proxy {
    map service-ips {
        type ipv4_addr . inet_proto . inet_service : verdict;
        elements = { 10.96.0.1 . tcp . 80 : goto service-ULMVA6XW-shop/web/tcp/http }
    }
    chain service-ULMVA6XW-shop/web/tcp/http {
        meta l4proto tcp dnat to 10.244.1.7:8080;
    }
    chain nat-prerouting {
        type nat hook prerouting priority -100;
        ip daddr . meta l4proto . th dport vmap @service-ips;
    }
}
";

fn run(words: &str) {
    let output = Command::new("sh").args(["-ec", words]).output().expect("a shell");
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
}

fn trace(words: &str) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .arg("trace")
        .args(words.split(' '))
        .args(["-o", "json"])
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Runs the case below in namespaces of its own.
#[test]
fn the_kernel_is_asked() {
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().expect("this test"));
    let output = unshare.args(["inside", "--exact", "--ignored", "--nocapture"]).output().expect("unshare");
    let printed = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

#[test]
#[ignore = "only inside namespaces that are its own: the_kernel_is_asked runs it there"]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn inside() {
    run("ip link set lo up
         ip link add eth0 type veth peer name peer0; ip link add cni0 type veth peer name peer1
         for link in eth0 peer0 cni0 peer1; do ip link set $link up; done
         ip address add 192.168.50.1/24 dev eth0
         for name in all default eth0 cni0; do echo 0 > /proc/sys/net/ipv4/conf/$name/rp_filter; done");
    let from_outside = "--from 192.0.2.1 --in-interface eth0 --to 10.96.0.1:80";
    let to_service = "--from node --to 10.96.0.1:80";
    // What is changed, what is asked, the verdict, the code of the reason, and a part of its text.
    for (change, asked, verdict, code, part) in [
        (
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            from_outside,
            "reject",
            "no-proxy-rules",
            "no rules of any service proxy",
        ),
        (
            &format!("printf '%s' '{RULES}' | nft -f -; echo 0 > /proc/sys/net/ipv4/ip_forward"),
            from_outside,
            "drop",
            "not-forwarding",
            "net.ipv4.ip_forward is 0",
        ),
        (
            "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/conf/eth0/forwarding",
            from_outside,
            "drop",
            "not-forwarding",
            "net.ipv4.conf.eth0.forwarding is 0",
        ),
        (
            "echo 1 > /proc/sys/net/ipv4/conf/eth0/forwarding",
            from_outside,
            "reject",
            "no-route",
            "no route to 10.244.1.7",
        ),
        ("ip address add 10.244.1.1/24 dev cni0", from_outside, "forward", "", ""),
        ("true", to_service, "reject", "no-route", "no route to 10.96.0.1"),
        (
            "echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter",
            from_outside,
            "drop",
            "reverse-path",
            "strict (1)",
        ),
        ("ip route add default via 192.168.50.2", from_outside, "forward", "", ""),
        ("ip route add blackhole 10.244.1.0/28", from_outside, "drop", "no-route", "blackhole"),
        (
            "ip route del blackhole 10.244.1.0/28; ip link set peer1 down",
            from_outside,
            "drop",
            "interface-down",
            "no carrier",
        ),
        (
            "ip link set peer1 up; ip link set eth0 down",
            from_outside,
            "drop",
            "interface-down",
            "eth0 is down",
        ),
        (
            "ip link set eth0 up; ip rule add from 192.0.2.0/24 lookup 100; ip address del 10.244.1.1/24 dev cni0",
            from_outside,
            "forward",
            "",
            "",
        ),
    ] {
        run(change);
        let (out, error) = trace(asked);
        let printed: Value =
            serde_json::from_str(&out).unwrap_or_else(|why| panic!("{change}: {why}: {error}"));
        let reason = |field: &str| printed["reason"][field].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (printed["verdict"].as_str().unwrap_or_default(), &*reason("code")),
            (verdict, code),
            "{change}: {}",
            printed["summary"]
        );
        assert!(reason("text").contains(part), "{change}: {}", printed["summary"]);
    }
    let (_, error) = trace("--from 192.0.2.1 --in-interface eth9 --to 10.96.0.1:80");
    assert!(
        error.contains("--in-interface eth9: this node has no such interface; it has cni0, eth0"),
        "{error}"
    );
}
