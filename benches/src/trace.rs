//! `portolan trace --packets`: how long one packet takes among so many Services, against 100
//! Services, and how long the rules take to be read.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_dataplane::{Settings, iptables};
use portolan_service::{Family, Protocol, ServicePlan};

use crate::cluster::{Member, SERVICE_PORT, Shape, members};
use crate::report::{Figure, Line, Required};

/// Services of the baseline.
const FEW: u32 = 100;
/// Tens of thousands of packets a second: no packet may take longer.
const PACKET: Duration = Duration::from_micros(100);

/// Runs the program over rules of mode iptables for each of `shapes`, with one packet and with
/// `packets` more.
pub(crate) fn bench(program: &Path, shapes: &[Shape], packets: u32) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for shape in shapes {
        let few = measure(program, Shape { services: FEW, ..*shape }, packets)?;
        let many = measure(program, *shape, packets)?;
        lines.push(
            Line::new("trace", shape, "one packet", Figure::time(many.packet))
                .against("100 Services", Figure::time(few.packet))
                .required(Required::AtMost(Figure::time(PACKET))),
        );
        lines.push(Line::new("trace", shape, "reading the rules", Figure::time(many.read)));
    }
    Ok(lines)
}

struct TraceTimings {
    read: Duration,
    packet: Duration,
}

fn measure(program: &Path, shape: Shape, packets: u32) -> anyhow::Result<TraceTimings> {
    let folder = tempfile::tempdir().context("creating a temporary folder")?;
    let members: Vec<Member> = members(shape, Protocol::Tcp).collect();
    let plans: Vec<ServicePlan> = members.iter().map(Member::plan).collect();
    let plans: Vec<&ServicePlan> = plans.iter().collect();
    let rules = folder.path().join("rules");
    std::fs::write(
        &rules,
        iptables::rules(&Settings::default(), &iptables::Options::default(), Family::V4, &plans),
    )?;
    let ask = |count: u32| -> anyhow::Result<Duration> {
        let mut text = String::new();
        for number in 0..count {
            // A Service after another, far apart.
            let member = &members[(number * 7919 % shape.services) as usize];
            writeln!(
                text,
                r#"{{"from":"outside","to":"{}:{SERVICE_PORT}","expect":{{"verdict":"forward"}}}}"#,
                member.cluster_ip()
            )?;
        }
        let file = folder.path().join("packets");
        std::fs::write(&file, text)?;
        let began = Instant::now();
        let status = Command::new(program)
            .arg("trace")
            .arg("--iptables-save")
            .arg(&rules)
            .arg("--packets")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .context("starting the program")?;
        ensure!(status.success(), "{shape}: {status}: some packets were not forwarded");
        Ok(began.elapsed())
    };
    ask(1)?;
    let read = ask(1)?;
    Ok(TraceTimings { read, packet: ask(packets + 1)?.saturating_sub(read) / packets })
}
