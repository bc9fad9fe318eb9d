//! `portolan trace --watch` against the running kernel, in a network namespace of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

/// An address of a Service that is translated to one of the node's, and a port that is dropped.
const RULES: &str = "
table ip proxy {
    chain svc {
        meta l4proto udp dnat to 192.168.50.1:5353;
    }
    chain output {
        type nat hook output priority -100;
        ip daddr 10.96.0.1 udp dport 53 jump svc;
    }
    chain guard {
        type filter hook output priority 0;
        udp dport 99 drop;
    }
}
";

fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Begins to watch, and returns once packets are seen.
fn watch(arguments: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["trace", "--watch", "--for", "20"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("watching;") {
        line.clear();
        assert_ne!(printed.read_line(&mut line).unwrap(), 0, "it ends before it watches");
    }
    (child, printed)
}

/// Runs the case below in namespaces of its own.
#[test]
fn packets_are_watched() {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--net", "--"]).arg(std::env::current_exe().unwrap());
    let output = unshare.args(["inside", "--exact", "--ignored", "--nocapture"]).output().unwrap();
    let printed = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

#[test]
#[ignore = "only inside namespaces that are its own: packets_are_watched runs it there"]
fn inside() {
    run("ip", &["link", "set", "lo", "up"], "");
    run("ip", &["address", "add", "192.168.50.1/32", "dev", "lo"], "");
    run("ip", &["route", "add", "10.96.0.0/16", "dev", "lo"], "");
    run("nft", &["-f", "-"], RULES);
    let client = UdpSocket::bind("192.168.50.1:4000").unwrap();

    let (child, _told) = watch(&["--to", "10.96.0.1", "--protocol", "udp", "--count", "3", "-o", "json"]);
    client.send_to(b"1", "10.96.0.1:53").unwrap();
    // Dropped: the sender learns so at once.
    assert!(client.send_to(b"2", "10.96.0.1:99").is_err());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let packets: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Verdict, source and destination before and after, rules with their chain and number.
    let seen: Vec<String> = packets
        .iter()
        .map(|packet| {
            let rules = packet["steps"].as_array().unwrap().iter().flat_map(|stage| {
                let steps = stage["steps"].as_array().unwrap().iter().filter(|step| step["kind"] == "hit");
                steps.map(|hit| format!(", {} {} {}", stage["hook"], hit["chain"], hit["rule"]))
            });
            let end = |at: &str, key: &str| packet[at][key].as_str().unwrap().to_owned();
            format!(
                "{}: {} to {}{}",
                packet["verdict"].as_str().unwrap(),
                end("packet", "destination"),
                end("result", "destination"),
                rules.collect::<String>().replace('"', "")
            )
        })
        .collect();
    let expected = [
        "forward: 10.96.0.1:53 to 192.168.50.1:5353, output output 1, output svc 1",
        "input: 192.168.50.1:5353 to 192.168.50.1:5353",
        "drop: 10.96.0.1:99 to 10.96.0.1:99, output guard 1",
    ];
    assert_eq!(seen, expected, "{text}");
    assert_eq!(packets[0]["steps"][0]["steps"][0]["verdict"], "jump svc", "{text}");
    assert!(packets[0]["steps"][0]["steps"][0]["text"].as_str().unwrap().contains("10.96.0.1"), "{text}");
    let tables = || run("nft", &["list", "tables"], "");
    assert_eq!(tables(), "table ip proxy\n", "the table is gone after the watch");

    let (mut child, _told) = watch(&[]);
    assert!(tables().contains("portolan-trace-"), "{}", tables());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(tables(), "table ip proxy\n", "the table is gone after SIGKILL");
}
